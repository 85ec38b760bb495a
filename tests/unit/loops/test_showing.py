"""How the farm stands becomes metrics, and what is gone is shown no more."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from farm.core.budget import Purse, TeamPurse
from farm.core.errors import StoreDown
from farm.core.evidence import Verdict
from farm.core.fairshare import TeamShare
from farm.core.ids import CampaignId, Epoch, Fence, RendererName, Session, ShardId, TeamId
from farm.core.lease import Leadership
from farm.core.oversee import FleetSize, Oversight, Scale
from farm.core.placement import Backlog, Head, Loading, Queue, Rules
from farm.core.plan import Held
from farm.core.records import SpentRow
from farm.core.scaling import FleetSpec
from farm.loops.counting import count_gpu
from farm.loops.lead import Lead
from farm.loops.looking import Looked
from farm.loops.mate import Mate, Wear
from farm.loops.showing import FORGET_AFTER, Showing, Sight
from farm.telemetry import SchedulerMetrics
from schemas.campaign import Budget, CampaignState
from schemas.order import Lane
from schemas.report import CacheCounts, Collected, Device, GpuTime, Hello, Warm

if TYPE_CHECKING:
    from farm.ports import SchedulerStore

NAME = "farm/spot/1/0"
ACME, ZEBRA = TeamId(1), TeamId(2)
FIRST, SECOND = CampaignId(11), CampaignId(12)
FLEETS = [FleetSpec("spot", "farm/spot/1/", 0, 8, gpu="H100"), FleetSpec("own", "farm/own/1/", 1, 2)]


def shard(number: int, team: TeamId = ACME, campaign: CampaignId = FIRST, session: str = "s", **more: Any) -> Held:
    return Held(
        shard=ShardId(number),
        session=Session(session),
        fence=Fence("f"),
        age=1.0,
        expired=False,
        ended=False,
        cancelled=False,
        engine_key="e",
        checkpoint="c",
        gpu_seconds=30.0,
        team=team,
        campaign=campaign,
        lane=Lane.BULK,
        renders=20,
        **more,
    )


def queue(team: TeamId, campaign: CampaignId, *waited: float, off_peak: bool = False) -> Queue:
    heads = tuple(Head(ShardId(campaign * 100 + n), 30.0, seconds) for n, seconds in enumerate(waited))
    return Queue(team, campaign, "e", "c", Lane.BULK, 50, 0.0, heads, off_peak=off_peak)


def purse(campaign: CampaignId, team: TeamId, *warnings: str) -> Purse:
    return Purse(campaign, team, CampaignState.ACTIVE, None, Lane.BULK, 50, 0.0, SpentRow(), warnings=warnings)


LOOKED = Looked(
    now=datetime(2026, 11, 24, tzinfo=UTC),
    queues=[queue(ACME, FIRST, 90.0, 100.0), queue(ZEBRA, SECOND, 7.0)],
    backlog={
        (FIRST, "e"): Backlog(10, 200, 300.0),
        (FIRST, "g"): Backlog(1, 5, 6.0),
        (SECOND, "e"): Backlog(2, 40, 60.0),
    },
    held_back={},
    held=[shard(1), shard(2), shard(3, session="t"), shard(4, ZEBRA, SECOND, session="t")],
    teams=[TeamShare(ACME, 2.0, 0.0, True, None, None), TeamShare(ZEBRA, 1.0, 0.0, True, None, None)],
    purses=[
        purse(FIRST, ACME, "deadline_at_risk", "budget_near"),
        purse(SECOND, ZEBRA, "budget_spent", "team_budget_near"),
    ],
    team_purses=[TeamPurse(ZEBRA, Budget(gpu_seconds=100.0, money=50.0), SpentRow(20.0, 45.0))],
    accusations=(),
    quarantined=(),
    speeds={},
    load_costs=(),
    prices={"H100": 2.5, "*": 1.0},
    names={ACME: "acme", ZEBRA: "zebra"},
    campaigns={CampaignState.ACTIVE: 2, CampaignState.PAUSED: 3},
    database_bytes=4096,
)
OVERSIGHT = Oversight(
    decisions=(),
    rules=Rules(Loading({}, {})),
    verdict=Verdict((), frozenset(), frozenset(), frozenset()),
    finish={},
    wake=(),
    retire=(),
    fleets={"spot": FleetSize(5, 8), "own": FleetSize(1, 2)},
    off_peak=True,
)
DEVICE = Device(
    uuid="GPU-1",
    utilisation=0.5,
    memory_used_bytes=10,
    memory_total_bytes=80,
    power_watts=300.0,
    power_limit_watts=700.0,
    temperature_celsius=60.0,
    throttled=("power", "hardware"),
)


def mate(name: str = NAME, *, node: str = "n", gpu: str = "H100", device: Device | None = DEVICE) -> Mate:
    found = Mate(RendererName(name))
    said = Hello(name=name, session="s", node=node, pid=1, gpu=gpu, numerics="m", epoch=1, holds=())
    found.greet(said)
    if device is not None:
        warm, cache = Warm(), CacheCounts()
        found.hear(
            Collected(session="s", reports=(), holds=(), waiting=0, busy="", warm=warm, cache=cache, device=device)
        )
    return found


def sight(*mates: Mate, looked: Looked = LOOKED, now: float = 0.0, **changes: Any) -> Sight:
    oversight = replace(OVERSIGHT, **changes)
    return Sight(looked, oversight, Scale(FLEETS, 600.0, 300.0), mates, nodes_draining=1, now=now)


class Shows:
    """A leader's metrics."""

    def __init__(self) -> None:
        self.metrics = SchedulerMetrics()
        self.showing = Showing(self.metrics, ["spot", "own"])
        self.metrics.lead(1)

    def show(self, *mates: Mate, **sees: Any) -> None:
        self.showing.show(sight(*mates, **sees))

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """Every series of a metric, by the values of its labels in the order of their names."""
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name
        }


