"""LoRAs merged in place, from pristine weights:

    W = W0 + sum(scale_i * alpha_i / rank_i * B_i A_i)        (LoRA, arXiv 2106.09685)

accumulated in fp32 and rounded once, so that nothing drifts: with no LoRA left the pristine bits are back.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from actors.engine.quantised import Fp8Linear

Recipe = tuple[tuple[str, float], ...]
"""What is merged into one weight: (digest of the LoRA, scale), in this order."""


class Term(NamedTuple):
    """``factor * up @ down``: (out, r, ...) and (r, in, ...), of any floating dtype, on any device."""

    up: Tensor
    down: Tensor
    factor: float


class Merger:
    """Writes the weights that LoRAs change, and knows what is in them."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        self._holds: dict[str, Recipe | None] = {}  # None: a write failed half-way

    @property
    def merged(self) -> frozenset[str]:
        """Weights that may be other than pristine: only a copy can bring them back."""
        return frozenset(self._holds)

    def stale(self, wanted: Mapping[str, Recipe]) -> list[str]:
        """Weights that hold something other than what is wanted, pristine where nothing is."""
        return sorted(
            name for name in self._holds.keys() | wanted.keys() if self._holds.get(name, ()) != wanted.get(name, ())
        )

    def weight(self, name: str) -> Tensor:
        weight = self._modules[name].weight
        if not isinstance(weight, Tensor):
            raise TypeError(f"{name} has no weight")
        return weight

    def write(self, name: str, recipe: Recipe, pristine: Tensor, terms: Sequence[Term]) -> None:
        """To be called without gradients."""
        self._holds[name] = None
        weight = self.weight(name)
        if terms:
            weight.copy_(_sum(pristine, terms, weight.device))  # the one rounding
        else:
            weight.copy_(pristine, non_blocking=True)
        module = self._modules[name]
        if isinstance(module, Fp8Linear):
            module.requantise()
        if recipe:
            self._holds[name] = recipe
        else:
            del self._holds[name]


def _sum(pristine: Tensor, terms: Sequence[Term], device: torch.device) -> Tensor:
    # First to the device, then to fp32: done at once, the CPU would read a copy that the GPU may still be writing.
    total = pristine.to(device, non_blocking=True).to(torch.float32, copy=True)
    for up, down, factor in terms:
        left = up.to(device, non_blocking=True).float().flatten(1)
        right = down.to(device, non_blocking=True).float().flatten(1)
        if total.ndim == 2:
            total.addmm_(left, right, alpha=factor)
        else:
            total.add_((left @ right).view(total.shape), alpha=factor)
    return total


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No TF32 in matrix products: the sum would be rounded to 10 bits on the way."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
