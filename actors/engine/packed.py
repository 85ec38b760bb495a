"""The tensors of a file in one block of memory, so that they move between disk, RAM and GPU in one piece."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_ALIGNED = 64
"""Bytes: each tensor begins at a multiple, which suits every dtype and every copy."""


@dataclass(frozen=True, slots=True)
class _Place:
    begin: int
    bytes: int
    dtype: torch.dtype
    shape: torch.Size


@dataclass(frozen=True, slots=True)
class Packed:
    block: Tensor  # (bytes,), uint8
    places: Mapping[str, _Place]

    def __getitem__(self, name: str) -> Tensor:
        """A view into the block."""
        place = self.places[name]
        return self.block[place.begin : place.begin + place.bytes].view(place.dtype).view(place.shape)

    @property
    def bytes(self) -> int:
        return self.block.nbytes

    def on(self, device: torch.device) -> "Packed":
        return Packed(self.block.to(device, non_blocking=True), self.places)

    def in_ram(self, *, pinned: bool) -> "Packed":
        return Packed(in_ram(self.block, pinned=pinned), self.places)


def packed(tensors: Mapping[str, Tensor], *, pinned: bool) -> Packed:
    """From tensors on the CPU, into RAM."""
    places: dict[str, _Place] = {}
    end = 0
    for name, tensor in tensors.items():
        places[name] = _Place(end, tensor.nbytes, tensor.dtype, tensor.shape)
        end += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
    whole = Packed(torch.empty(end, dtype=torch.uint8, pin_memory=pinned), places)
    for name, tensor in tensors.items():
        whole[name].copy_(tensor)
    return whole


def in_ram(tensor: Tensor, *, pinned: bool) -> Tensor:
    """A copy with the same strides. Pinned memory is what a GPU can read and write while the program goes on."""
    return torch.empty_like(tensor, device="cpu", pin_memory=pinned).copy_(tensor, non_blocking=pinned)


def taken(size: int, *, pinned: bool) -> int:
    """What *size* bytes cost: torch takes pinned memory in blocks of powers of two (CachingHostAllocator)."""
    return 1 << (size - 1).bit_length() if pinned and size > 0 else size
