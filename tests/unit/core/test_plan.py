"""One tick: what the scheduler sees becomes what it does."""

from dataclasses import replace
from typing import Any, TypeVar

import pytest

from farm.core.ids import Fence, RendererName, Session, ShardId
from farm.core.placement import Waiting
from farm.core.plan import (
    LOOK_UPS,
    SETTLE_GRACE,
    Decision,
    Dispatch,
    End,
    Held,
    LookUp,
    Reclaim,
    Release,
    Revoke,
    Seen,
    Snapshot,
    Wake,
    plan,
)

D = TypeVar("D", bound=Decision)
NAMES = tuple(RendererName(f"r{n}") for n in range(4))


def waiting(shard: int, **changes: Any) -> Waiting:
    return replace(Waiting(ShardId(shard), "key", "ckp", 50, 0.0, 30.0), **changes)


def held(shard: int, renderer: int = 0, **changes: Any) -> Held:
    lease = Held(
        shard=ShardId(shard),
        session=Session(f"s{renderer}"),
        fence=Fence(f"f{shard}"),
        age=60.0,
        expired=False,
        ended=False,
        cancelled=False,
        engine_key="key",
        checkpoint="ckp",
    )
    return replace(lease, **changes)


def seen(renderer: int = 0, *holds: int, **changes: Any) -> Seen:
    pairs = frozenset((ShardId(shard), Fence(f"f{shard}")) for shard in holds)
    return replace(Seen(NAMES[renderer], Session(f"s{renderer}"), pairs, "key", "ckp"), **changes)


def view(**changes: Any) -> Snapshot:
    shards = changes.get("waiting", ())
    empty = Snapshot(
        waiting=(),
        ready_shards=len(shards),
        looked_up=frozenset(shard.shard for shard in shards),
        held=(),
        refused=frozenset(),
        seen=(),
        names=NAMES,
        may_reclaim=True,
    )
    return replace(empty, **changes)


def of(kind: type[D], snapshot: Snapshot) -> list[D]:
    return [decision for decision in plan(snapshot) if isinstance(decision, kind)]


def dispatched(snapshot: Snapshot) -> list[tuple[int, str]]:
    return [(d.placed.shard, d.placed.name) for d in of(Dispatch, snapshot)]


def test_nothing_to_do_is_nothing_to_decide() -> None:
    assert plan(view()) == []
    assert plan(view(seen=[seen(0)])) == []
    assert plan(view(held=[held(1)], seen=[seen(0, 1)])) == []


def test_an_expired_lease_is_reclaimed_only_when_that_is_allowed() -> None:
    lost = held(1, expired=True)
    silent = seen(0, 1, silent=True)
    assert plan(view(held=[lost], seen=[silent], may_reclaim=False)) == []
    assert of(Reclaim, view(held=[lost], seen=[silent])) == [Reclaim(lost)]
    assert of(Reclaim, view(held=[lost])) == [Reclaim(lost)]


def test_a_renderer_whose_lease_lasts_far_beyond_its_shard_is_ended() -> None:
    assert of(End, view(held=[held(1, age=1900.0, gpu_seconds=4.0)], seen=[seen(0, 1)])) == [End(NAMES[0])]
    assert of(End, view(held=[held(1, age=1900.0, gpu_seconds=40.0)], seen=[seen(0, 1)])) == []


def test_what_a_renderer_said_before_the_offer_does_not_release_it() -> None:
    assert of(Release, view(held=[held(1, age=15.0)], seen=[seen(0, heard_age=8.0)])) == []
    assert of(Release, view(held=[held(1, age=15.0)], seen=[seen(0, heard_age=1.0)])) != []


def test_a_late_heartbeat_takes_nothing_from_a_renderer_that_answers() -> None:
    """After an outage of the database every lease has expired at once, and every renderer is still at work."""
    assert plan(view(held=[held(1, expired=True)], seen=[seen(0, 1)])) == []


def test_a_lease_of_an_ended_session_is_reclaimed_at_once() -> None:
    lost = held(1, ended=True, age=0.0)
    assert of(Reclaim, view(held=[lost], may_reclaim=False)) == [Reclaim(lost)]


def test_a_lease_of_a_renderer_unheard_of_waits_for_its_expiry() -> None:
    assert plan(view(held=[held(1, 3, age=9999.0)], names=())) == []


def test_a_shard_that_the_renderer_does_not_have_is_released_after_a_grace() -> None:
    for age, released in ((SETTLE_GRACE - 0.1, 0), (SETTLE_GRACE + 0.1, 1)):
        snapshot = view(held=[held(1, age=age)], seen=[seen(0)])
        assert len(of(Release, snapshot)) == released
        assert of(Reclaim, snapshot) == []


def test_the_same_shard_under_another_fence_is_not_the_one_that_was_leased() -> None:
    other = frozenset({(ShardId(1), Fence("older"))})
    assert len(of(Release, view(held=[held(1)], seen=[seen(0, holds=other)]))) == 1


def test_a_refused_offer_is_released_at_once() -> None:
    lease = held(1, age=0.0)
    assert of(Release, view(held=[lease], refused=frozenset({(lease.shard, lease.fence)}))) == [Release(lease)]
    assert of(Release, view(held=[lease], refused=frozenset({(lease.shard, Fence("older"))}), names=())) == []


