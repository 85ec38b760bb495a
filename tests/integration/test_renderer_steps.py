"""A renderer between two steps: who joins, who overtakes, who leaves, what comes meanwhile, how time is counted."""

import threading
import time
from collections.abc import Callable, Hashable

import pytest

from actors.admission import UNPUBLISHED_PASSES
from actors.engine.fake import STEPS
from actors.engine.port import Ended, Refused, Rendered, Row, Weights
from actors.ledger import Stage
from actors.renderer import Renderer
from schemas.order import Lane, ShardOrder
from schemas.report import Collected, Failure, FailureKind, GpuTime, Tried
from tests.unit.actors.driving import Make, Recorder, Stepper
from tests.unit.actors.support import (
    Depot,
    Scheduler,
    lora,
    order,
    picture,
    recipe,
    row,
    rows_of,
)


def one_row(
    depot: Depot, ordinal: int, shard: int, prompt: str, *, data: bytes = b"", lane: Lane = Lane.BULK
) -> ShardOrder:
    """With a LoRA of its own if there is *data*."""
    ref, used = lora(depot, data, name=prompt)
    loras = (used,) if data else ()
    made = row(ordinal, recipe(depot.add(picture()), prompt=prompt, loras=loras), depot)
    return order([made], depot, shard=shard, loras=(ref,) if data else (), lane=lane)


def until(renderer: Renderer, done: Callable[[], bool]) -> None:
    with renderer._shared.changed:
        assert renderer._shared.changed.wait_for(done, 20)


def at_hand(renderer: Renderer, shard: int) -> Callable[[], bool]:
    """All that a shard's rows need has come."""

    def true() -> bool:
        shared = renderer._shared
        rows = [found for found in shared.sources.visible(shared.ledger.queue()) if found[1].shard == shard]
        return bool(rows) and all(hand.weights is not None and row.inputs in shared.sources for hand, _, row in rows)

    return true


def prompts(engine: Recorder) -> list[str]:
    return ["+".join(sorted(each.prompt for each in rows)) for rows in engine.passes]


def test_a_row_joins_while_another_is_in_the_middle(depot: Depot, make: Make) -> None:
    steps = Stepper(1)
    engine = Recorder(sleep=steps)
    renderer = make(engine)
    renderer.offer(one_row(depot, 0, 1, "first").model_dump_json())
    steps.until(2)
    renderer.offer(one_row(depot, 1, 2, "second").model_dump_json())
    until(renderer, at_hand(renderer, 2))
    steps.allow(9)
    assert {each.tried for each in Scheduler(renderer).all_of(2).values()} == {Tried.SUCCEEDED}
    assert prompts(engine) == ["first"] * 2 + ["first+second"] * (STEPS - 2) + ["second"] * 2


def test_a_preview_overtakes_bulk_that_is_in_the_middle_and_bulk_goes_on_afterwards(depot: Depot, make: Make) -> None:
    steps = Stepper(1)
    engine = Recorder(sleep=steps)
    renderer = make(engine)
    renderer.offer(one_row(depot, 0, 1, "bulk", data=b"one").model_dump_json())
    steps.until(2)
    preview = one_row(depot, 1, 2, "preview", data=b"two", lane=Lane.INTERACTIVE)
    renderer.offer(preview.model_dump_json())
    until(renderer, at_hand(renderer, 2))
    steps.allow(9)
    assert {each.tried for each in Scheduler(renderer).all_of(2).values()} == {Tried.SUCCEEDED}
    assert prompts(engine) == ["bulk"] * 2 + ["preview"] * STEPS + ["bulk"] * 2
    assert [[each.digest for each in weights.loras] for weights in engine.loaded] == [
        [depot.add(b"one")],
        [depot.add(b"two")],
        [depot.add(b"one")],
    ]
    assert read(renderer)[1].swap > 0


@pytest.mark.parametrize(("lane", "count"), [(Lane.BULK, 1), (Lane.INTERACTIVE, 2)])
def test_only_the_single_row_of_an_interactive_order_is_alone(depot: Depot, make: Make, lane: Lane, count: int) -> None:
    engine = Recorder()
    renderer = make(engine)
    renderer.offer(order(rows_of(depot, count), depot, lane=lane).model_dump_json())
    Scheduler(renderer).all_of(count)
    renderer.offer(one_row(depot, 9, 2, "alone", lane=Lane.INTERACTIVE).model_dump_json())
    Scheduler(renderer).all_of(count + 1)
    assert [each.lone for each in engine.begun] == [False] * count + [True]


