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
"""For each of the two: 512 encoded sources of 1024x1024 are 256 MiB."""


class Latents(NamedTuple):
    """Mean and standard deviation, (1, 4, h, w), fp32. Each render draws its own sample from it."""

    mean: Tensor
    std: Tensor


class Embedding(NamedTuple):
    """For SDXL (1, 77, 2048) and (1, 1280)."""

    sequence: Tensor
    pooled: Tensor


Pipe = Any
"""diffusers' pipelines are not typed."""

T = TypeVar("T", Latents, Embedding)


class Kept(Generic[T]):
    """The most recently used results, up to a number of bytes."""

    def __init__(self, budget_bytes: int = KEPT_BYTES) -> None:
        self._budget_bytes, self._bytes = budget_bytes, 0
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = make()
        self._bytes += _size(value)
        while self._bytes > self._budget_bytes and len(self._values) > 1:
            self._bytes -= _size(self._values.popitem(last=False)[1])
        return value

    def clear(self) -> None:
        self._values.clear()
        self._bytes = 0


def _size(value: tuple[Tensor, ...]) -> int:
    return sum(tensor.nbytes for tensor in value)


def latents_of(pipe: Pipe, picture: Image.Image) -> Latents:
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 127.5 - 1.0
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)
    posterior = pipe.vae.encode(tensor.to(pipe.vae.device, pipe.vae.dtype)).latent_dist
    return Latents(posterior.mean.float(), posterior.std.float())


def drawn(latents: Latents, generator: torch.Generator, pipe: Pipe) -> Tensor:
    """A sample, scaled for the UNet, fp32. Takes its noise from the CPU, so that any device draws the same."""
    noise = torch.randn(latents.mean.shape, generator=generator).to(latents.mean.device)
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