@pytest.fixture
def shows() -> Shows:
    return Shows()


# GPUs


def test_a_gpu_is_shown_as_its_renderer_says(shows: Shows) -> None:
    shows.show(mate())
    figures = {
        "utilisation_ratio": 0.5,
        "memory_used_bytes": 10,
        "memory_total_bytes": 80,
        "power_watts": 300,
        "power_limit_watts": 700,
        "temperature_celsius": 60,
    }
    assert {name: shows.all(f"farm_gpu_{name}") for name in figures} == {
        name: {(NAME,): value} for name, value in figures.items()
    }
    assert shows.all("farm_gpu_throttled") == {("power", NAME): 1, ("thermal", NAME): 0, ("hardware", NAME): 1}
    assert shows.all("farm_renderer_info") == {("spot", "H100", "n", NAME): 1}


def test_what_a_renderer_cannot_tell_has_no_series(shows: Shows) -> None:
    shows.show(mate(device=Device(utilisation=0.25)))
    assert shows.all("farm_gpu_utilisation_ratio") == {(NAME,): 0.25}
    for name in ("farm_gpu_power_watts", "farm_gpu_memory_used_bytes", "farm_gpu_throttled"):
        assert shows.all(name) == {}, name


def test_the_series_of_a_renderer_end_with_it_and_while_it_does_not_answer(shows: Shows) -> None:
    other = mate("farm/own/1/0")
    shows.show(mate(), other)
    assert len(shows.all("farm_gpu_power_watts")) == 2
    other.silent = True
    shows.show(mate(), other)
    assert shows.all("farm_gpu_power_watts") == {(NAME,): 300}
    assert len(shows.all("farm_renderer_info")) == 2
    shows.show()
    assert shows.all("farm_renderer_info") == shows.all("farm_gpu_throttled") == {}


def test_a_renderer_that_starts_again_elsewhere_is_not_shown_in_two_places(shows: Shows) -> None:
    shows.show(mate())
    shows.show(mate(node="m"))
    assert shows.all("farm_renderer_info") == {("spot", "H100", "m", NAME): 1}


def test_counts_of_a_renderer_that_is_gone_stay_long_enough_to_be_read(shows: Shows) -> None:
    count_gpu(shows.metrics, NAME, GpuTime(denoise=2.0, passes=1), Wear(5.0, 1, 0))
    shows.show(mate(), now=100.0)
    shows.show(now=100.0 + FORGET_AFTER)
    assert shows.all("farm_renderer_gpu_seconds_total")["denoise", NAME] == 2.0
    shows.show(now=101.0 + FORGET_AFTER)
    for name in ("farm_renderer_gpu_seconds_total", "farm_renderer_passes_total", "farm_gpu_energy_joules_total"):
        assert shows.all(name) == {}, name


