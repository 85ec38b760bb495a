"""Pure: what a sampler does at each step of a row, as numbers.

Latents are kept as x = x0 + sigma * noise (Karras et al., arXiv 2206.00364) whatever the sampler; the UNet, which was
trained on alpha * x0 + sigma' * noise, sees them times ``scale``. One step is then the same few products for every
sampler, and rows of any of them share a pass:

    out = unet(scale * x, timestep)
    x0 = p * x + q * out
    x' = a * x + b * x0 + c * (x0 of the step before) + d * fresh noise
"""

from enum import StrEnum
from typing import Final, NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from schemas.style import Sampler

Numbers = NDArray[np.float64]

KARRAS_RHO: Final = 7.0
"""arXiv 2206.00364, section 5."""

LCM_SIGMA_DATA: Final = 0.5
LCM_TIMESTEP_SCALING: Final = 10.0
"""Boundary conditions of consistency models as LCM was distilled with them (arXiv 2310.04378)."""


class Prediction(StrEnum):
    """What the UNet was trained to give."""

    EPSILON = "epsilon"
    V = "v_prediction"
    SAMPLE = "sample"


class Timetable(NamedTuple):
    """The noise levels of a row, highest first: ``sigmas`` has one more than ``timesteps``, where it ends."""

    timesteps: Numbers
    sigmas: Numbers


class Step(NamedTuple):
    """The coefficients of one step, and the noise levels that it goes from and to."""

    timestep: float
    sigma: float
    scale: float
    p: float
    q: float
    a: float
    b: float
    c: float
    d: float
    sigma_next: float


def noise_levels(sampler: Sampler, training: Numbers, *, strength: float, steps: int) -> Timetable:
    """*steps* levels from the one that *strength* stands for down to none, whatever their number.

    *training*: sigma of each training timestep. The noise begins at timestep strength * len(training) - 1, which need
    be no whole number: levels between are interpolated in the logarithm, below timestep 0 linearly to nothing.
    """
    top = strength * len(training)
    if sampler is Sampler.DPMPP_2M:
        highest = sigma_at(training, np.array([top - 1]))[0]
        sigmas = _karras(highest, min(float(training[0]), highest), steps)
        timesteps = _timestep_at(training, sigmas)
    else:
        timesteps = top * (1 - np.arange(steps) / steps) - 1  # "trailing" of arXiv 2305.08891, table 2
        sigmas = sigma_at(training, timesteps)
    return Timetable(np.maximum(timesteps, 0.0), np.append(sigmas, 0.0))


def sigma_at(training: Numbers, timesteps: Numbers) -> Numbers:
    between = np.exp(np.interp(timesteps, np.arange(len(training)), np.log(training)))
    return np.where(timesteps < 0, training[0] * np.maximum(timesteps + 1, 0.0), between)


def _timestep_at(training: Numbers, sigmas: Numbers) -> Numbers:
    logs = np.log(np.maximum(sigmas, 1e-30))
    return np.interp(logs, np.log(training), np.arange(len(training), dtype=np.float64))


def _karras(highest: float, lowest: float, steps: int) -> Numbers:
    ramp, root = np.linspace(0, 1, steps), 1 / KARRAS_RHO
    sigmas: Numbers = (highest**root + ramp * (lowest**root - highest**root)) ** KARRAS_RHO
    return sigmas


def table(
    sampler: Sampler,
    timetable: Timetable,
    prediction: Prediction,
    *,
    first_order_end: bool = True,
    scaling: float = LCM_TIMESTEP_SCALING,
) -> tuple[Step, ...]:
    """The steps of a row. *first_order_end*: DPM++ takes its last step as if it were its first."""
    found: list[Step] = []
    sigmas = [float(sigma) for sigma in timetable.sigmas]
    last = len(timetable.timesteps) - 1
    for number, timestep in enumerate(float(each) for each in timetable.timesteps):
        before = sigmas[number - 1] if number and not (first_order_end and number == last) else None
        sigma, after = sigmas[number], sigmas[number + 1]
        scale = (sigma**2 + 1) ** -0.5
        a, b, c, d = _update(sampler, before, sigma, after, timestep * scaling)
        if number == last and sampler is not Sampler.EULER:
            # diffusers keeps these two samplers' latents scaled; it shows where they end with noise left
            a, b, c, d = (each * (after**2 + 1) ** -0.5 for each in (a, b, c, d))
        p, q = _x0(prediction, sigma, scale)
        found.append(Step(timestep, sigma, scale, p, q, a, b, c, d, after))
    return tuple(found)


def _x0(prediction: Prediction, sigma: float, scale: float) -> tuple[float, float]:
    """p and q."""
    match prediction:
        case Prediction.EPSILON:
            return 1.0, -sigma
        case Prediction.V:
            return scale**2, -sigma * scale
        case Prediction.SAMPLE:
            return 0.0, 1.0
        case _:
            assert_never(prediction)


def _update(
    sampler: Sampler, before: float | None, sigma: float, after: float, scaled_timestep: float
) -> tuple[float, float, float, float]:
    """a, b, c and d of one step from *sigma* to *after*; *before* is the level of the step before, if it counts."""
    match sampler:
        case Sampler.EULER:
            ratio = after / sigma if sigma else 1.0
            return ratio, 1 - ratio, 0.0, 0.0
        case Sampler.DPMPP_2M:
            return _dpmpp_2m(before, sigma, after)
        case Sampler.LCM:
            squared = scaled_timestep**2 + LCM_SIGMA_DATA**2
            c_skip, c_out = LCM_SIGMA_DATA**2 / squared, scaled_timestep / squared**0.5
            return c_skip * (sigma**2 + 1) ** -0.5, c_out, 0.0, after
        case _:
            assert_never(sampler)


def _dpmpp_2m(before: float | None, sigma: float, after: float) -> tuple[float, float, float, float]:
    """DPM-Solver++(2M), midpoint (arXiv 2211.01095, algorithm 2), where lambda = -log(sigma)."""
    ratio = after / sigma if sigma else 1.0
    if before is None or before == sigma or after in (0.0, sigma):
        return ratio, 1 - ratio, 0.0, 0.0  # of first order it is Euler's step
    half = 0.5 * float(np.log(sigma / after) / np.log(before / sigma))
    return ratio, (1 - ratio) * (1 + half), -(1 - ratio) * half, 0.0
