"""Which shard goes to which renderer."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from farm.core.ids import RendererName, Session, ShardId
from farm.core.placement import CHECKPOINT_SECONDS, LORA_SECONDS, SLOTS, Free, Placed, Waiting, load_seconds, place


def waiting(shard: int, key: str = "a", *, checkpoint: str = "c", priority: int = 50, waited: float = 0.0) -> Waiting:
    return Waiting(ShardId(shard), key, checkpoint, priority, waited, 30.0)


def free(name: str, key: str = "", *, checkpoint: str = "c", held: int = 0) -> Free:
    return Free(RendererName(name), Session(f"s-{name}"), held, key, checkpoint)


def pairs(placed: list[Placed]) -> list[tuple[int, str]]:
    return [(p.shard, p.name) for p in placed]


def test_a_renderer_gets_what_it_is_warm_for() -> None:
    found = place([waiting(1, "a"), waiting(2, "b")], [free("x", "b", held=1), free("y", "a", held=1)])
    assert sorted(pairs(found)) == [(1, "y"), (2, "x")]


def test_another_lora_is_nearer_than_another_checkpoint() -> None:
    warm = free("x", "a", checkpoint="c")
    assert load_seconds(warm, waiting(1, "a")) == 0
    assert load_seconds(warm, waiting(1, "b")) == LORA_SECONDS
    assert load_seconds(warm, waiting(1, "b", checkpoint="d")) == CHECKPOINT_SECONDS
    far, near = waiting(1, "b", checkpoint="d"), waiting(2, "e")
    assert pairs(place([far, near], [free("x", "a", held=1)])) == [(2, "x")]


def test_age_beats_warmth_once_a_shard_has_waited_as_long_as_loading_takes() -> None:
    renderer = free("x", "a", held=1)
    for waited, first in ((CHECKPOINT_SECONDS - 0.1, 2), (CHECKPOINT_SECONDS + 0.1, 1)):
        cold, warm = waiting(1, "b", checkpoint="d", waited=waited), waiting(2, "a")
        assert pairs(place([cold, warm], [renderer])) == [(first, "x")]


def test_of_equals_the_older_goes_first() -> None:
    assert pairs(place([waiting(2), waiting(1)], [free("x", held=1)])) == [(1, "x")]


def test_higher_priority_goes_first_however_cold_and_young() -> None:
    old, urgent = waiting(1, "a", waited=9999), waiting(2, "b", checkpoint="d", priority=51)
    assert pairs(place([old, urgent], [free("x", "a", held=1)])) == [(2, "x")]


def test_idle_renderers_come_before_those_that_would_only_prefetch() -> None:
    found = place([waiting(1), waiting(2)], [free("a", held=1), free("b"), free("c")])
    assert sorted(pairs(found)) == [(1, "b"), (2, "c")]


def test_the_second_shard_is_chosen_for_what_the_first_leaves_warm() -> None:
    shards = [waiting(1, "b", waited=5), waiting(2, "a", waited=0), waiting(3, "b", waited=0)]
    assert pairs(place(shards, [free("x", "a")])) == [(1, "x"), (3, "x")]


def test_a_full_renderer_gets_nothing() -> None:
    assert place([waiting(1)], [free("x", held=2)]) == []
    assert place([], [free("x")]) == []


SHARDS = st.lists(
    st.builds(
        waiting,
        st.integers(1, 10**6),
        st.sampled_from("abc"),
        checkpoint=st.sampled_from("cd"),
        priority=st.sampled_from([0, 50, 100]),
        waited=st.integers(0, 100_000).map(lambda n: n / 1024) | st.integers(0, 12).map(float),  # sums are exact
    ),
    unique_by=lambda shard: shard.shard,
    max_size=25,
)
RENDERERS = st.lists(
    st.builds(
        free,
        st.text("xyz", min_size=1),
        st.sampled_from("abc"),
        checkpoint=st.sampled_from("cd"),
        held=st.integers(0, 2),
    ),
    unique_by=lambda renderer: renderer.name,
    max_size=8,
)


@given(SHARDS, RENDERERS)
def test_each_choice_is_the_best_that_was_left(shards: list[Waiting], renderers: list[Free]) -> None:
    """Looking at every shard each time says the same, only far slower."""
    left, now = list(shards), {renderer.name: renderer for renderer in renderers}
    for placed in place(shards, renderers):
        renderer = now[placed.name]
        top = [shard for shard in left if shard.priority == max(s.priority for s in left)]
        best = min(top, key=lambda shard: (load_seconds(renderer, shard) - shard.waited, shard.shard))
        assert placed.shard == best.shard
        left.remove(best)
        now[placed.name] = replace(renderer, engine_key=best.engine_key, checkpoint=best.checkpoint)


@given(SHARDS, RENDERERS)
def test_every_slot_is_filled_and_none_twice(shards: list[Waiting], renderers: list[Free]) -> None:
    found = place(shards, renderers)
    assert len({p.shard for p in found}) == len(found)
    given_to = Counter(p.name for p in found)
    slots = {renderer.name: SLOTS - renderer.held for renderer in renderers}
    assert all(given_to[name] <= slots[name] for name in given_to)
    assert len(found) == min(len(shards), sum(slots.values()))
    priorities = {shard.shard: shard.priority for shard in shards}
    taken = [priorities[p.shard] for p in found]
    assert taken == sorted(priorities.values(), reverse=True)[: len(found)]