# fleets


def test_renderers_are_counted_by_fleet_and_state_and_no_state_is_left_out(shows: Shows) -> None:
    closed, leaving, gone = mate(), mate("farm/spot/1/1"), mate("farm/former/1/0")
    leaving.draining = True
    shut = Verdict((), frozenset(), frozenset({closed.name}), frozenset())
    shows.show(closed, leaving, gone, Mate(RendererName("farm/own/1/0")), verdict=shut)
    states = ("starting", "idle", "busy", "draining", "quarantined")
    there = {("spot", "quarantined"), ("spot", "draining"), ("former", "idle"), ("own", "starting")}
    assert shows.all("farm_renderers") == {
        (fleet, state): (fleet, state) in there for fleet in ("spot", "own", "former") for state in states
    }


def test_fleets_have_what_is_wanted_the_most_and_a_price_where_it_is_known(shows: Shows) -> None:
    shows.show()
    assert shows.all("farm_renderers_wanted") == {("spot",): 5, ("own",): 1}
    assert shows.all("farm_renderers_most") == {("spot",): 8, ("own",): 2}
    assert shows.all("farm_renderer_price_per_hour") == {("spot",): 2.5}, "nobody knows what GPU the other has"
    assert shows.all("farm_nodes_draining") == {(): 1}
    shows.show(looked=replace(LOOKED, prices={"A100": 1.0}))
    assert shows.all("farm_renderer_price_per_hour") == {}


def test_it_is_shown_how_long_a_fleet_waits_for_a_node(shows: Shows) -> None:
    first, second = Mate(RendererName("farm/own/1/0")), Mate(RendererName("farm/own/1/1"))
    for waiting, since in ((first, 10.0), (second, 40.0)):
        waiting.seen(since)
    shows.show(first, second, mate(), now=100.0)
    assert shows.all("farm_renderer_starting_seconds") == {("own",): 90.0, ("spot",): 0.0}


def test_goings_of_each_fleet_begin_at_zero(shows: Shows) -> None:
    assert set(shows.all("farm_renderer_drains_total").values()) == {0.0}
    assert len(shows.all("farm_renderer_drains_total")) == len(shows.all("farm_renderer_losses_total")) == 6


# teams and their work


def test_teams_are_shown_by_name_with_what_they_have_and_wait_for(shows: Shows) -> None:
    shows.show()
    assert shows.all("farm_team_weight") == {("acme",): 2.0, ("zebra",): 1.0}
    assert shows.all("farm_team_renderers") == {("acme",): 2, ("zebra",): 1}, "two shards of one renderer are one"
    assert shows.all("farm_team_queue_renders") == {("acme",): 205, ("zebra",): 40}
    assert shows.all("farm_team_queue_gpu_seconds") == {("acme",): 306.0, ("zebra",): 60.0}
    assert shows.all("farm_team_oldest_wait_seconds") == {("acme",): 100.0, ("zebra",): 7.0}
    assert shows.all("farm_team_budget_used_ratio") == {("zebra",): 0.9}
    assert shows.all("farm_team_renders_total")["failed", "acme"] == 0.0
    assert shows.all("farm_charged_money_total") == {
        (fleet, team): 0.0 for team in ("acme", "zebra") for fleet in ("spot", "own")
    }


def test_a_team_that_has_nothing_any_more_is_not_shown(shows: Shows) -> None:
    shows.show()
    shows.show(looked=replace(LOOKED, queues=[], backlog={}, held=[], teams=LOOKED.teams[1:], purses=[]))
    assert shows.all("farm_team_weight") == {("zebra",): 1.0}
    assert shows.all("farm_team_queue_renders") == {("zebra",): 0}
    assert shows.all("farm_team_oldest_wait_seconds") == {("zebra",): 0.0}


