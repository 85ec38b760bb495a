"""One loop for all that is trained: a budget of minutes, a state on disk to go on from, an average of the weights."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

SEED: Final = 20_26
SAVE_EVERY: Final = 90.0
"""Seconds between two states on disk: what an interruption costs at most."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to train, how long, and how."""

    name: str
    model: nn.Module
    loss: Callable[[np.random.Generator], Tensor]  # from the step's own generator, on the model as it is
    minutes: float
    rate: float  # the highest learning rate; it warms up and falls as a cosine of the time used
    decay: float = 0.998  # of the running average of the weights, which is what is kept


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half() -> Any:
    """bfloat16 where that is quick: on GPUs, and on CPUs with AMX (3 times fp32, measured on Sapphire Rapids)."""
    return torch.autocast(device().type, torch.bfloat16)


def train(task: Task, work: Path) -> None:
    """Trains for what is left of the budget and leaves the averaged weights in the model.

    The same seed gives the same batches; how many fit into the minutes depends on the machine.
    """
    state = _State(task, work / f"{task.name}.pt")
    budget = task.minutes * 60
    clock = saved = time.monotonic()
    while state.seconds < budget:
        loss = state.step(state.seconds / budget)
        now = time.monotonic()
        state.seconds, clock = state.seconds + now - clock, now
        if state.count % 25 == 0:
            print(
                f"{task.name} step {state.count} {state.seconds / 60:.1f}/{task.minutes:.0f} min loss {loss:.4f}",
                flush=True,
            )
        if now - saved > SAVE_EVERY:
            state.save()
            saved = now
    state.save()
    state.finish()


def record(work: Path, path: Path) -> None:
    """What was trained for how long, from the states in *work*, for the report."""
    states = {file.stem: torch.load(file, map_location="cpu") for file in sorted(work.glob("*.pt"))}
    done = {
        name: {"steps": state["count"], "minutes": round(state["seconds"] / 60, 1)}
        for name, state in states.items()
        if isinstance(state, dict)
    }
    path.write_text(json.dumps(done, indent=1) + "\n")


class _State:
    def __init__(self, task: Task, path: Path) -> None:
        self._task, self._path = task, path
        self._weights: list[Tensor] = [weight for weight in task.model.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(self._weights, task.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
        self._average = [weight.detach().clone() for weight in self._weights]
        self.count, self.seconds, self._loss = 0, 0.0, math.nan
        if path.exists():
            self._load()

    def step(self, used: float) -> float:
        """One step at *used*, 0..1, of the budget; the running mean of the loss."""
        warm = min(1.0, (self.count + 1) / 100)
        for group in self._optimizer.param_groups:
            group["lr"] = self._task.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(used, 1.0))))
        torch.manual_seed(SEED + self.count)
        loss = self._task.loss(np.random.default_rng((SEED, self.count)))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.count += 1
        with torch.no_grad():
            keep = min(self._task.decay, (1 + self.count) / (10 + self.count))
            torch._foreach_lerp_(self._average, self._weights, 1 - keep)
        self._loss = loss.item() if math.isnan(self._loss) else 0.98 * self._loss + 0.02 * loss.item()
        return self._loss

    def save(self) -> None:
        draft = self._path.with_suffix(".new")
        kept = {"count": self.count, "seconds": self.seconds, "average": self._average}
        torch.save({**kept, "weights": self._weights, "optimizer": self._optimizer.state_dict()}, draft)
        draft.replace(self._path)

    def _load(self) -> None:
        kept = torch.load(self._path, map_location=device())
        self.count, self.seconds, self._average = kept["count"], kept["seconds"], kept["average"]
        self._optimizer.load_state_dict(kept["optimizer"])
        with torch.no_grad():
            for weight, stored in zip(self._weights, kept["weights"], strict=True):
                weight.copy_(stored)

    @torch.no_grad()
    def finish(self) -> None:
        for weight, average in zip(self._weights, self._average, strict=True):
            weight.copy_(average)
