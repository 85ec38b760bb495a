"""What `SchedulerTx` promises about evidence against renderers, and quarantine."""

from datetime import timedelta

from farm.core.ids import RendererName, ShardId
from farm.core.plan import Reclaim
from farm.core.records import Accusation
from farm.core.settle import ShardRow
from schemas.report import FailureKind
from tests.support.store_farm import OTHER, OURS, RENDERER, Farm, all_good, bad, good

HOUR = timedelta(hours=1)
MINUTES = timedelta(minutes=5)


def accusations(farm: Farm, window: timedelta = 24 * HOUR) -> dict[RendererName, Accusation]:
    with farm.leading() as tx:
        found = tx.accusations(window)
    assert [accused.last_at for accused in found] == sorted(accused.last_at for accused in found)
    return {accused.name: accused for accused in found}


def again(farm: Farm, name: RendererName) -> list[ShardRow]:
    """Whatever backs off goes to *name*."""
    farm.later()
    return farm.take(farm.greet(name))


def test_each_render_that_failed_somewhere_counts_once(farm: Farm) -> None:
    farm.submit(1, renders=4, width=4)
    farm.submit(2, renders=2, width=2)
    first, second = farm.take(farm.greet())
    farm.settle(first, [bad(0, FailureKind.ENGINE), bad(1, FailureKind.ENGINE), bad(2, FailureKind.BAD_SOURCE)])
    farm.settle(second, [bad(0, FailureKind.DEPOT), bad(1, FailureKind.BAD_WEIGHTS)])
    for shard in again(farm, RENDERER):
        farm.settle(shard, [bad(ordinal, FailureKind.ENGINE) for lo, hi in shard.todo for ordinal in range(lo, hi)])
    (found,) = accusations(farm).values()
    assert (found.name, found.failed, found.cleared, found.shared, found.campaigns) == (RENDERER, 3, 0, 0, 2)
    assert found.last_code == "it_broke"
    assert accusations(farm, timedelta(0)) == {}


def test_what_succeeds_elsewhere_is_cleared_and_what_fails_elsewhere_is_shared(farm: Farm) -> None:
    farm.submit(renders=3, width=3)
    (shard,) = farm.take(farm.greet())
    farm.settle(shard, [bad(n, FailureKind.ENGINE) for n in range(3)])
    (shard,) = again(farm, OTHER)
    farm.settle(shard, [good(shard, 0), bad(1, FailureKind.ENGINE)], OTHER)
    found = accusations(farm)
    assert (found[RENDERER].failed, found[RENDERER].cleared, found[RENDERER].shared) == (3, 1, 1)
    assert (found[OTHER].failed, found[OTHER].cleared, found[OTHER].shared) == (1, 0, 1)


def test_a_gpu_that_is_too_small_is_not_accused(farm: Farm) -> None:
    farm.submit(renders=2, width=2)
    (shard,) = farm.take(farm.greet())
    farm.settle(shard, [bad(0, FailureKind.OUT_OF_VRAM), bad(1, FailureKind.OUT_OF_VRAM)])
    assert accusations(farm) == {}
    (shard,) = again(farm, OTHER)
    farm.settle(shard, [bad(0, FailureKind.ENGINE)], OTHER)
    found = accusations(farm)
    assert (list(found), found[OTHER].shared) == ([OTHER], 0), "nor is it shared by who is too small for it"


def test_renderers_that_have_no_store_at_the_same_time_are_not_accused(farm: Farm) -> None:
    farm.submit(renders=3, width=1)
    first, second, third = farm.take(farm.greet())
    farm.settle(first, [bad(0, FailureKind.DEPOT)])
    farm.settle(second, [bad(1, FailureKind.DEPOT)])
    assert accusations(farm)[RENDERER].failed == 2, "one renderer alone has no store: its network may be broken"
    farm.later(seconds=50)
    farm.settle(third, [bad(2, FailureKind.DEPOT)], OTHER)
    assert accusations(farm) == {}


def test_renderers_that_have_no_store_one_after_the_other_are_accused(farm: Farm) -> None:
    farm.submit(renders=3, width=1)
    first, second, third = farm.take(farm.greet())
    farm.settle(first, [bad(0, FailureKind.DEPOT)])
    farm.settle(third, [bad(2, FailureKind.ENGINE)], OTHER)
    farm.later(seconds=70)
    farm.settle(second, [bad(1, FailureKind.DEPOT)], OTHER)
    found = accusations(farm)
    assert {name: accused.failed for name, accused in found.items()} == {RENDERER: 1, OTHER: 2}


def test_what_a_quarantine_has_forgiven_does_not_blame_the_store(farm: Farm) -> None:
    farm.submit(renders=2, width=1)
    first, second = farm.take(farm.greet())
    farm.settle(first, [bad(0, FailureKind.DEPOT)])
    with farm.leading() as tx:
        tx.quarantine(RENDERER, why="Its network is broken.", lasts=MINUTES)
    farm.settle(second, [bad(1, FailureKind.DEPOT)], OTHER)
    assert list(accusations(farm)) == [OTHER]


