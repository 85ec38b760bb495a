"""Tables of coefficients against diffusers' schedulers, over random numbers in the place of a UNet's output."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, LCMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from actors.engine import timetables
from actors.engine.base_config import SAMPLER
from actors.engine.port import Refused, Row
from actors.engine.samplers import Prediction, Step, noise_levels, sigma_at
from actors.engine.timetables import Noise
from schemas.style import Sampler, StrengthMode

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with numpy 2
SHAPE = (1, 4, 6, 6)
SEED = 11
TRAINING = np.geomspace(0.03, 14.6, 1000)


def config(**changes: object) -> dict[str, Any]:
    return {**SAMPLER, **changes}


def noise_of(**changes: object) -> Noise:
    return Noise(EulerDiscreteScheduler.from_config(config(**changes)))  # type: ignore[no-untyped-call]


def a_row(sampler: Sampler, mode: StrengthMode, strength: float, steps: int) -> Row:
    return Row("s", Image.new("RGB", (64, 64)), "", "", 0, "64x64", strength, steps, 5.0, sampler, mode)


def drawn(seed: int, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(SHAPE, generator=generator) for _ in range(count)]


def ours(steps: tuple[Step, ...]) -> tuple[list[Tensor], Tensor, float]:
    """What the UNet sees at each step, the end, and the largest number on the way; in float64."""
    source, noise, *outs = (each.double() for each in drawn(SEED, len(steps) + 2))
    generator = torch.Generator().manual_seed(SEED + 1)
    x, before, seen, largest = source + steps[0].sigma * noise, torch.zeros(SHAPE).double(), [], 1.0
    for step, out in zip(steps, outs, strict=True):
        seen.append(x * step.scale)
        largest = max(largest, float(x.abs().max()))
        x0 = step.p * x + step.q * out
        x = step.a * x + step.b * x0 + step.c * before
        if step.d:
            x = x + step.d * torch.randn(SHAPE, generator=generator).double()
        before = x0
    return seen, x, largest


def theirs(scheduler: Any, begin: int) -> tuple[list[Tensor], Tensor]:
    """The same of a diffusers scheduler that has its timesteps, driven as the image-to-image pipeline drives it."""
    timesteps = scheduler.timesteps[begin:]
    scheduler.set_begin_index(begin)
    source, noise, *outs = drawn(SEED, len(timesteps) + 2)
    generator = torch.Generator().manual_seed(SEED + 1)
    x, seen = scheduler.add_noise(source, noise, timesteps[:1]), []
    more = {} if isinstance(scheduler, EulerDiscreteScheduler) else {"generator": generator}
    for timestep, out in zip(timesteps, outs, strict=True):
        seen.append(scheduler.scale_model_input(x, timestep))
        x = scheduler.step(out, timestep, x, **more, return_dict=False)[0]
    return seen, x


def assert_same(steps: tuple[Step, ...], scheduler: Any, begin: int) -> None:
    assert [step.timestep for step in steps] == pytest.approx(scheduler.timesteps[begin:].tolist(), abs=1e-3)
    (seen, end, largest), (their_seen, their_end) = ours(steps), theirs(scheduler, begin)
    for mine, other in zip([*seen, end], [*their_seen, their_end], strict=True):
        assert (mine - other).abs().max() <= 3e-6 * largest + 3e-5


def scheduler_of(sampler: Sampler, given: dict[str, Any]) -> Any:
    match sampler:
        case Sampler.EULER:
            return EulerDiscreteScheduler.from_config(given)  # type: ignore[no-untyped-call]
        case Sampler.DPMPP_2M:
            return timetables.solver_from(given)
        case Sampler.LCM:
            return LCMScheduler.from_config(given)  # type: ignore[no-untyped-call]


configs = st.fixed_dictionaries(
    {
        "prediction_type": st.sampled_from([kind.value for kind in Prediction]),
        "timestep_spacing": st.sampled_from(["leading", "trailing", "linspace"]),
        "steps_offset": st.sampled_from([0, 1]),
        "final_sigmas_type": st.sampled_from(["zero", "sigma_min"]),
        "beta_schedule": st.sampled_from(["scaled_linear", "linear"]),
    }
)


@pytest.mark.parametrize("sampler", list(Sampler))
@settings(deadline=None, max_examples=40)
@given(changes=configs, steps=st.integers(1, 50), strength=st.floats(0.02, 1.0))
def test_steps_in_diffusers_mode_are_those_of_its_scheduler(
    sampler: Sampler, changes: dict[str, Any], steps: int, strength: float
) -> None:
    found = noise_of(**changes).steps(a_row(sampler, StrengthMode.DIFFUSERS, strength, steps))
    taken = int(steps * strength)
    assert len(found) == taken
    if taken:
        scheduler = scheduler_of(sampler, config(**changes))
        scheduler.set_timesteps(steps)
        assert_same(found, scheduler, steps - taken)


@pytest.mark.parametrize("sampler", list(Sampler))
def test_checkpoints_trained_down_to_no_signal_are_stepped_as_diffusers_does(sampler: Sampler) -> None:
    changes = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    found = noise_of(**changes).steps(a_row(sampler, StrengthMode.DIFFUSERS, 1.0, 8))
    scheduler = scheduler_of(sampler, config(**changes))
    scheduler.set_timesteps(8)
    if sampler is Sampler.LCM:  # it begins at no signal at all; ours at 2^-24 of it, as the other two do
        scheduler.alphas_cumprod[-1] = 2**-24
    assert found[0].sigma > 1000
    assert_same(found, scheduler, 0)


@pytest.mark.parametrize("kind", list(Prediction))
@settings(deadline=None, max_examples=25)
@given(steps=st.integers(1, 40), strength=st.floats(0.05, 1.0))
def test_steps_from_a_noise_level_are_eulers(kind: Prediction, steps: int, strength: float) -> None:
    found = noise_of(prediction_type=kind.value).steps(a_row(Sampler.EULER, StrengthMode.NOISE, strength, steps))
    scheduler = scheduler_of(Sampler.EULER, config(prediction_type=kind.value))
    scheduler.set_timesteps(sigmas=[*(step.sigma for step in found), 0.0])
    scheduler.timesteps = torch.tensor([step.timestep for step in found])  # its own are found back from the sigmas
    assert_same(found, scheduler, 0)


@pytest.mark.parametrize("kind", list(Prediction))
@settings(deadline=None, max_examples=25)
@given(steps=st.integers(1, 40), strength=st.floats(0.05, 1.0))
def test_steps_from_a_noise_level_are_those_of_dpmpp_2m(kind: Prediction, steps: int, strength: float) -> None:
    found = noise_of(prediction_type=kind.value).steps(a_row(Sampler.DPMPP_2M, StrengthMode.NOISE, strength, steps))
    scheduler = scheduler_of(Sampler.DPMPP_2M, config(prediction_type=kind.value))
    scheduler.set_timesteps(steps)
    scheduler.sigmas = torch.tensor([*(step.sigma for step in found), 0.0])
    scheduler.timesteps = torch.tensor([step.timestep for step in found])
    assert_same(found, scheduler, 0)


@pytest.mark.parametrize("kind", list(Prediction))
@pytest.mark.parametrize(("strength", "steps"), [(1.0, 4), (0.5, 5), (0.3, 2), (0.02, 1)])
def test_steps_from_a_noise_level_are_those_of_lcm(kind: Prediction, strength: float, steps: int) -> None:
    found = noise_of(prediction_type=kind.value).steps(a_row(Sampler.LCM, StrengthMode.NOISE, strength, steps))
    scheduler = scheduler_of(Sampler.LCM, config(prediction_type=kind.value))
    scheduler.set_timesteps(timesteps=[round(step.timestep) for step in found])
    assert_same(found, scheduler, 0)


def test_dpmpp_2m_runs_down_the_noise_levels_of_karras() -> None:
    """At full strength they are diffusers' own."""
    found = noise_of().steps(a_row(Sampler.DPMPP_2M, StrengthMode.NOISE, 1.0, 20))
    scheduler = scheduler_of(Sampler.DPMPP_2M, config())
    scheduler.set_timesteps(20)
    assert [step.sigma for step in found] == pytest.approx(scheduler.sigmas[:-1].tolist(), rel=1e-5)


