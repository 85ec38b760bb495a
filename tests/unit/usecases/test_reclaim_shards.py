"""Leases end: with their renderer, or because the renderer never got the shard."""

from collections import Counter
from datetime import datetime, timedelta

import pytest

from farm.core.ids import RendererName
from farm.core.plan import Reclaim, Release
from farm.core.retry import after_lost
from farm.core.settle import Ends, ShardRow
from farm.core.shard import PATIENCE, size_of
from farm.store.memory import MemoryStore
from farm.usecases.reclaim_shards import Reclaimed, reclaim_shards
from schemas.campaign import CampaignState
from schemas.report import FailureKind
from tests.support.memory_farm import memory_farm
from tests.support.store_farm import OURS, RENDERER, Farm


@pytest.fixture
def farm() -> Farm:
    return memory_farm()


def lose(farm: Farm, *, name: RendererName | None = RENDERER, blamed: bool = True) -> Reclaimed:
    held = farm.held()
    with farm.leading() as tx:
        return reclaim_shards(tx, [Reclaim(lease, name, blamed) for lease in held])


def rows(farm: Farm) -> list[ShardRow]:
    with farm.leading() as tx:
        heads = [head.shard for queue in tx.queues(1000) for head in queue.heads]
        return sorted(tx.lock(heads).values(), key=lambda shard: shard.todo)


def now(farm: Farm) -> datetime:
    with farm.leading() as tx:
        return tx.now()


def attempts(farm: Farm) -> list[tuple[int | None, str]]:
    assert isinstance(farm.store, MemoryStore)
    return [(row.ordinal, row.kind) for row in farm.store.state.attempts.rows.values()]


def test_a_lost_shard_waits_longer_each_time_and_avoids_the_renderer(farm: Farm) -> None:
    farm.submit(renders=5)
    session = farm.greet()
    for lost in (1, 2):
        assert len(farm.take(session)) == 1
        assert lose(farm) == Reclaimed(expired=1)
        assert farm.waiting() == [], "it backs off"
        farm.later(seconds=int(after_lost(lost).total_seconds()) - 1)
        if lost > 1:
            assert farm.waiting() == []
        farm.later(seconds=2)
        (shard,) = rows(farm)
        assert (shard.lost, shard.tries, shard.avoid) == (lost, 0, (RENDERER,))
    assert attempts(farm) == [(None, "renderer_died")] * 2


def test_a_shard_that_was_only_prefetched_is_not_to_blame(farm: Farm) -> None:
    farm.submit(renders=5)
    farm.take(farm.greet())
    assert lose(farm, blamed=False).expired == 1
    (shard,) = rows(farm)
    assert (shard.lost, shard.avoid) == (0, ())
    assert attempts(farm) == []


def test_an_offer_that_was_lost_is_nobodys_fault(farm: Farm) -> None:
    farm.submit(renders=5)
    farm.take(farm.greet())
    held = farm.held()
    with farm.leading() as tx:
        assert reclaim_shards(tx, [Release(lease) for lease in held]) == Reclaimed(released=1)
    (shard,) = rows(farm)
    assert (shard.lost, shard.avoid) == (0, ())


def test_halves_keep_what_their_parent_had_and_the_loss_is_on_record_once(farm: Farm) -> None:
    farm.submit(renders=5)
    session = farm.greet()
    counts = []
    for _ in range(PATIENCE):
        assert len(farm.take(session)) == 1
        counts.append(lose(farm))
        farm.later()
    assert counts == [Reclaimed(expired=1)] * (PATIENCE - 1) + [Reclaimed(expired=1, bisected=1)]
    assert [(size_of(shard.todo), shard.avoid) for shard in rows(farm)] == [(2, (RENDERER,)), (3, (RENDERER,))]
    assert attempts(farm) == [(None, "renderer_died")] * PATIENCE


def test_a_half_that_stands_alone_has_its_own_patience(farm: Farm) -> None:
    """What was lost before may have been lost for its neighbour."""
    campaign = farm.submit(renders=2, width=2)
    session = farm.greet()
    for _ in range(PATIENCE):
        farm.take(session)
        lose(farm)
        farm.later()
    assert [shard.lost for shard in rows(farm)] == [PATIENCE, PATIENCE]
    for _ in range(PATIENCE - 1):
        assert len(farm.take(session)) == 2
        assert lose(farm).ends == Ends()
        farm.later()
    assert len(farm.take(session)) == 2
    last = lose(farm)
    assert last.poisoned == 2
    assert last.ends == Ends(Counter({(OURS, "failed"): 2}), Counter({FailureKind.RENDERER_DIED: 2}))
    assert farm.state(campaign) is CampaignState.DONE
    with farm.api.as_team(OURS) as tx:
        assert {row.code for row in tx.outcomes(campaign, 0, 2)} == {"renderer_died"}


def test_what_is_lost_of_a_cancelled_campaign_is_not_ready_again(farm: Farm) -> None:
    campaign = farm.submit(renders=5)
    farm.take(farm.greet())
    farm.move(campaign, CampaignState.ACTIVE, CampaignState.CANCELLING)
    lose(farm)
    farm.later()
    assert farm.waiting() == []
    assert farm.counts(campaign).cancelled == 5


def test_a_shard_backs_off_from_the_moment_of_the_loss(farm: Farm) -> None:
    farm.submit(renders=5)
    farm.take(farm.greet())
    before = now(farm)
    lose(farm, name=None)
    assert isinstance(farm.store, MemoryStore)
    (row,) = farm.store.state.shards.rows.values()
    assert before + timedelta(seconds=1) <= row.ready_at <= now(farm) + timedelta(seconds=1)
    assert row.avoid == ()