@pytest.mark.parametrize(("off_peak", "waits"), [(True, 900.0), (False, 0.0)])
def test_who_waits_for_other_hours_does_not_wait_for_a_renderer(shows: Shows, off_peak: bool, waits: float) -> None:
    later = replace(LOOKED, queues=[queue(ACME, FIRST, 900.0, off_peak=True)])
    shows.show(looked=later, off_peak=off_peak)
    assert shows.all("farm_team_oldest_wait_seconds")["acme",] == waits


def test_the_queue_and_the_campaigns_are_shown(shows: Shows) -> None:
    shows.show()
    assert shows.all("farm_queue_renders") == {("ready",): 245, ("leased",): 80}
    assert shows.all("farm_queue_gpu_seconds") == {("ready",): 366.0, ("leased",): 120.0}
    assert shows.all("farm_campaigns") == {
        ("active",): 2,
        ("proofing",): 0,
        ("awaiting_approval",): 0,
        ("paused",): 3,
    }
    assert shows.all("farm_campaigns_deadline_at_risk") == {(): 1}
    assert shows.all("farm_campaigns_budget_near") == {(): 2}
    assert shows.all("farm_database_bytes") == {(): 4096}


# leading


def test_one_that_stands_by_shows_nothing_of_the_farm_and_keeps_its_counts(shows: Shows) -> None:
    count_gpu(shows.metrics, NAME, GpuTime(denoise=2.0), Wear())
    shows.show(mate())
    shows.metrics.step_down()
    for name in ("farm_renderer_info", "farm_gpu_power_watts", "farm_renderers", "farm_team_weight", "farm_campaigns"):
        assert shows.all(name) == {}, name
    assert shows.all("farm_renderer_gpu_seconds_total")["denoise", NAME] == 2.0
    assert shows.all("farm_scheduler_leading") == {(): 0}


def test_one_that_cannot_renew_shows_nothing_once_another_may_lead(shows: Shows) -> None:
    """It may hang in a call, or be cut off from the database while the other is not: both would be counted."""
    now, down = 100.0, False

    class Store:
        def elect(self, holder: str, _: object) -> Leadership:
            return Leadership(holder, Epoch(4))

        def renew(self, *_: object) -> bool:
            if down:
                raise StoreDown("no")
            return True

    shows.metrics.step_down()
    store, ttl = cast("SchedulerStore", Store()), timedelta(seconds=15)
    lead = Lead(holder="h", store=store, ttl=ttl, metrics=shows.metrics, monotonic=lambda: now)
    lead.keep()
    shows.show(mate())
    for moment in (110.0, 120.0, 124.0):
        now = moment
        lead.keep()
        assert shows.all("farm_scheduler_leading") == {(): 1}
        assert shows.all("farm_renderer_info") != {}
    down, now = True, 134.9
    with pytest.raises(StoreDown):
        lead.keep()
    assert shows.all("farm_scheduler_leading") == {(): 1}
    now = 135.0
    assert shows.all("farm_scheduler_leading") == {(): 0}
    assert shows.all("farm_renderer_info") == {}
    down = False
    lead.keep()
    assert shows.all("farm_renderer_info") != {}, "nobody had taken over"


def test_one_that_leads_again_shows_nothing_of_before(shows: Shows) -> None:
    shows.show(mate())
    shows.metrics.step_down()
    shows.showing.forget()
    shows.metrics.lead(3)
    for name in ("farm_renderer_info", "farm_gpu_power_watts", "farm_renderers", "farm_team_weight", "farm_campaigns"):
        assert shows.all(name) == {}, name
    shows.show(mate("farm/own/1/0"))
    assert shows.all("farm_gpu_power_watts") == {("farm/own/1/0",): 300}


def test_every_metric_that_only_a_leader_knows_is_shown(shows: Shows) -> None:
    """Whoever declares one must show it, or a panel stays empty."""
    shows.show(mate())
    empty = [family.name for family in shows.metrics.view.collect() if not family.samples]
    assert empty == []


def test_when_a_look_for_garbage_ended_is_unknown_before_the_first(shows: Shows) -> None:
    assert shows.all("farm_garbage_last_success_timestamp_seconds") == {}
    for at in (5.0, 6.0):
        shows.metrics.upkeep.cleaned(at)
        assert shows.all("farm_garbage_last_success_timestamp_seconds") == {(): at}
