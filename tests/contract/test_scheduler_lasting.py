"""What `SchedulerTx` promises about tombstones, retention and old rows."""

from datetime import timedelta

from farm.core.garbage import folder_of
from farm.core.ids import CampaignId
from schemas.campaign import CampaignState
from schemas.report import FailureKind, RowReport
from tests.support.store_farm import OURS, RENDERER, RENDITIONS, THEIRS, Farm, all_good, bad, good

HOUR = timedelta(hours=1)
NONE = timedelta(0)


def test_a_tombstone_is_kept_as_it_was_until_it_is_spared(farm: Farm) -> None:
    with farm.leading() as tx:
        tx.doomed(["b", "a", "a"], "orphan")
        tx.doomed([], "orphan")
    with farm.leading() as tx:
        (first, second) = tx.tombstones(NONE, 10)
        assert (first.key, first.reason, second.key) == ("a", "orphan", "b")
        assert tx.tombstones(HOUR, 10) == []
        assert tx.tombstones(NONE, 1) == [first]
        tx.doomed(["a", "c"], "retention")
    with farm.leading() as tx:
        found = tx.tombstones(NONE, 10)
        assert [(row.key, row.reason) for row in found] == [("a", "orphan"), ("b", "orphan"), ("c", "retention")]
        assert found[0] == first
        tx.spare(["a", "c", "never"])
        assert tx.tombstones(NONE, 10) == [second]


def finished(farm: Farm, number: int, fingerprints: str = "") -> CampaignId:
    campaign = farm.submit(number, renders=4, width=4)
    (shard,) = farm.take(farm.greet())
    rows = [with_renditions(good(shard, n, fingerprint=fingerprints[n] * 64 if fingerprints else "")) for n in range(3)]
    farm.settle(shard, [*rows, bad(3, FailureKind.BAD_SOURCE)])
    assert farm.state(campaign) is CampaignState.DONE
    return campaign


def with_renditions(row: RowReport) -> RowReport:
    assert row.picture is not None
    return row.model_copy(update={"picture": row.picture.model_copy(update={"renditions": RENDITIONS})})


def test_pruning_forgets_outcomes_bit_by_bit_and_pictures_that_nobody_else_shows(farm: Farm) -> None:
    first = finished(farm, 1, "abc")
    second = finished(farm, 2, "cde")  # the picture "c" is shared: the first campaign's
    before = farm.counts(first)
    with farm.leading() as tx:
        assert tx.picture_count() == 5
        gone, keys = tx.prune(first, 2)
    folders = [folder_of(f"outputs/{first}/{n}-1/picture.png", RENDITIONS) for n in (0, 1)]
    assert (gone, keys) == (2, sorted(key for folder in folders for key in folder))
    with farm.leading() as tx:
        assert tx.prune(first, 10) == (2, [])
        assert tx.prune(first, 10) == (0, [])
        assert tx.picture_count() == 3
        assert tx.prune(second, 10)[0] == 4
        assert tx.picture_count() == 0
    with farm.api.as_team(OURS) as team:
        assert team.outcomes(first, 0, 10) == []
        assert team.campaign(first).state is CampaignState.DONE
        assert team.known(["a" * 64]) == 0
    assert farm.counts(first) == before


def test_a_campaign_is_prunable_when_it_has_ended_and_its_teams_time_is_over(farm: Farm) -> None:
    first, second = finished(farm, 1), finished(farm, 2)
    farm.submit(3)
    farm.submit(4, team=THEIRS)
    with farm.leading() as tx:
        assert tx.prunable(10) == [], "without a retention time pictures are kept for ever"
    farm.limit(OURS, retention_days=1)
    with farm.leading() as tx:
        assert tx.prunable(10) == []
    farm.later(days=2)
    with farm.leading() as tx:
        assert tx.prunable(10) == [(OURS, first), (OURS, second)]
        assert tx.prunable(1) == [(OURS, first)]
        tx.prune(first, 2)
        assert tx.prunable(10) == [(OURS, first), (OURS, second)]
        tx.prune(first, 2)
        assert tx.prunable(10) == [(OURS, second)]


def test_a_sweep_takes_old_rows_and_leaves_what_is_new_or_in_use(farm: Farm) -> None:
    farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    farm.settle(shard, [bad(n, FailureKind.ENGINE) for n in range(3)])
    with farm.leading() as tx:
        tx.end_absent("farm/", [])
        assert tx.sweep(events=HOUR, attempts=HOUR, sessions=HOUR, limit=10) == {
            "events": 0,
            "attempts": 0,
            "sessions": 0,
        }
    farm.later(days=1)
    farm.submit(2, renders=5)
    with farm.leading() as tx:
        swept = tx.sweep(events=HOUR, attempts=HOUR, sessions=HOUR, limit=2)
    assert swept == {"events": 1, "attempts": 2, "sessions": 0}, "the session still has a lease"
    with farm.leading() as tx:
        held = tx.lock([shard.id])[shard.id]
        tx.put_back(held, lost=1, delay=NONE, avoid=RENDERER)
    with farm.leading() as tx:
        assert tx.sweep(events=HOUR, attempts=HOUR, sessions=HOUR, limit=2) == {
            "events": 0,
            "attempts": 1,
            "sessions": 1,
        }
    with farm.api.as_team(OURS) as team:
        assert [event.id for event in team.events(after=0, limit=9)] == [2], "ids go on where they were"
        assert team.last_event() == 2
        assert team.renderers() == []


def test_rows_that_are_settled_after_pruning_began_are_untouched(farm: Farm) -> None:
    campaign = finished(farm, 1)
    other = farm.submit(2, renders=5)
    (shard,) = farm.take(farm.greet())
    farm.settle(shard, all_good(shard))
    with farm.leading() as tx:
        tx.prune(campaign, 100)
    with farm.api.as_team(OURS) as team:
        assert len(team.outcomes(other, 0, 9)) == 5