def test_a_failure_after_its_lease_was_put_back_accuses_who_reported_it(farm: Farm) -> None:
    farm.submit(renders=1, width=1)
    (shard,) = farm.take(farm.greet())
    with farm.leading() as tx:
        tx.put_back(shard, lost=0, delay=timedelta(0))
    farm.settle(shard, [bad(0, FailureKind.ENGINE)])
    assert {name: accused.failed for name, accused in accusations(farm).items()} == {RENDERER: 1}


def test_a_success_forgets_what_stood_against_a_renderer(farm: Farm) -> None:
    farm.submit(renders=3, width=3)
    (shard,) = farm.take(farm.greet())
    farm.settle(shard, [bad(0, FailureKind.ENGINE)])
    with farm.leading() as tx:
        tx.note_success([RENDERER, RENDERER, OTHER])
        tx.note_success([])
    assert accusations(farm) == {}
    farm.settle(shard, [bad(1, FailureKind.ENGINE)])
    assert accusations(farm)[RENDERER].failed == 1


def test_a_lost_shard_counts_once_and_is_cleared_when_another_has_rendered_it(farm: Farm) -> None:
    farm.submit(renders=5)
    farm.take(farm.greet())
    farm.end(Reclaim)
    (shard,) = again(farm, OTHER)
    found = accusations(farm)[RENDERER]
    assert (found.failed, found.cleared, found.shared) == (1, 0, 0)
    with farm.leading() as tx:
        tx.put_back(shard, lost=2, delay=timedelta(0), avoid=OTHER)
    assert [found.shared for found in accusations(farm).values()] == [1, 1]
    (shard,) = again(farm, RendererName("farm/a/1/2"))
    farm.settle(shard, all_good(shard)[:3])
    assert [found.cleared for found in accusations(farm).values()] == [0, 0], "it is not through"
    farm.settle(shard, all_good(shard))
    assert [found.cleared for found in accusations(farm).values()] == [1, 1]


def test_a_shard_that_was_bisected_after_its_losses_clears_nobody(farm: Farm) -> None:
    farm.submit(renders=4, width=4)
    for _ in range(3):
        again(farm, RENDERER)
        farm.end(Reclaim)
    found = accusations(farm)[RENDERER]
    assert (found.failed, found.cleared) == (1, 0)


def test_a_quarantine_forgives_and_gives_back_the_tries(farm: Farm) -> None:
    campaign = farm.submit(renders=4, width=4)
    (shard,) = farm.take(farm.greet())
    farm.settle(shard, [bad(0, FailureKind.ENGINE), bad(1, FailureKind.ENGINE), bad(2, FailureKind.BAD_SOURCE)])
    (child,) = [row for row in again(farm, OTHER) if row.tries]
    farm.settle(child, [bad(0, FailureKind.ENGINE)], OTHER)
    with farm.leading() as tx:
        tx.quarantine(RENDERER, why="Renders fail there.", lasts=MINUTES)
    with farm.leading() as tx:
        (found,) = tx.quarantined()
        now = tx.now()
    assert (found.name, found.why, found.probes, found.by_hand) == (RENDERER, "Renders fail there.", 0, False)
    assert found.until - found.since == MINUTES
    assert found.since <= now
    left = accusations(farm)
    assert list(left) == [OTHER]
    assert left[OTHER].shared == 0, "a try that is forgiven says nothing of the render"
    with farm.leading() as tx:
        rows = {row.todo: (row.state, row.tries, row.avoid) for row in tx.lock(_ids()).values() if row.todo}
    assert rows[(1, 2),] == ("leased", 0, ())
    assert rows[(0, 1),] == ("ready", 1, (OTHER,))
    with farm.api.as_team(OURS) as team:
        states = {row.name: (row.state, row.quarantine) for row in team.renderers()}
        assert [row.ordinal for row in team.outcomes(campaign, 0, 9)] == [2]
    assert states[RENDERER] == ("quarantined", "Renders fail there.")
    assert states[OTHER] == ("idle", "")


def _ids() -> list[ShardId]:
    """Of every shard that a test makes, and more."""
    return [ShardId(number) for number in range(1, 20)]


def test_a_probe_that_fails_prolongs_a_quarantine_and_a_release_ends_it(farm: Farm) -> None:
    for lasts in (MINUTES, 2 * MINUTES):
        with farm.leading() as tx:
            tx.quarantine(RENDERER, why="Broken.", lasts=lasts)
    with farm.leading() as tx:
        (found,) = tx.quarantined()
        assert (found.probes, found.until > found.since + MINUTES) == (1, True)
        tx.release(OTHER)
        tx.release(RENDERER)
        assert tx.quarantined() == []
        tx.release(RENDERER)
        tx.quarantine(RENDERER, why="Again.", lasts=MINUTES)
        (found,) = tx.quarantined()
    assert (found.why, found.probes) == ("Again.", 0)