def test_a_cancelled_row_leaves_at_the_next_step_and_its_neighbour_goes_on(depot: Depot, make: Make) -> None:
    steps = Stepper(0)
    engine = Recorder(sleep=steps)
    renderer = make(engine)
    source = depot.gates[f"/{depot.add(picture())}"] = threading.Event()  # both rows begin together
    for shard, prompt in ((1, "cancelled"), (2, "neighbour")):
        renderer.offer(one_row(depot, shard, shard, prompt).model_dump_json())
    until(renderer, lambda: all(hand.weights is not None for hand in renderer._shared.ledger.hands()))
    source.set()
    steps.until(1)
    steps.allow(1)
    steps.until(1)
    renderer.revoke(1, [1])
    steps.allow(9)
    rows = Scheduler(renderer).all_of(2)
    assert (rows[1].tried, rows[2].tried) == (Tried.HANDED_BACK, Tried.SUCCEEDED)
    assert rows[1].seconds.denoise > 0
    assert "/out/1/picture" not in depot.objects
    assert prompts(engine) == ["cancelled+neighbour"] * 2 + ["neighbour"] * (STEPS - 2)


def test_the_next_shards_weights_are_staged_while_this_one_renders(depot: Depot, make: Make) -> None:
    steps, staged = Stepper(0), threading.Event()

    class Staging(Recorder):
        def stage(self, weights: Weights) -> None:
            super().stage(weights)
            if weights.loras:
                staged.set()

    engine = Staging(sleep=steps)
    renderer = make(engine)
    renderer.offer(one_row(depot, 0, 1, "first").model_dump_json())
    steps.until(1)
    renderer.offer(one_row(depot, 1, 2, "second", data=b"lora").model_dump_json())
    assert staged.wait(20)
    assert [each.loras for each in engine.loaded] == [()], "only the first is loaded"
    steps.allow(20)
    Scheduler(renderer).all_of(2)
    assert engine.loaded[-1] == engine.staged[-1]


def test_the_next_style_does_not_fetch_the_same_sources_again(depot: Depot, make: Make) -> None:
    renderer = make()
    scheduler = Scheduler(renderer)
    sources = [depot.add(picture(colour)) for colour in ("red", "green", "blue")]
    for shard, prompt in enumerate(("oil", "ink")):
        rows = [row(10 * shard + n, recipe(source, prompt=prompt), depot) for n, source in enumerate(sources)]
        renderer.offer(order(rows, depot, shard=shard).model_dump_json())
        scheduler.all_of(3 * (shard + 1))
    assert [depot.asked[f"GET /{source}"] for source in sources] == [1, 1, 1]


def test_no_row_begins_while_too_many_pictures_are_not_uploaded(depot: Depot, make: Make) -> None:
    count, most = 30, UNPUBLISHED_PASSES * 2
    engine = Recorder()
    renderer = make(engine)
    gates = [depot.gates.setdefault(f"/out/{number}/picture", threading.Event()) for number in range(count)]
    renderer.offer(order(rows_of(depot, count), depot).model_dump_json())
    shared = renderer._shared
    # `busy` is empty only once the GPU thread has found nothing that it may do
    until(renderer, lambda: shared.ledger.unpublished() >= most and not shared.busy)
    assert most <= len(engine.begun) < most + 2
    renderer.offer(one_row(depot, 99, 2, "preview", lane=Lane.INTERACTIVE).model_dump_json())
    assert Scheduler(renderer).all_of(1)[99].tried is Tried.SUCCEEDED, "there are few previews, and somebody waits"
    for gate in gates:
        gate.set()
    assert {each.tried for each in Scheduler(renderer).all_of(count + 1).values()} == {Tried.SUCCEEDED}


def test_a_row_that_ends_when_it_begins_takes_no_step(depot: Depot, make: Make) -> None:
    class AtOnce(Recorder):
        def begin(self, id: Hashable, row: Row) -> Ended | None:  # noqa: A002 - the port's name for it
            super().begin(id, row)
            self.drop([id])
            return Ended(id, Rendered(lambda: row.picture))

    engine = AtOnce()
    renderer = make(engine)
    renderer.offer(order(rows_of(depot, 3), depot).model_dump_json())
    assert {each.tried for each in Scheduler(renderer).all_of(3).values()} == {Tried.SUCCEEDED}
    assert engine.passes == []
    assert read(renderer)[1].passes == 0