@given(
    strengths=st.tuples(st.floats(1e-4, 1.0), st.floats(1e-4, 1.0)),
    steps=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    samplers=st.tuples(st.sampled_from(Sampler), st.sampled_from(Sampler)),
)
def test_strength_alone_says_where_the_noise_begins(
    strengths: tuple[float, float], steps: tuple[int, int], samplers: tuple[Sampler, Sampler]
) -> None:
    low, high = sorted(strengths)
    levels = noise_levels(samplers[0], TRAINING, strength=low, steps=steps[0])
    others = noise_levels(samplers[1], TRAINING, strength=low, steps=steps[1])
    assert levels.sigmas[0] == pytest.approx(others.sigmas[0])
    more = noise_levels(samplers[1], TRAINING, strength=high, steps=steps[1])
    assert more.sigmas[0] > levels.sigmas[0] or high - low < 1e-9


@given(strength=st.floats(1e-4, 1.0), steps=st.integers(1, 150), sampler=st.sampled_from(Sampler))
def test_every_step_goes_down_and_the_last_ends_without_noise(strength: float, steps: int, sampler: Sampler) -> None:
    levels = noise_levels(sampler, TRAINING, strength=strength, steps=steps)
    assert len(levels.timesteps) == steps == len(levels.sigmas) - 1
    assert levels.sigmas[-1] == 0
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(levels.sigmas))
    assert all(0 <= timestep <= 999 for timestep in levels.timesteps)


def test_a_strength_that_is_a_whole_timestep_begins_at_its_noise() -> None:
    assert sigma_at(TRAINING, np.array([0.0, 499.0, 999.0])) == pytest.approx(TRAINING[[0, 499, 999]])
    between = sigma_at(TRAINING, np.array([499.5]))[0]
    assert between == pytest.approx((TRAINING[499] * TRAINING[500]) ** 0.5)


@given(strength=st.floats(1e-5, 1.0), steps=st.integers(1, 150), sampler=st.sampled_from(Sampler))
@settings(deadline=None)
def test_coefficients_are_numbers_whatever_the_strength(strength: float, steps: int, sampler: Sampler) -> None:
    for step in noise_of().steps(a_row(sampler, StrengthMode.NOISE, strength, steps)):
        assert np.isfinite(step).all()


def test_more_steps_than_lcm_was_distilled_with_are_taken_from_a_finer_grid() -> None:
    found = noise_of().steps(a_row(Sampler.LCM, StrengthMode.DIFFUSERS, 1.0, 80))
    assert len({step.timestep for step in found}) == 80


def test_a_checkpoint_trained_with_another_kind_of_noise_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        noise_of(prediction_type="flow_prediction")
    assert refused.value.failure.code == "checkpoint_other_noise"
