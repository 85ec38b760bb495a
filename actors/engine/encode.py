"""Sources and prompts are encoded once and kept: a source as the posterior of its latents, a text as embeddings.

Each is encoded alone, never in a batch, so that its bits do not depend on its neighbours.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

KEPT_BYTES: Final = 256 * 2**20
"""For each kind of result: 512 encoded sources of 1024x1024 are 256 MiB."""


class Latents(NamedTuple):
    """Mean and standard deviation, (1, C, h, w), fp32. Each render draws its own sample from it."""

    mean: Tensor
    std: Tensor


class Embedding(NamedTuple):
    """For SDXL (1, 77, 2048) and (1, 1280)."""

    sequence: Tensor
    pooled: Tensor


Pipe = Any
"""diffusers' pipelines are not typed."""

T = TypeVar("T", bound=tuple[Tensor, ...])


class Kept(Generic[T]):
    """The most recently used results, up to a number of bytes."""

    def __init__(self, budget_bytes: int = KEPT_BYTES) -> None:
        self._budget_bytes, self._bytes = budget_bytes, 0
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = make()
        self._bytes += _size(value)
        while self._bytes > self._budget_bytes and len(self._values) > 1:
            self._bytes -= _size(self._values.popitem(last=False)[1])
        return value


def _size(value: tuple[Tensor, ...]) -> int:
    return sum(tensor.nbytes for tensor in value)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """From the CPU to the device; the GPU is not waited for, it takes the tensor when its turn comes."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # torch keeps the pinned block until it was copied


def pixels_of(picture: Image.Image, device: torch.device) -> Tensor:
    """(1, 3, H, W), fp32, -1 to 1; it travels as bytes."""
    array = torch.from_numpy(np.array(picture.convert("RGB"), dtype=np.uint8))
    return (moved(array, device).permute(2, 0, 1).unsqueeze(0).float() / 127.5 - 1.0).contiguous()


def posterior_of(pipe: Pipe, pixels: Tensor) -> Latents:
    posterior = pipe.vae.encode(pixels.to(pipe.vae.device, pipe.vae.dtype)).latent_dist
    return Latents(posterior.mean.float(), posterior.std.float())


def drawn(latents: Latents, generator: torch.Generator, pipe: Pipe) -> Tensor:
    """A sample, scaled for the UNet, fp32. Takes its noise from the CPU, so that any device draws the same."""
    noise = moved(torch.randn(latents.mean.shape, generator=generator), latents.mean.device)
    sample = latents.mean + latents.std * noise
    shift, spread = _statistics(pipe, sample)
    scaled: Tensor = (sample - shift) * float(pipe.vae.config.scaling_factor) / spread
    return scaled


def unscaled(latents: Tensor, pipe: Pipe) -> Tensor:
    """What the VAE decodes; the inverse of the scaling in `drawn`."""
    shift, spread = _statistics(pipe, latents)
    return latents * spread / float(pipe.vae.config.scaling_factor) + shift


def _statistics(pipe: Pipe, like: Tensor) -> tuple[Tensor, Tensor]:
    """Some VAEs say by what mean and spread their latents are normalised; SDXL's own does not."""
    mean, spread = pipe.vae.config.get("latents_mean"), pipe.vae.config.get("latents_std")
    if mean is None or spread is None:
        return torch.zeros((), device=like.device), torch.ones((), device=like.device)
    shape = (1, -1, 1, 1)
    return torch.tensor(mean, device=like.device).view(shape), torch.tensor(spread, device=like.device).view(shape)


def embedding_of(pipe: Pipe, text: str, *, negative: bool) -> Embedding:
    """An empty negative text is "none given", which SDXL checkpoints answer with zeros if they were trained so."""
    sequence, _, pooled, _ = pipe.encode_prompt(prompt=text, do_classifier_free_guidance=False)
    if negative and not text and pipe.config.force_zeros_for_empty_prompt:
        return Embedding(torch.zeros_like(sequence), torch.zeros_like(pooled))
    return Embedding(sequence, pooled)
