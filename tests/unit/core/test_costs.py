"""What work costs, by weights and type of GPU."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.costs import load_seconds, price_of, speeds, step_seconds
from farm.core.ids import TeamId
from farm.core.records import CostRow, LoadCost

TEAM = TeamId(1)


def cost(key: str, gpu: str, seconds: float, *, spread: float = 0.0, renders: int = 50) -> CostRow:
    return CostRow(key, gpu, seconds, spread, renders)


def test_a_type_without_a_price_of_its_own_has_the_common_one() -> None:
    prices = {"H100": 3.6, "*": 1.0}
    assert [price_of(prices, gpu) for gpu in ("H100", "L40S", "")] == [3.6, 1.0, 1.0]
    assert price_of({"H100": 3.6}, "L40S") == 0.0


def test_loading_is_guessed_until_it_was_measured_there_or_elsewhere() -> None:
    assert (load_seconds([], "H100", "checkpoint"), load_seconds([], "H100", "lora")) == (10.0, 1.0)
    rows = [LoadCost("H100", "lora", 0.2, 3), LoadCost("L40S", "lora", 0.5, 1), LoadCost("T4", "lora", 9.0, 0)]
    assert load_seconds(rows, "L40S", "lora") == 0.5
    assert load_seconds(rows, "T4", "lora") == pytest.approx(0.275), "the mean of all loads elsewhere"
    assert load_seconds(rows, "H100", "checkpoint") == 10.0


def test_a_type_that_compares_with_nothing_counts_as_the_mean() -> None:
    assert speeds([]) == {}
    assert speeds([(TEAM, cost("a", "H100", 0.1)), (TEAM, cost("b", "T4", 0.9))]) == {"H100": 1.0, "T4": 1.0}


@given(
    st.dictionaries(st.sampled_from(["H100", "L40S", "A10", "T4"]), st.floats(0.1, 10), min_size=2),
    st.lists(st.floats(0.001, 5), min_size=1, max_size=6),
    st.data(),
)
def test_speeds_are_found_again_from_steps_that_follow_them(
    true: dict[str, float], weights: list[float], data: st.DataObject
) -> None:
    """The first weights were measured on every type, so that all compare; of the others any may be missing."""
    rows = []
    for number, seconds in enumerate(weights):
        types = sorted(true)
        if number:
            types = data.draw(st.lists(st.sampled_from(types), unique=True, min_size=1))
        rows += [(TEAM, cost(f"key-{number}", gpu, seconds / true[gpu])) for gpu in types]
    found = speeds(rows)
    middle = 1.0
    for speed in true.values():
        middle *= speed ** (1 / len(true))
    assert found == pytest.approx({gpu: speed / middle for gpu, speed in true.items()}, rel=0.02)


def test_the_same_digest_of_two_teams_is_two_weights() -> None:
    assert speeds([(TeamId(1), cost("a", "H100", 0.1)), (TeamId(2), cost("a", "T4", 0.9))]) == {"H100": 1.0, "T4": 1.0}


def test_a_step_that_was_never_measured_is_not_known() -> None:
    assert step_seconds([cost("a", "H100", 0.1)], "b", {"H100": 1}) == (0.0, 0.0, False)
    assert not step_seconds([cost("a", "H100", 0.1, renders=0)], "a", {"H100": 1}).measured


def test_a_step_on_one_type_is_what_was_measured_there() -> None:
    rows = [cost("a", "H100", 0.1, spread=0.01), cost("a", "T4", 0.9)]
    assert list(step_seconds(rows, "a", {"H100": 3})) == pytest.approx([0.1, 0.01, True])
    assert step_seconds(rows, "a", ["H100"]).mean == pytest.approx(0.1)


def test_quick_types_do_more_of_the_work() -> None:
    rows = [cost("a", "H100", 0.1), cost("a", "T4", 0.9)]
    # Nine steps on the one while there is one on the other: ten steps in 1.8 GPU seconds.
    assert step_seconds(rows, "a", {"H100": 1, "T4": 1}).mean == pytest.approx(0.18)
    assert step_seconds(rows, "a", {"H100": 1, "T4": 9}).mean == pytest.approx(0.5)
    assert step_seconds(rows, "a", {"H100": 1, "T4": 0}).mean == pytest.approx(0.1)


def test_a_type_on_which_these_weights_are_new_is_reckoned_by_how_types_compare() -> None:
    rows = [cost("a", "H100", 0.1), cost("a", "T4", 0.4), cost("b", "T4", 0.8, spread=0.08)]
    found = step_seconds(rows, "b", {"H100": 1})
    assert list(found) == pytest.approx([0.2, 0.02, True], rel=0.01)


@given(
    st.dictionaries(st.sampled_from(["H100", "L40S", "T4"]), st.floats(0.001, 5), min_size=1),
    st.dictionaries(st.sampled_from(["H100", "L40S", "T4", "B200"]), st.integers(0, 9)),
)
def test_a_mean_lies_between_the_types(measured: dict[str, float], gpus: dict[str, int]) -> None:
    found = step_seconds([cost("a", gpu, seconds) for gpu, seconds in measured.items()], "a", gpus)
    assert found.measured
    if {gpu for gpu, count in gpus.items() if count} <= measured.keys():
        assert min(measured.values()) - 1e-9 <= found.mean <= max(measured.values()) + 1e-9
    assert found.mean > 0
    assert found.spread >= 0
