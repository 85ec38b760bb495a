"""Which shard goes to which renderer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from farm.core.fairshare import Shares, TeamShare
from farm.core.ids import CampaignId, RendererName, Session, ShardId, TeamId
from farm.core.placement import (
    LEEWAY_SECONDS,
    PREFETCH_SECONDS,
    SLOTS,
    Backlog,
    Free,
    Head,
    Loading,
    Placement,
    Queue,
    Rules,
    place,
)
from farm.core.queues import PATIENCE
from schemas.order import Lane

LOADING = Loading({}, {})
RULES = Rules(LOADING)


def head(shard: int, **changes: Any) -> Head:
    return replace(Head(ShardId(shard), 30.0, 0.0), **changes)


def queue(*shards: int | Head, campaign: int = 1, key: str = "a", **changes: Any) -> Queue:
    heads = tuple(one if isinstance(one, Head) else head(one) for one in shards)
    made = Queue(TeamId(1), CampaignId(campaign), key, "c", Lane.BULK, 50, float(campaign), heads)
    return replace(made, **changes)


def free(name: str, key: str = "", **changes: Any) -> Free:
    return replace(Free(RendererName(name), Session(f"s-{name}"), 0, key, "c"), **changes)


def placing(
    queues: Sequence[Queue],
    renderers: Sequence[Free],
    *,
    shares: Shares | None = None,
    rules: Rules = RULES,
    backlog: dict[tuple[CampaignId, str], Backlog] | None = None,
) -> Placement:
    warm = Counter(renderer.engine_key for renderer in renderers)
    return place(queues, renderers, shares or Shares([]), rules, backlog=backlog or {}, warm=warm)


def pairs(found: Placement) -> list[tuple[int, str]]:
    return [(p.shard, p.name) for p in found.placed]


# within a team


def test_a_renderer_gets_what_it_is_warm_for() -> None:
    found = placing([queue(1, key="a"), queue(2, key="b")], [free("x", "b"), free("y", "a")])
    assert sorted(pairs(found)) == [(1, "y"), (2, "x")]


def test_another_lora_is_nearer_than_another_checkpoint() -> None:
    warm = free("x", "a")
    assert LOADING.seconds(warm, "a", "c") == 0
    assert LOADING.seconds(warm, "b", "c") == LOADING.lora_default
    assert LOADING.seconds(warm, "b", "d") == LOADING.checkpoint_default
    far, near = queue(1, key="b", checkpoint="d"), queue(2, key="e")
    assert pairs(placing([far, near], [warm])) == [(2, "x")]


def test_a_cold_renderer_takes_the_weights_whose_queue_would_last_longest() -> None:
    """So a LoRA in demand spreads over more renderers, and a short queue does not cost a load of its own."""
    short, long = queue(1, key="a"), queue(2, 3, 4, key="b")
    assert pairs(placing([short, long], [free("x"), free("y")]))[0] == (2, "x")
    served = placing([short, long], [free("x", "b", held=1, left=99.0), free("y", "b", held=1, left=99.0), free("z")])
    assert pairs(served) == [(1, "z")]  # 30 s for one more beside 90 s for three


def test_the_first_campaign_goes_first_and_warmth_overtakes_it_only_so_far() -> None:
    bound = PATIENCE * LOADING.checkpoint_default
    warm = free("x", "b", checkpoint="d")
    for later, taken in ((bound - 1, 2), (bound + 1, 1)):
        first, second = queue(1, position=100.0), queue(2, campaign=2, key="b", checkpoint="d", position=100.0 + later)
        assert pairs(placing([first, second], [warm]))[0] == (taken, "x")


def test_higher_priority_goes_first_however_cold_and_young() -> None:
    old, high = queue(1, key="a"), queue(2, campaign=2, key="b", checkpoint="d", priority=51)
    assert pairs(placing([old, high], [free("x", "a")])) == [(2, "x")]


def test_a_campaign_whose_deadline_is_at_risk_goes_before_higher_priority() -> None:
    high, late = queue(1, priority=90), queue(2, campaign=2)
    assert pairs(placing([high, late], [free("x")], rules=replace(RULES, urgent={CampaignId(2): 0}))) == [(2, "x")]


def test_off_peak_campaigns_wait_for_their_hours() -> None:
    asleep = queue(1, off_peak=True)
    assert placing([asleep], [free("x")], rules=replace(RULES, off_peak=False)).placed == []
    assert len(placing([asleep], [free("x")]).placed) == 1


def test_a_pinned_campaign_takes_only_its_type_of_gpu() -> None:
    pinned = queue(1, gpu="H100")
    assert placing([pinned], [free("x", gpu="L4")]).placed == []
    assert pairs(placing([pinned], [free("x", gpu="L4"), free("y", gpu="H100")])) == [(1, "y")]


def test_nothing_starts_for_which_there_is_no_money() -> None:
    two = queue(head(1), head(2))
    spent = replace(RULES, room={CampaignId(1): 0.0})
    assert placing([two], [free("x"), free("y")], rules=spent).placed == []
    one_more = replace(RULES, room={CampaignId(1): 1.0})
    assert len(placing([two], [free("x"), free("y")], rules=one_more).placed) == 1
    team = replace(RULES, team_room={TeamId(1): 1.0})
    assert len(placing([two], [free("x"), free("y")], rules=team).placed) == 1


def test_a_shard_that_is_said_to_take_no_time_is_placed_all_the_same() -> None:
    assert len(placing([queue(head(1, seconds=0.0))], [free("x")]).placed) == 1


# renderers


def test_idle_renderers_come_before_those_that_would_only_prefetch() -> None:
    found = placing([queue(1, 2)], [free("a", held=1), free("b"), free("c")])
    assert sorted(pairs(found)) == [(1, "b"), (2, "c")]


def test_the_next_shard_is_bound_to_a_renderer_only_when_it_is_nearly_through() -> None:
    for left, taken in ((PREFETCH_SECONDS - 1, 1), (PREFETCH_SECONDS + 1, 0)):
        assert len(placing([queue(1)], [free("x", held=1, left=left)]).placed) == taken


def test_the_second_shard_is_chosen_for_what_the_first_leaves_warm() -> None:
    queues = [queue(head(1, seconds=1.0), key="a"), queue(head(2, seconds=1.0), head(3, seconds=1.0), key="b")]
    assert pairs(placing(queues, [free("x", "a")])) == [(1, "x"), (2, "x")]
    assert pairs(placing(queues, [free("x")])) == [(2, "x"), (3, "x")]


def test_a_full_renderer_gets_nothing() -> None:
    assert placing([queue(1)], [free("x", held=SLOTS)]).placed == []
    assert placing([], [free("x")]).idle == (RendererName("x"),)


def test_a_shard_goes_elsewhere_than_where_it_failed_as_long_as_there_is_an_elsewhere() -> None:
    failed = queue(head(1, avoid=("x",)))
    assert pairs(placing([failed], [free("x"), free("y")])) == [(1, "y")]
    assert pairs(placing([failed], [free("x"), free("y", held=SLOTS, left=99.0)])) == []  # y will be free some time
    assert pairs(placing([failed], [free("x")])) == [(1, "x")]


def test_a_renderer_that_cannot_take_a_shard_at_all_is_no_elsewhere() -> None:
    failed = queue(head(1, avoid=("x",)), gpu="H100")
    assert pairs(placing([failed], [free("x", gpu="H100"), free("y", gpu="L4")])) == [(1, "x")]


def test_one_that_avoids_a_renderer_does_not_hold_up_those_behind_it() -> None:
    found = placing([queue(head(1, avoid=("x",)), head(2))], [free("x"), free("y", held=SLOTS, left=99.0)])
    assert pairs(found) == [(2, "x")]


def test_faster_renderers_are_filled_first_and_keep_the_last_shard_from_slow_ones() -> None:
    speeds = replace(RULES, speeds={"H100": 4.0, "L4": 0.5})
    slow, fast = free("a", gpu="L4", speed=0.5), free("b", gpu="H100", speed=4.0)
    assert pairs(placing([queue(1)], [slow, fast], rules=speeds)) == [(1, "b")]
    busy = replace(fast, held=1, left=20.0)  # 20 s and 7.5 s are less than 60 s
    assert placing([queue(1)], [slow, busy], rules=speeds).placed == []
    assert len(placing([queue(1)], [slow, replace(busy, left=70.0)], rules=speeds).placed) == 1


def test_a_shard_that_takes_renderers_down_travels_alone() -> None:
    deadly = queue(head(1, alone=True, seconds=1.0), head(2, seconds=1.0))
    assert pairs(placing([deadly], [free("x", held=1)])) == []  # one that is not alone there proves nothing
    assert pairs(placing([deadly], [free("x")])) == [(1, "x")]
    assert placing([queue(2)], [free("x", held=1, reserved=True)]).placed == []
    assert placing([queue(2, lane=Lane.INTERACTIVE)], [free("x", held=1, reserved=True)]).placed == []


def test_one_that_travels_alone_holds_up_neither_those_behind_it_nor_is_itself_put_off_for_ever() -> None:
    heads = (head(1, alone=True, seconds=1.0), *(head(n, seconds=1.0) for n in range(2, 9)))
    busy = [free("x", held=1, left=1.0), free("y", held=1, left=2.0)]
    assert pairs(placing([queue(*heads)], busy)) == [(2, "y")], "x is kept free"
    assert pairs(placing([queue(*heads)], [replace(busy[0], held=0, left=0.0), busy[1]])) == [(1, "x"), (2, "y")]


def test_a_slow_renderer_leaves_a_shard_only_to_one_that_may_take_it() -> None:
    speeds = replace(RULES, speeds={"H100": 4.0, "L4": 0.5})
    slow, fast = free("a", gpu="L4", speed=0.5), free("b", gpu="H100", speed=4.0, held=1, left=20.0)
    for pinned in (queue(1, gpu="L4"), queue(head(1, avoid=("b",)))):
        assert pairs(placing([pinned], [slow, fast], rules=speeds)) == [(1, "a")]
    assert pairs(placing([queue(1)], [slow, replace(fast, reserved=True)], rules=speeds)) == [(1, "a")]
    burst = Shares([team(1, burst=1)])
    assert pairs(placing([queue(1)], [slow, fast], rules=speeds, shares=burst)) == []
    burst.lease(TeamId(1), Session("s-a"), 0.0)
    assert pairs(placing([queue(1)], [slow, fast], rules=speeds, shares=burst)) == [(1, "a")]


def test_a_probe_gets_one_shard() -> None:
    assert len(placing([queue(head(1, seconds=1), head(2, seconds=1))], [free("x", probe=True)]).placed) == 1


# lanes


def test_interactive_goes_ahead_and_beside_what_the_renderer_has() -> None:
    proof = queue(9, campaign=2, lane=Lane.INTERACTIVE, key="z", checkpoint="other")
    busy = free("x", "a", held=SLOTS, left=500.0)
    assert pairs(placing([queue(1), proof], [busy])) == [(9, "x")]
    assert placing([proof], [replace(busy, interactive=1)]).placed == []


def test_interactive_goes_to_whoever_can_begin_soonest() -> None:
    proof = queue(9, lane=Lane.INTERACTIVE, key="z")
    cold, warm, busy = free("a", checkpoint="d"), free("b", "z", held=1), free("c", "z", held=0)
    assert pairs(placing([proof], [cold, warm, busy])) == [(9, "c")]
    assert pairs(placing([proof], [cold, warm])) == [(9, "b")]


# between teams


def team(number: int, vtime: float = 0.0, **changes: Any) -> TeamShare:
    return replace(TeamShare(TeamId(number), vtime=vtime), **changes)


def test_the_team_that_had_least_goes_first() -> None:
    queues = [queue(1, team=TeamId(1)), queue(2, campaign=2, team=TeamId(2))]
    assert pairs(placing(queues, [free("x")], shares=Shares([team(1, 50.0), team(2, 10.0)]))) == [(2, "x")]
    assert pairs(placing(queues, [free("x")], shares=Shares([team(1, 5.0), team(2, 10.0)]))) == [(1, "x")]


def test_what_is_under_way_counts_as_had() -> None:
    shares = Shares([team(1), team(2, 10.0)])
    shares.lease(TeamId(1), Session("elsewhere"), 600.0)
    queues = [queue(1, team=TeamId(1)), queue(2, campaign=2, team=TeamId(2))]
    assert pairs(placing(queues, [free("x")], shares=shares)) == [(2, "x")]


def test_weights_share_renderers_in_proportion() -> None:
    shares = Shares([team(1, weight=3.0), team(2)])
    ones, twos = (queue(*range(n * 100, n * 100 + 40), campaign=n, team=TeamId(n)) for n in (1, 2))
    found = placing([ones, twos], [free(f"r{n:02}") for n in range(40)], shares=shares)
    assert Counter(p.shard // 100 for p in found.placed) == {1: 30, 2: 10}


def test_a_renderer_stays_warm_for_a_team_that_is_a_little_ahead_but_not_when_another_has_nothing() -> None:
    queues = [queue(1, team=TeamId(1), key="a"), queue(2, campaign=2, team=TeamId(2), key="b")]
    for ahead, taken in ((LEEWAY_SECONDS - 1, 1), (LEEWAY_SECONDS + 1, 2)):
        shares = Shares([team(1, ahead), team(2)])
        shares.lease(TeamId(2), Session("elsewhere"), 0.0)
        assert pairs(placing(queues, [free("x", "a")], shares=shares)) == [(taken, "x")]
    assert pairs(placing(queues, [free("x", "a")], shares=Shares([team(1, 1.0), team(2)]))) == [(2, "x")]


def test_a_quota_holds_while_others_wait_and_a_burst_always() -> None:
    renderers = [free(f"r{n}") for n in range(6)]
    mine = queue(*range(1, 9), team=TeamId(1))
    other = queue(*range(101, 109), campaign=2, team=TeamId(2))
    shares = [team(1, quota=2, burst=4), team(2, 1e6)]
    both = placing([mine, other], renderers, shares=Shares(shares))
    assert Counter(p.shard > 100 for p in both.placed) == {False: 2, True: 4}
    alone = placing([mine], renderers, shares=Shares(shares))
    assert len({p.name for p in alone.placed}) == 4


def test_teams_that_got_nothing_and_renderers_that_have_nothing_are_named() -> None:
    full = [free("x", held=SLOTS, left=99.0)]
    assert placing([queue(1)], full).left_out == {TeamId(1): {"x"}}
    assert placing([queue(1)], [free("x")]).left_out == {}
    assert placing([queue(1, gpu="H100")], full).left_out == {}, "nobody could take it"
    assert placing([], [free("x"), free("y", held=1)]).idle == (RendererName("x"),)


# whatever comes


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Queue], list[Free], list[TeamShare]]:
    numbers = iter(range(1, 1000))
    queues = [
        queue(
            *(
                head(next(numbers), seconds=draw(st.sampled_from([1.0, 30.0])), avoid=draw(AVOID))
                for _ in range(draw(st.integers(1, 5)))
            ),
            campaign=campaign,
            key=key,
            team=TeamId(campaign % 3),
            checkpoint=draw(st.sampled_from("cd")),
            priority=draw(st.sampled_from([0, 50])),
            lane=draw(st.sampled_from(Lane)),
            gpu=draw(st.sampled_from([None, None, "H100"])),
        )
        for campaign, key in draw(st.lists(st.tuples(st.integers(1, 6), st.sampled_from("ab")), unique=True))
    ]
    renderers = [
        free(
            name,
            draw(st.sampled_from(["", "a", "b"])),
            held=draw(st.integers(0, SLOTS)),
            interactive=draw(st.integers(0, 1)),
            left=draw(st.sampled_from([0.0, 5.0, 60.0])),
            gpu=draw(st.sampled_from(["H100", "L4"])),
        )
        for name in draw(st.lists(st.sampled_from("uvwxyz"), unique=True))
    ]
    shares = [team(n, draw(st.sampled_from([0.0, 100.0])), quota=draw(st.sampled_from([None, 1]))) for n in range(3)]
    return queues, renderers, shares


AVOID = st.sampled_from([(), (), (), ("u",), ("u", "v")])


@given(worlds())
def test_no_shard_twice_no_slot_twice_no_pin_broken(world: tuple[list[Queue], list[Free], list[TeamShare]]) -> None:
    queues, renderers, shares = world
    found = placing(queues, renderers, shares=Shares(shares)).placed
    assert len({p.shard for p in found}) == len(found)
    owner = {one.shard: (line, one) for line in queues for one in line.heads}
    for renderer in renderers:
        mine = [owner[p.shard] for p in found if p.name == renderer.name]
        lanes = Counter(line.lane for line, _ in mine)
        assert lanes[Lane.BULK] <= SLOTS - renderer.held
        assert lanes[Lane.INTERACTIVE] <= 1 - renderer.interactive
        assert all(line.gpu in (None, renderer.gpu) for line, _ in mine)
        for line, one in mine:
            able = {other.name for other in renderers if line.gpu in (None, other.gpu)}
            assert renderer.name not in one.avoid or able <= set(one.avoid)


@given(worlds())
def test_no_idle_renderer_is_left_while_something_fits_it(
    world: tuple[list[Queue], list[Free], list[TeamShare]],
) -> None:
    queues, renderers, _ = world
    found = placing(queues, renderers)
    taken = {p.shard for p in found.placed}
    for renderer in renderers:
        if renderer.name in found.idle and not renderer.interactive:
            for line in queues:
                names = {other.name for other in renderers if line.gpu in (None, other.gpu)}
                fits = line.gpu in (None, renderer.gpu) and line.lane is Lane.BULK
                left = [one for one in line.heads if one.shard not in taken]
                assert not (fits and any(renderer.name not in one.avoid or names <= set(one.avoid) for one in left))
