"""One tick: what the scheduler sees becomes what it does."""

from dataclasses import replace
from typing import Any, TypeVar

import pytest

from farm.core.fairshare import Rejoin, Rest, TeamShare
from farm.core.ids import CampaignId, Fence, RendererName, Session, ShardId, TeamId
from farm.core.placement import Head, Loading, Queue, Rules
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
    Retire,
    Revoke,
    Seen,
    Snapshot,
    Wake,
    plan,
)
from farm.core.recalls import WORTH_MOVING
from schemas.order import Lane

D = TypeVar("D", bound=Decision)
NAMES = tuple(RendererName(f"r{n}") for n in range(4))


def queue(*shards: int, **changes: Any) -> Queue:
    """One second a shard, so that a renderer is soon through."""
    heads = tuple(Head(ShardId(shard), 1.0, 0.0) for shard in shards)
    return replace(Queue(TeamId(1), CampaignId(1), "key", "ckp", Lane.BULK, 50, 1.0, heads), **changes)


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
        gpu_seconds=0.0,
        team=TeamId(1),
        campaign=CampaignId(1),
        lane=Lane.BULK,
        renders=1,
    )
    return replace(lease, **changes)


def seen(renderer: int = 0, *holds: int, **changes: Any) -> Seen:
    pairs = frozenset((ShardId(shard), Fence(f"f{shard}")) for shard in holds)
    return replace(Seen(NAMES[renderer], Session(f"s{renderer}"), pairs, "key", "ckp"), **changes)


