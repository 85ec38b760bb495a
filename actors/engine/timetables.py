"""The noise that a checkpoint was trained with, and the steps that a row takes through it."""

from functools import lru_cache
from typing import Any, Final

import numpy as np
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, LCMScheduler

from actors.engine.port import Refused, Row
from actors.engine.samplers import Numbers, Prediction, Step, Timetable, noise_levels, table
from schemas.recipe import unet_steps
from schemas.report import FailureKind
from schemas.style import Sampler, StrengthMode

_LEAST_ALPHA: Final = 2.0**-24
"""What diffusers puts in place of 0 where a checkpoint was trained down to no signal at all."""

_KEPT: Final = 1024

Scheduler = Any
"""diffusers' schedulers are not typed."""


class Noise:
    """Raises `Refused` (BAD_WEIGHTS) for noise of another kind than SDXL's."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._config = scheduler.config
        kind = self._config.get("prediction_type", "epsilon")
        alphas = getattr(scheduler, "alphas_cumprod", None)
        if alphas is None or kind not in list(Prediction) or self._config.get("timestep_type") == "continuous":
            detail = f"The checkpoint was trained with noise of another kind ({type(scheduler).__name__}, {kind})."
            raise Refused(FailureKind.BAD_WEIGHTS, "checkpoint_other_noise", detail)
        self._prediction = Prediction(kind)
        self._training = _sigmas(scheduler)
        self._table = lru_cache(_KEPT)(self._made)

    def steps(self, row: Row) -> tuple[Step, ...]:
        """None when the strength is too little for a step."""
        return self._table(row.sampler, row.mode, row.strength, row.steps)

    def _made(self, sampler: Sampler, mode: StrengthMode, strength: float, steps: int) -> tuple[Step, ...]:
        taken = unet_steps(steps, strength, mode)
        if not taken:
            return ()
        if mode is StrengthMode.NOISE:
            levels = noise_levels(sampler, self._training, strength=strength, steps=steps)
            return table(sampler, levels, self._prediction)
        return self._as_diffusers(sampler, steps, steps - taken)

    def _as_diffusers(self, sampler: Sampler, steps: int, begin: int) -> tuple[Step, ...]:
        """The timetable of diffusers' own scheduler, without its first *begin* steps."""
        match sampler:
            case Sampler.EULER:
                euler = EulerDiscreteScheduler.from_config(self._config)  # type: ignore[no-untyped-call]
                euler.set_timesteps(steps)
                return table(sampler, _after(euler, begin), self._prediction)
            case Sampler.DPMPP_2M:
                solver = solver_from(self._config)
                solver.set_timesteps(steps)
                return table(sampler, _after(solver, begin), self._prediction, first_order_end=_ends_first(solver))
            case Sampler.LCM:
                return self._lcm(steps, begin)

    def _lcm(self, steps: int, begin: int) -> tuple[Step, ...]:
        lcm: Scheduler = LCMScheduler.from_config(self._config)  # type: ignore[no-untyped-call]
        # more steps than it was distilled with, which diffusers refuses, are taken from a finer grid
        lcm.set_timesteps(steps, original_inference_steps=max(steps, lcm.config.original_inference_steps))
        timesteps = lcm.timesteps.numpy()[begin:]
        levels = Timetable(timesteps.astype(np.float64), np.append(_sigmas(lcm)[timesteps], 0.0))
        return table(Sampler.LCM, levels, self._prediction, scaling=lcm.config.timestep_scaling)


def solver_from(config: Any) -> Scheduler:
    """DPM++ 2M Karras in diffusers."""
    return DPMSolverMultistepScheduler.from_config(  # type: ignore[no-untyped-call]
        config,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        use_karras_sigmas=True,
        use_exponential_sigmas=False,
        use_beta_sigmas=False,
    )


def _ends_first(solver: Scheduler) -> bool:
    """Whether its last step is of first order; on the way to no noise at all it always is."""
    config = solver.config
    return bool(config.euler_at_final or (config.lower_order_final and len(solver.timesteps) < 15))


def _after(scheduler: Scheduler, begin: int) -> Timetable:
    timesteps, sigmas = scheduler.timesteps.numpy(), scheduler.sigmas.numpy()
    return Timetable(timesteps[begin:].astype(np.float64), sigmas[begin:].astype(np.float64))


def _sigmas(scheduler: Scheduler) -> Numbers:
    """Of each training timestep."""
    alphas = np.maximum(scheduler.alphas_cumprod.numpy().astype(np.float64), _LEAST_ALPHA)
    sigmas: Numbers = np.sqrt((1 - alphas) / alphas)
    return sigmas
