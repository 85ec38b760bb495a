"""The rows of one group that go through the UNet together, in slots.

A slot keeps its row's tensors from beginning to end, so joining and leaving moves nothing else. A free slot follows a
live one: it holds a copy of it, for kernels, and with them bits, change with the number of rows.
"""

from collections import deque
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch import Tensor

from actors.engine.clock import Span
from actors.engine.control import scale_at
from actors.engine.encode import moved
from actors.engine.port import Ended, Group, Row
from actors.engine.samplers import Step

COLUMNS: Final = ("timestep", "scale", "p", "q", "a", "b", "c", "guidance", "control")
"""What changes from row to row in one step; it goes to the device in one copy."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """A mask of latents, for UNets that know nothing of masks: mask (1, 1, h, w), the others (1, C, h, w), fp32."""

    mask: Tensor
    source: Tensor
    noise: Tensor


@dataclass(slots=True)
class Under:
    """A row under way."""

    id: Hashable
    row: Row
    steps: tuple[Step, ...]
    generator: torch.Generator
    encode: Span
    keeping: Keeping | None
    taken: int = 0
    denoise: list[Span] = field(default_factory=list)

    @property
    def step(self) -> Step:
        """The next one."""
        return self.steps[self.taken]

    @property
    def done(self) -> bool:
        return self.taken == len(self.steps)

    def column(self) -> tuple[float, ...]:
        step, control = self.step, self.row.control
        acts = 0.0 if control is None else scale_at(control, self.taken, len(self.steps))
        return (step.timestep, step.scale, step.p, step.q, step.a, step.b, step.c, self.row.guidance, acts)


class Pass:
    """*bucket* slots, never more or fewer. ``waiting``: rows that were under way, or about to be, when the bucket had
    to shrink; *most* is how many may be, as that is what whoever chose them was told."""

    def __init__(self, group: Group, bucket: int, *, most: int = 0) -> None:
        self.group, self.bucket, self.most = group, bucket, most or bucket
        self.waiting: deque[tuple[Hashable, Row]] = deque()
        self.ended: list[Ended] = []
        self._slots: list[Under | None] = [None] * bucket
        self._follows = list(range(bucket))
        self._tensors: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return sum(under is not None for under in self._slots) + len(self.waiting)

    @property
    def live(self) -> list[tuple[int, Under]]:
        """With their slots."""
        return [(slot, under) for slot, under in enumerate(self._slots) if under is not None]

    @property
    def full(self) -> bool:
        return None not in self._slots

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def rows(self, name: str) -> Tensor:
        """(k * bucket, ...), as the UNet takes them: k is 2 for what differs between the two halves of guidance."""
        return self._tensors[name].flatten(0, 1)

    def place(self, under: Under, tensors: Mapping[str, Tensor]) -> None:
        """*tensors*: (k, ...) each, the same names and shapes for all rows of a group."""
        alone, slot = not self.live, self._slots.index(None)
        for name, tensor in tensors.items():
            if name not in self._tensors:
                self._tensors[name] = torch.empty(
                    (tensor.shape[0], self.bucket, *tensor.shape[1:]), dtype=tensor.dtype, device=tensor.device
                )
            if alone:
                self._tensors[name][:] = tensor.unsqueeze(1)
            else:
                self._tensors[name][:, slot] = tensor
        self._follows = [slot] * self.bucket if alone else self._follows
        self._slots[slot], self._follows[slot] = under, slot

    def leave(self, slot: int) -> None:
        self._slots[slot] = None
        live = [number for number, under in enumerate(self._slots) if under is not None]
        if not live:
            return
        for number, followed in enumerate(self._follows):
            if followed == slot:
                self._follows[number] = live[0]
                for tensor in self._tensors.values():
                    tensor[:, number] = tensor[:, live[0]]

    def drop(self, ids: Collection[Hashable]) -> None:
        self.waiting = deque(each for each in self.waiting if each[0] not in ids)
        for slot, under in self.live:
            if under.id in ids:
                self.leave(slot)

    def columns(self, device: torch.device) -> dict[str, Tensor]:
        """(bucket,) each, fp32."""
        found = np.zeros((len(COLUMNS), self.bucket), dtype=np.float32)
        for slot, followed in enumerate(self._follows):
            under = self._slots[followed]
            if under is not None:
                found[:, slot] = under.column()
        return dict(zip(COLUMNS, moved(torch.from_numpy(found), device).unbind(), strict=True))