def test_weights_that_are_refused_when_bulk_goes_on_leave_nothing_in_the_engine(depot: Depot, make: Make) -> None:
    """A preview of another LoRA came between, and by then the first LoRA cannot be had any more."""
    failure = Failure(kind=FailureKind.BAD_WEIGHTS, code="gone", detail="No.")

    class Forgetful(Recorder):
        def load(self, weights: Weights) -> None:
            if len(self.loaded) == 2:
                self.loaded.append(weights)
                raise Refused(failure.kind, failure.code, failure.detail)
            super().load(weights)

    steps = Stepper(1)
    engine = Forgetful(batch=1, sleep=steps)
    renderer = make(engine, batch=1)
    scheduler = Scheduler(renderer)
    renderer.offer(one_row(depot, 0, 1, "bulk", data=b"one").model_dump_json())
    steps.until(2)
    renderer.offer(one_row(depot, 1, 2, "preview", data=b"two", lane=Lane.INTERACTIVE).model_dump_json())
    until(renderer, at_hand(renderer, 2))
    steps.allow(100)
    rows = scheduler.all_of(2)
    assert (rows[0].failure, rows[1].tried) == (failure, Tried.SUCCEEDED)
    renderer.offer(one_row(depot, 2, 3, "next").model_dump_json())
    assert scheduler.all_of(3)[2].tried is Tried.SUCCEEDED


def test_what_the_gpu_thread_does_adds_up_to_the_time_that_passed(depot: Depot, make: Make) -> None:
    renderer = make(Recorder())
    first = read(renderer)
    renderer.offer(order(rows_of(depot, 5), depot).model_dump_json())
    Scheduler(renderer).all_of(5)
    until(renderer, lambda: not renderer._shared.busy)
    last = read(renderer)
    told = total(last[1]) - total(first[1])
    assert last[0] - first[2] <= told <= last[2] - first[0]
    assert last[1].denoise > 0
    assert last[1].load > 0
    assert last[1].swap == 0
    assert last[1].rows == 5 * STEPS
    assert 3 * STEPS <= last[1].passes <= 5 * STEPS


def read(renderer: Renderer) -> tuple[float, GpuTime, float]:
    began = time.monotonic()
    gpu = Collected.model_validate_json(renderer.collect(1, 0, 0)).gpu
    return began, gpu, time.monotonic()


def total(gpu: GpuTime) -> float:
    return gpu.encode + gpu.denoise + gpu.decode + gpu.load + gpu.swap + gpu.wait + gpu.idle


def test_waiting_for_pictures_and_having_nothing_to_do_are_told_apart(depot: Depot, make: Make) -> None:
    renderer = make(Recorder())
    until(renderer, lambda: not renderer._shared.busy)
    idle = read(renderer)[1]
    gate = depot.gates[f"/{depot.add(picture())}"] = threading.Event()
    renderer.offer(one_row(depot, 0, 1, "late").model_dump_json())
    until(renderer, lambda: renderer._shared.ledger.count(Stage.WAITING) == 1)
    renderer.collect(1, 0, 0.2)
    waited = read(renderer)[1]
    assert waited.wait - idle.wait >= 0.15
    gate.set()
    Scheduler(renderer).all_of(1)
    until(renderer, lambda: not renderer._shared.busy)
    renderer.collect(1, 10**18, 0.2)
    assert read(renderer)[1].idle - waited.idle >= 0.15


def test_no_count_of_the_gpu_falls_when_it_is_read_while_the_gpu_thread_waits_for_the_lock(
    depot: Depot, make: Make
) -> None:
    class Held(Recorder):
        reached, go = threading.Event(), threading.Event()

        def begin(self, id: Hashable, row: Row) -> Ended | None:  # noqa: A002 - the port's name for it
            self.reached.set()
            assert self.go.wait(20)
            return super().begin(id, row)

    engine = Held()
    renderer = make(engine)
    renderer.offer(one_row(depot, 0, 1, "only").model_dump_json())
    assert engine.reached.wait(20)
    with renderer._shared.changed:
        engine.go.set()
        time.sleep(0.2)  # it has begun, and would now count what comes next
        before = renderer._shared.clock.read(time.monotonic())
    Scheduler(renderer).all_of(1)
    assert renderer._shared.clock.read(time.monotonic()).encode >= before.encode