def test_shards_of_a_cancelled_campaign_are_revoked() -> None:
    snapshot = view(held=[held(1, cancelled=True), held(2)], seen=[seen(0, 1, 2)])
    assert of(Revoke, snapshot) == [Revoke(NAMES[0], (ShardId(1),))]


@pytest.mark.parametrize("leases", [[], [held(1, 1)], [held(1, ended=True)]], ids=["none", "other", "gone"])
def test_what_a_renderer_holds_without_a_lease_is_revoked(leases: list[Held]) -> None:
    assert of(Revoke, view(held=leases, seen=[seen(0, 1)])) == [Revoke(NAMES[0], (ShardId(1),))]


def test_an_older_fence_of_a_shard_that_the_same_renderer_leases_is_not_revoked() -> None:
    """The new order replaces the old one; revoking goes by shard and would take both."""
    both = frozenset({(ShardId(1), Fence("older")), (ShardId(1), Fence("f1"))})
    assert of(Revoke, view(held=[held(1)], seen=[seen(0, holds=both)])) == []


def test_a_slot_that_a_lost_lease_leaves_is_filled_in_the_same_tick() -> None:
    snapshot = view(waiting=[waiting(5)], held=[held(1), held(2)], seen=[seen(0, 1)], names=NAMES[:1])
    assert [type(decision) for decision in plan(snapshot)] == [Release, Dispatch]


def test_no_renderer_has_more_than_two_shards() -> None:
    shards = [waiting(n) for n in range(10, 20)]
    assert dispatched(view(waiting=shards, seen=[seen(0)])) == [(10, "r0"), (11, "r0")]
    assert dispatched(view(waiting=shards, held=[held(1)], seen=[seen(0, 1)])) == [(10, "r0")]
    assert dispatched(view(waiting=shards, held=[held(1), held(2)], seen=[seen(0, 1, 2)])) == []


@pytest.mark.parametrize("changes", [{"draining": True}, {"session": None}, {"silent": True}])
def test_a_renderer_that_leaves_or_does_not_answer_gets_nothing(changes: dict[str, Any]) -> None:
    assert dispatched(view(waiting=[waiting(1)], seen=[seen(0, **changes)])) == []


def test_a_silent_renderer_keeps_its_leases_until_they_expire() -> None:
    assert plan(view(held=[held(1)], seen=[seen(0, 1, silent=True)])) == []


def test_what_a_renderer_will_be_warm_for_is_what_its_newest_shard_needs() -> None:
    leases = [held(1, engine_key="old", age=90.0)]
    shards = [waiting(3, engine_key="key"), waiting(4, engine_key="old")]
    assert dispatched(view(waiting=shards, held=leases, seen=[seen(0, 1)])) == [(4, "r0")]


def test_renderers_are_woken_up_to_what_is_wanted() -> None:
    def woken(ready: int, present: int, leases: int = 0) -> list[str]:
        shards = [waiting(n + 100) for n in range(ready)]
        mine = [held(n, n % max(present, 1)) for n in range(leases)]
        there = [seen(n, *(lease.shard for lease in mine if lease.session == f"s{n}")) for n in range(present)]
        return [wake.name for wake in of(Wake, view(waiting=shards, seen=there, held=mine))]

    assert woken(0, 0) == []
    assert woken(1, 0) == ["r0"]
    assert woken(3, 0) == ["r0", "r1", "r2"]
    assert woken(99, 0) == list(NAMES)
    assert woken(99, 3) == ["r3"]
    assert woken(99, 4) == []
    assert woken(1, 1) == []
    assert woken(1, 1, leases=2) == ["r1", "r2"]


def test_a_renderer_that_is_still_starting_is_not_woken_again() -> None:
    starting = seen(0, session=None)
    assert of(Wake, view(waiting=[waiting(1)], seen=[starting])) == []


def test_waiting_shards_are_looked_up_once_before_anybody_is_woken() -> None:
    shards = [waiting(n) for n in range(3)]
    new = view(waiting=shards, looked_up=frozenset())
    assert plan(new) == [LookUp((ShardId(0), ShardId(1), ShardId(2)))]
    assert of(LookUp, view(waiting=shards)) == []
    assert len(of(Wake, view(waiting=shards))) == 3


def test_shards_that_are_dispatched_are_not_looked_up_beside() -> None:
    shards = [waiting(n) for n in range(3)]
    found = plan(view(waiting=shards, looked_up=frozenset(), seen=[seen(0)]))
    assert [type(decision) for decision in found] == [LookUp, Dispatch, Dispatch]
    assert found[0] == LookUp((ShardId(2),))


def test_a_tick_compares_only_so_many_shards() -> None:
    shards = [waiting(n) for n in range(LOOK_UPS + 5)]
    (look,) = of(LookUp, view(waiting=shards, looked_up=frozenset()))
    assert look.shards == tuple(range(LOOK_UPS))
    (rest,) = of(LookUp, view(waiting=shards, looked_up=frozenset(look.shards)))
    assert rest.shards == tuple(range(LOOK_UPS, LOOK_UPS + 5))


def test_nobody_is_woken_while_heads_of_queues_have_not_been_compared() -> None:
    """Only the heads are seen: of a campaign that was rendered before, nothing may be left behind them either."""
    shards = [waiting(n) for n in range(8)]
    assert of(Wake, view(waiting=shards, ready_shards=500, looked_up=frozenset())) == []
    assert len(of(Wake, view(waiting=shards, ready_shards=500))) == len(NAMES)
