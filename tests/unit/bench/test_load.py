"""The work that arms are given, and the proof that they did it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bench._load import Gpu, check_kept, check_once, divided, no_ops, zipf


@given(renders=st.integers(100, 3_000), loras=st.integers(1, 30), workers=st.integers(1, 8))
def test_every_lora_is_wanted_and_no_render_is_lost(renders: int, loras: int, workers: int) -> None:
    load = zipf(renders, loras=loras, seconds=0.05, switch_seconds=0.5, workers=workers)
    counts = [load.loras.count(lora) for lora in range(loras)]
    assert sum(counts) == load.renders == renders
    assert min(counts) >= 1
    assert list(load.loras) == sorted(load.loras)


@given(renders=st.integers(100, 3_000), loras=st.integers(1, 30), workers=st.integers(1, 8))
def test_loras_are_divided_so_that_no_worker_could_give_one_away(renders: int, loras: int, workers: int) -> None:
    load = zipf(renders, loras=loras, seconds=0.05, switch_seconds=0.5, workers=workers)
    shares = divided(load)
    assert sorted(lora for share in shares for lora in share) == list(range(loras))
    sizes = [sum(load.loras.count(lora) for lora in share) for share in shares]
    most = max(range(workers), key=lambda worker: sizes[worker])
    assert all(sizes[most] - load.loras.count(shares[most][-1]) <= size for size in sizes)


def test_the_least_makespan_counts_a_load_for_every_lora_and_every_worker() -> None:
    load = zipf(100, loras=2, seconds=0.1, switch_seconds=1.0, workers=4)
    assert load.least_seconds() == pytest.approx((100 * 0.1 + 4 * 1.0) / 4)
    load = zipf(100, loras=6, seconds=0.1, switch_seconds=1.0, workers=4)
    assert load.least_seconds() == pytest.approx((100 * 0.1 + 6 * 1.0) / 4)


def test_a_gpu_pays_for_another_lora_and_not_for_the_same() -> None:
    gpu = Gpu(0.05, 0.5)
    assert [gpu.cost(n, lora) for n, lora in enumerate((3, 3, 1, 3))] == pytest.approx([0.55, 0.05, 0.55, 0.55])
    assert gpu.switches == 3
    assert gpu.done == [0, 1, 2, 3]


@pytest.mark.parametrize("done", [[0, 1], [0, 1, 2, 2], [0, 1, 1], [0, 1, 3]])
def test_a_render_that_was_left_out_or_done_twice_is_noticed(done: list[int]) -> None:
    with pytest.raises(RuntimeError, match="somebody"):
        check_once(no_ops(3), done, "somebody")


@pytest.mark.parametrize("kept", [[7, 8], [7, 8, 9, 9], [7, 8, 8]])
def test_outcomes_that_are_missing_or_there_twice_are_noticed(kept: list[int]) -> None:
    with pytest.raises(RuntimeError, match="somebody"):
        check_kept(no_ops(3), kept, "somebody")


def test_renders_done_in_any_order_pass() -> None:
    check_once(no_ops(3), [2, 0, 1], "somebody")
    check_kept(no_ops(3), [900, 7, 8], "somebody")