def view(**changes: Any) -> Snapshot:
    queues = changes.get("queues", ())
    empty = Snapshot(
        queues=(),
        backlog={},
        looked_up=frozenset(head.shard for one in queues for head in one.heads),
        held=(),
        refused=frozenset(),
        seen=(),
        teams=(TeamShare(TeamId(1), backlogged=bool(queues)),),
        rules=Rules(Loading({}, {})),
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
    assert of(Reclaim, view(held=[lost], seen=[silent])) == [Reclaim(lost, NAMES[0])]
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
    assert plan(view(held=[held(1, 3, age=9999.0)])) == []


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
    assert of(Release, view(held=[lease], refused=frozenset({(lease.shard, Fence("older"))}))) == []


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
    snapshot = view(queues=[queue(5)], held=[held(1), held(2)], seen=[seen(0, 1)])
    assert [type(decision) for decision in plan(snapshot)] == [Release, Dispatch]


def test_no_renderer_has_more_than_two_shards() -> None:
    queues = [queue(*range(10, 20))]
    assert dispatched(view(queues=queues, seen=[seen(0)])) == [(10, "r0"), (11, "r0")]
    assert dispatched(view(queues=queues, held=[held(1)], seen=[seen(0, 1)])) == [(10, "r0")]
    assert dispatched(view(queues=queues, held=[held(1), held(2)], seen=[seen(0, 1, 2)])) == []


@pytest.mark.parametrize("changes", [{"draining": True}, {"session": None}, {"silent": True}])
def test_a_renderer_that_leaves_or_does_not_answer_gets_nothing(changes: dict[str, Any]) -> None:
    assert dispatched(view(queues=[queue(1)], seen=[seen(0, **changes)])) == []


def test_a_silent_renderer_keeps_its_leases_until_they_expire() -> None:
    assert plan(view(held=[held(1)], seen=[seen(0, 1, silent=True)])) == []


def test_what_a_renderer_will_be_warm_for_is_what_its_newest_shard_needs() -> None:
    leases = [held(1, engine_key="old", age=90.0)]
    queues = [queue(3, engine_key="key"), queue(4, engine_key="old")]
    assert dispatched(view(queues=queues, held=leases, seen=[seen(0, 1)])) == [(4, "r0")]


def test_shards_are_compared_before_anybody_is_woken() -> None:
    queues = [queue(0, 1), queue(2, 3, engine_key="other")]
    new = view(queues=queues, looked_up=frozenset(), wake=NAMES)
    assert plan(new) == [LookUp((ShardId(0), ShardId(2)))]
    assert of(LookUp, view(queues=queues)) == []
    assert [decision.name for decision in of(Wake, view(queues=queues, wake=NAMES))] == list(NAMES)


def test_shards_that_are_dispatched_are_not_looked_up_beside() -> None:
    found = plan(view(queues=[queue(0, 1, 2)], looked_up=frozenset(), seen=[seen(0)]))
    assert [type(decision) for decision in found] == [LookUp, Dispatch, Dispatch]
    assert found[0] == LookUp((ShardId(2),))


def test_a_tick_compares_only_so_many_shards() -> None:
    queues = [queue(n, engine_key=f"k{n:03}") for n in range(LOOK_UPS + 5)]
    (look,) = of(LookUp, view(queues=queues, looked_up=frozenset()))
    assert look.shards == tuple(range(LOOK_UPS))
    (rest,) = of(LookUp, view(queues=queues, looked_up=frozenset(look.shards)))
    assert rest.shards == tuple(range(LOOK_UPS, LOOK_UPS + 5))


def test_a_renderer_that_gets_work_now_is_not_retired() -> None:
    both = view(queues=[queue(1)], seen=[seen(0), seen(1)], retire=NAMES[:2])
    assert of(Retire, both) == [Retire(NAMES[1])]


def test_teams_that_begin_to_wait_join_where_the_least_served_stands() -> None:
    teams = [TeamShare(TeamId(1), vtime=900.0), TeamShare(TeamId(2), vtime=5.0, backlogged=False)]
    queues = [queue(1), queue(2, team=TeamId(2), campaign=CampaignId(2))]
    found = view(queues=queues, teams=teams)
    assert of(Rejoin, found) == [Rejoin(TeamId(2), 900.0)]
    assert of(Rest, view(teams=teams)) == [Rest(TeamId(1))]


def test_a_team_that_has_nothing_gets_a_prefetched_shard_handed_back() -> None:
    """So it waits for no more than the shards that are being rendered."""
    theirs = [held(n, n % 2, age=99.0 - n, gpu_seconds=30.0) for n in range(4)]
    full = [seen(0, 0, 2), seen(1, 1, 3)]
    mine = queue(9, team=TeamId(2), campaign=CampaignId(2))
    (recall,) = of(Revoke, view(queues=[mine], held=theirs, seen=full))
    assert recall == Revoke(NAMES[0], (ShardId(2),), running=False)
    shares = [*theirs, held(5, 2, team=TeamId(2))]
    assert of(Revoke, view(queues=[mine], held=shares, seen=[*full, seen(2, 5, silent=True)])) == []


def test_an_idle_renderer_gets_what_another_has_only_prefetched() -> None:
    for left, moved in ((WORTH_MOVING + 1, 1), (WORTH_MOVING - 1, 0)):
        leases = [held(1, age=90.0, gpu_seconds=left), held(2, age=5.0, gpu_seconds=30.0)]
        snapshot = view(held=leases, seen=[seen(0, 1, 2), seen(1)])
        assert of(Revoke, snapshot) == [Revoke(NAMES[0], (ShardId(2),), running=False)] * moved


def test_nothing_is_recalled_for_whom_it_would_not_help() -> None:
    """Else it would be handed back and leased again for ever."""
    full = [held(n, 0, age=99.0 - n, gpu_seconds=30.0) for n in range(2)]
    there = [seen(0, 0, 1, gpu="L4")]
    pinned = queue(9, team=TeamId(2), campaign=CampaignId(2), gpu="H100")
    assert of(Revoke, view(queues=[pinned], held=full, seen=there)) == []
    assert len(of(Revoke, view(queues=[replace(pinned, gpu=None)], held=full, seen=there))) == 1
    burst = [TeamShare(TeamId(1), burst=1)]
    assert of(Revoke, view(held=full, seen=[*there, seen(1, gpu="L4")], teams=burst)) == []
    for changes in ({"gpu": "L4"}, {"avoid": (NAMES[1],)}):
        bound = [full[0], replace(full[1], **changes)]
        assert of(Revoke, view(held=bound, seen=[*there, seen(1, gpu="H100")])) == []
    assert len(of(Revoke, view(held=full, seen=[*there, seen(1, gpu="H100")]))) == 1
    slow = Rules(Loading({}, {}), speeds={"L4": 1.0, "T4": 0.2})
    assert of(Revoke, view(held=full, seen=[*there, seen(1, gpu="T4")], rules=slow)) == []


def test_a_slow_gpu_is_given_its_time_before_it_is_taken_for_hung() -> None:
    lease = held(1, age=2400.0, gpu_seconds=20.0)
    assert len(of(End, view(held=[lease], seen=[seen(0, 1, gpu="T4")]))) == 1
    slow = Rules(Loading({}, {}), speeds={"T4": 0.5})
    assert of(End, view(held=[lease], seen=[seen(0, 1, gpu="T4")], rules=slow)) == []


def test_what_a_closed_renderer_has_not_begun_goes_elsewhere() -> None:
    leases = [held(1), held(2)]
    shut = view(held=leases, seen=[seen(0, 1, 2)], closed=frozenset(NAMES[:1]))
    assert of(Revoke, shut) == [Revoke(NAMES[0], (ShardId(1), ShardId(2)), running=False)]


def test_one_that_has_just_said_that_it_is_full_is_not_asked_again_at_once() -> None:
    assert dispatched(view(queues=[queue(1)], seen=[seen(0, full=True)])) == []
    failed = queue(1)
    failed = replace(failed, heads=(replace(failed.heads[0], avoid=(NAMES[1],)),))
    there = [seen(0, full=True), seen(1)]
    assert dispatched(view(queues=[failed], seen=there)) == [], "it will have room in a moment"


def test_renderers_are_woken_while_others_are_still_compared_once_something_is_real() -> None:
    queues = [queue(1), queue(2, engine_key="other")]
    half = view(queues=queues, looked_up=frozenset({ShardId(1)}), wake=NAMES)
    assert len(of(LookUp, half)) == 1
    assert len(of(Wake, half)) == len(NAMES)
    assert of(Retire, view(retire=NAMES[:1], seen=[seen(0)])) == [Retire(NAMES[0])]


def test_closed_renderers_get_nothing_and_suspects_only_when_nobody_else_is_there() -> None:
    queues = [queue(1)]
    shut = frozenset(NAMES[:1])
    assert dispatched(view(queues=queues, seen=[seen(0)], closed=shut)) == []
    assert dispatched(view(queues=queues, seen=[seen(0), seen(1, 7)], held=[held(7, 1)], suspects=shut)) == [(1, "r1")]
    assert dispatched(view(queues=queues, seen=[seen(0)], suspects=shut)) == [(1, "r0")]
    probing = view(queues=[queue(1, 2)], seen=[seen(0)], probing=shut)
    assert dispatched(probing) == [(1, "r0")]


def test_of_the_shards_that_end_with_their_renderer_the_one_in_the_gpu_is_to_blame() -> None:
    leases = [held(1, ended=True, age=90.0), held(2, ended=True, age=5.0), held(3, 1, ended=True, age=5.0)]
    found = {decision.held.shard: decision.blamed for decision in of(Reclaim, view(held=leases))}
    assert found == {1: True, 2: False, 3: True}
    proof = [*leases[:2], held(4, ended=True, age=1.0, lane=Lane.INTERACTIVE)]
    found = {decision.held.shard: decision.blamed for decision in of(Reclaim, view(held=proof))}
    assert found == {1: False, 2: False, 4: True}
