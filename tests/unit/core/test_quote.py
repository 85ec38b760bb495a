"""What a campaign costs and when it is done."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.fingerprint import engine_digest
from farm.core.finish import Crowd, TeamAhead, wait_for
from farm.core.quote import expected_seconds, guess_seconds, quote, seconds_by
from farm.core.records import CostRow, LoadCost
from schemas.campaign import Budget
from schemas.quote import Quote, Range
from schemas.recipe import Recipe
from tests.unit.core.samples import lora, recipe

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ALONE = TeamAhead(weight=1.0, ahead_seconds=0.0)
PLAIN = recipe(loras=())
FREE = [LoadCost("H100", "checkpoint", 0.0, 1), LoadCost("H100", "lora", 0.0, 1)]
LOADED = [LoadCost("H100", "checkpoint", 4.0, 9), LoadCost("H100", "lora", 0.5, 9)]


def cost(of: Recipe, seconds: float, gpu: str = "H100", spread: float = 0.0) -> CostRow:
    return CostRow(engine_digest(of.engine_key), gpu, seconds, spread, 200)


def asked(*recipes: tuple[Recipe, int], **changes: Any) -> Quote:
    values: dict[str, Any] = {
        "recipes": recipes,
        "reused": 0,
        "costs": [cost(PLAIN, 0.1)],
        "load_costs": LOADED,
        "prices": {"H100": 3.6},
        "gpus": {"H100": 4},
        "most": 4,
        "team": ALONE,
        "others": [],
        "deadline": None,
        "budget": None,
        "currency": "EUR",
        "now": NOW,
    }
    return quote(**(values | changes))


def test_measured_costs_are_taken_as_they_are() -> None:
    found = asked((PLAIN, 400))  # 15 steps of 0.1 s each
    assert found.renders == 400
    assert found.gpu_seconds.expected == pytest.approx(600 + 4 * 4.0), "and four renderers load the checkpoint"
    assert found.money is not None
    assert found.money.expected == pytest.approx(0.616)
    assert found.wait_seconds.expected == pytest.approx(154)
    assert found.finish_at is not None
    assert found.finish_at[1] == (NOW + timedelta(seconds=154)).isoformat()
    assert (found.measured, found.gpus, found.notes) == (1.0, {"H100": 1.0}, ())


def test_what_was_rendered_before_costs_nothing() -> None:
    half, none = asked((PLAIN, 400), reused=200), asked((PLAIN, 400), reused=400)
    assert half.gpu_seconds.expected == pytest.approx(300 + 4 * 4.0)
    assert (none.gpu_seconds.expected, none.wait_seconds.expected, none.reused) == (0.0, 0.0, 400)
    assert none.notes == ()


def test_nothing_has_a_price_until_an_operator_set_one() -> None:
    assert asked((PLAIN, 400), prices={}).money is None
    assert asked((PLAIN, 400), prices={"T4": 9.0}).money is None
    assert asked((PLAIN, 400), prices={"*": 1.8}).money is not None


def test_types_share_the_work_by_how_quick_and_how_many_they_are() -> None:
    costs = [cost(PLAIN, 0.1), cost(PLAIN, 0.3, "L40S")]
    found = asked(
        (PLAIN, 400), costs=costs, gpus={"H100": 1, "L40S": 3}, prices={"H100": 3.6, "L40S": 0.36}, load_costs=FREE
    )
    assert found.gpus == {"H100": 0.5, "L40S": 0.5}
    assert found.gpu_seconds.expected == pytest.approx(300 + 900)
    assert found.money is not None
    assert found.money.expected == pytest.approx(300 * 0.001 + 900 * 0.0001)


def test_a_guess_has_a_wide_range_and_says_so() -> None:
    found = asked((PLAIN, 400), costs=[], load_costs=FREE)
    assert found.gpu_seconds.expected == pytest.approx(400 * guess_seconds(PLAIN), abs=1e-3)
    assert found.gpu_seconds.high > 3 * found.gpu_seconds.expected
    assert found.measured == 0.0
    assert found.notes == ("100% of the work is with weights that were never rendered with here: its cost is a guess.",)


def test_new_weights_are_guessed_by_the_other_weights_of_the_campaign() -> None:
    """The farm is three times as slow as the guess for what was measured, so it will be for the rest."""
    new = recipe(loras=(lora(1),), size="128x96")
    slow = 3 * guess_seconds(PLAIN) / PLAIN.unet_steps
    found = asked((PLAIN, 100), (new, 100), costs=[cost(PLAIN, slow)], load_costs=FREE)
    assert found.gpu_seconds.expected == pytest.approx(300 * (guess_seconds(PLAIN) + guess_seconds(new)))
    assert 0 < found.measured < 1


def test_new_weights_alone_are_guessed_by_what_the_farm_did_before() -> None:
    found = asked((recipe(loras=(lora(1),)), 400), load_costs=FREE)
    assert found.gpu_seconds.expected == pytest.approx(600)
    assert found.gpu_seconds.high == pytest.approx(1800)


def test_shards_are_cut_by_the_same_reckoning() -> None:
    new = recipe(loras=(lora(1),))
    seconds = seconds_by([cost(PLAIN, 0.1)], {"H100": 2})
    assert [seconds(PLAIN), seconds(new)] == pytest.approx([1.5, 1.5])
    assert seconds_by([], {"H100": 2})(new) == guess_seconds(new)
    assert expected_seconds(recipe(strength=0.0), 0.2) == 0.2, "a render without a step still takes some time"


def test_more_kinds_of_weights_are_loaded_more_often() -> None:
    kinds = [recipe(loras=(lora(n),)) for n in range(10)]
    costs = [cost(one, 0.1) for one in kinds]
    one, ten = asked((kinds[0], 400), costs=costs), asked(*((kind, 40) for kind in kinds), costs=costs)
    assert ten.gpu_seconds.expected - one.gpu_seconds.expected == pytest.approx(9 * 0.5)


def test_a_farm_without_renderers_gives_no_finish_time() -> None:
    found = asked((PLAIN, 400), gpus={}, most=0)
    assert found.finish_at is None
    assert found.gpus == {}
    assert found.gpu_seconds.expected >= 600
    assert "There is no renderer that may render it, so it would wait." in found.notes


def test_a_type_that_is_not_known_costs_the_mean_of_all_prices() -> None:
    found = asked((PLAIN, 400), gpus={"*": 4}, prices={"H100": 3.6, "L40S": 1.8})
    assert found.money is not None
    assert found.money.expected == pytest.approx(found.gpu_seconds.expected * 2.7 / 3600)


def test_a_deadline_or_budget_that_would_break_is_noted() -> None:
    notes = asked((PLAIN, 4000), deadline=NOW + timedelta(minutes=20), budget=Budget(money=5, gpu_seconds=5000)).notes
    assert notes == (
        (
            "The deadline would be missed by about 5 min 4 s. "
            "Fewer renders, a higher priority or more renderers would help."
        ),
        "The budget of 5.00 EUR is too small: about 6.02 EUR are needed.",
        "The budget of 1 h 23 min of GPU time is too small: about 1 h 40 min are needed.",
    )


def test_a_deadline_or_budget_that_may_break_is_noted_as_such() -> None:
    found = asked((PLAIN, 4000))
    assert found.money is not None
    just = NOW + timedelta(seconds=found.wait_seconds.expected + 1)
    notes = asked((PLAIN, 4000), deadline=just, budget=Budget(money=found.money.expected + 0.01)).notes
    assert len(notes) == 2
    assert notes[0].startswith("The deadline may be missed: it could be ")
    assert notes[1].startswith(f"The budget of {found.money.expected + 0.01:,.2f} EUR may be too small: up to ")
    late = NOW + timedelta(seconds=found.wait_seconds.high + 1)
    assert asked((PLAIN, 4000), deadline=late, budget=Budget(money=found.money.high + 1)).notes == ()


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10_000)), min_size=1, max_size=6),
    st.integers(0, 5000),
    st.dictionaries(st.sampled_from(["H100", "L40S", "*"]), st.integers(0, 50)),
    st.integers(0, 100),
    st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, 1e6)), max_size=4),
    st.booleans(),
)
def test_ranges_are_ranges_whatever_is_asked(
    kinds: list[tuple[int, int]],
    reused: int,
    gpus: dict[str, int],
    most: int,
    others: list[tuple[float, float]],
    cold: bool,
) -> None:
    recipes = [(recipe(loras=(lora(kind),)), count) for kind, count in kinds]
    costs = [cost(recipe(loras=(lora(kind),)), 0.1 * (kind + 1), spread=0.02) for kind in (0, 1)]
    found = asked(*recipes, reused=reused, gpus=gpus, most=most, others=others, costs=costs, cold=cold)
    for one in (found.gpu_seconds, found.money, found.wait_seconds):
        if one is not None:
            assert 0 <= one.low <= one.expected + 1e-6
            assert one.expected <= one.high + 1e-6
    assert 0 <= found.measured <= 1
    if any(gpus.values()):
        assert sum(found.gpus.values()) == pytest.approx(1, abs=0.001)
        assert found.finish_at is not None


def test_nine_quotes_in_ten_hold() -> None:
    """Renders whose cost is spread by a third, on a farm that is up to four percent off on the day."""
    random, within = Random(7), 0
    of = recipe()
    found = asked((of, 40), costs=[cost(of, 0.1, spread=0.03)], load_costs=FREE)
    for _ in range(400):
        day = random.gauss(1.0, 0.05)
        actual = sum(15 * random.gauss(0.1, 0.03) for _ in range(40)) * day
        within += found.gpu_seconds.low <= actual <= found.gpu_seconds.high
    assert 0.86 <= within / 400 <= 0.96


# When it is done


def crowd(
    ahead: float = 0.0, *others: tuple[float, float], running: int = 1, most: int = 1, weight: float = 1.0
) -> Crowd:
    return Crowd(running, most, TeamAhead(weight, ahead), others)


def test_alone_a_campaign_has_the_farm() -> None:
    assert crowd().until(100) == 100
    assert crowd(50).until(100) == 150


def test_a_team_with_little_to_do_holds_nobody_up_for_longer_than_that() -> None:
    assert crowd(0, (1.0, 10.0)).until(100) == 110
    assert crowd(0, (1.0, 1e9)).until(100) == 200, "and one with much only by its share"
    assert crowd(0, (1.0, 1e9), weight=3.0).until(90) == 120


def played(own: float, weight: float, others: list[tuple[float, float]], step: float = 0.01) -> float:
    """The slow and obvious way: in each instant every team that has work gets its share by weight."""
    left, passed = [own, *(seconds for _, seconds in others)], 0.0
    weights = [weight, *(w for w, _ in others)]
    while left[0] > 0:
        total = sum(w for w, rest in zip(weights, left, strict=True) if rest > 0)
        left = [rest - step * w / total if rest > 0 else rest for w, rest in zip(weights, left, strict=True)]
        passed += step
    return passed


@given(
    st.floats(0.5, 20),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.lists(st.tuples(st.sampled_from([0.5, 1.0, 4.0]), st.floats(0, 20)), max_size=3),
)
def test_water_filling_agrees_with_playing_it(own: float, weight: float, others: list[tuple[float, float]]) -> None:
    assert crowd(0, *others, weight=weight).until(own) == pytest.approx(played(own, weight, others), abs=0.2)


def test_more_is_woken_for_much_work_and_not_for_little() -> None:
    seconds = Range(low=3000, expected=3000, high=3000)
    found = wait_for(seconds, crowd(running=1, most=10), least=30)
    assert (found.low, found.high) == (300, 3000)
    assert found.expected == pytest.approx(120 + 2880 / 10)
    little = Range(low=200, expected=200, high=200)
    assert wait_for(little, crowd(running=1, most=10), least=30).expected == 200


def test_a_small_campaign_does_not_spread_over_all_renderers() -> None:
    seconds = Range(low=60, expected=60, high=60)
    assert wait_for(seconds, crowd(running=100, most=100), least=30).expected == 30
    seconds = Range(low=6, expected=6, high=6)
    assert wait_for(seconds, crowd(running=100, most=100), least=30).expected == 6


def test_a_cold_farm_takes_longer() -> None:
    seconds = Range(low=60, expected=60, high=60)
    warm = wait_for(seconds, Crowd(4, 4, ALONE, []), least=30)
    cold = wait_for(seconds, Crowd(4, 4, ALONE, [], cold=True), least=30)
    assert (cold.low, cold.expected - warm.expected, cold.high - warm.high) == (warm.low, 120, 300)
