"""The VAE: 256x256 pixels to 16 channels of 32x32 and back, an AutoencoderKL with small numbers.

16 channels, where SDXL has 4: with 4 the best linear code of 8x8 pixels gives the held-out photos 23.3 dB, with 16
it gives 28.0 dB, and a model this small has no means to make details up.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from ops.demo_checkpoint.pictures import Pictures
from ops.demo_checkpoint.training import Task, device, half, train

CHANNELS: Final = 16
FACTOR: Final = 8
CROPS: Final = ((10, 64),) * 5 + ((2, 144),)
"""(How many, of which size), drawn for each step: small ones for many steps, large ones for norms of whole pictures."""


def new() -> Any:
    return AutoencoderKL(  # type: ignore[no-untyped-call]
        block_out_channels=(32, 48, 96, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=16,
        latent_channels=CHANNELS,
        sample_size=256,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def trained(pictures: Pictures, work: Path, minutes: float) -> Any:
    torch.manual_seed(0)
    model = new().to(device(), memory_format=torch.channels_last)

    def loss(draw: np.random.Generator) -> Tensor:
        count, size = CROPS[int(draw.integers(len(CROPS)))]
        return _loss(model, pictures.crops(draw, count, size))

    train(Task("autoencoder", model, loss, minutes, 1.5e-3, 0.995), work)
    _centre(model, pictures)
    return model.eval()


def sharpen(model: Any, pictures: Pictures, work: Path, minutes: float) -> None:
    """The decoder once more, on nearly exact latents. The latents stay what they are: the UNet has learned them.

    Noise first gave latents that are easy to denoise, and cost detail; this gives some of the detail back.
    """
    model.requires_grad_(False)
    model.decoder.requires_grad_(True)

    def loss(draw: np.random.Generator) -> Tensor:
        count, size = CROPS[int(draw.integers(len(CROPS)))]
        pixels = pictures.crops(draw, count, size)
        with half(), torch.no_grad():
            latents = model.encode(pixels).latent_dist.mean
        with half():
            given = model.decode(latents + 0.02 * latents.std() * torch.randn_like(latents)).sample
        return _off(given.float() - pixels)

    train(Task("decoder", model, loss, minutes, 7e-4, 0.995), work)


def _loss(model: Any, pixels: Tensor) -> Tensor:
    with half():
        posterior = model.encode(pixels).latent_dist
        latents = posterior.sample()
        shaken = latents + 0.1 * latents.detach().std() * torch.randn_like(latents)  # the UNet will not be exact
        given = model.decode(shaken).sample
    spread: Tensor = 1e-5 * posterior.kl().mean() / CHANNELS
    return _off(given.float() - pixels) + spread


def _off(off: Tensor) -> Tensor:
    """L1 and squares of pixels, L1 of their differences for edges, squares of 8x8 means for flat areas and colour."""
    edges = off.diff(dim=-1).abs().mean() + off.diff(dim=-2).abs().mean()
    coarse = functional.avg_pool2d(off, FACTOR).square().mean()
    total: Tensor = off.abs().mean() + off.square().mean() + 0.5 * edges + 4 * coarse
    return total


@torch.no_grad()
def _centre(model: Any, pictures: Pictures) -> None:
    """Latents get mean 0 for each channel, by the 1x1 convolutions at both ends, and spread 1, by scaling_factor."""
    draw = np.random.default_rng(1)
    with half():
        means = torch.cat([model.encode(pictures.crops(draw, 8, 256)).latent_dist.mean.float() for _ in range(16)])
    centre = means.mean(dim=(0, 2, 3))
    model.quant_conv.bias[:CHANNELS] -= centre
    weight = model.post_quant_conv.weight
    model.post_quant_conv.bias += weight[:, :, 0, 0] @ centre
    spread = (means - centre[:, None, None]).std()
    model.register_to_config(scaling_factor=1 / float(spread))


def digest(model: Any) -> str:
    """Of what makes latents: those of an autoencoder that was trained on, with more minutes, are other ones."""
    found = hashlib.sha256(str(model.config.scaling_factor).encode())
    for part in (model.encoder, model.quant_conv):
        for weight in part.state_dict().values():
            found.update(weight.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


@torch.no_grad()
def encoded(model: Any, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in -1..1 to (B, 16, H/8, W/8), scaled; the middle of the posterior."""
    with half():
        mean = model.encode(pixels.to(device(), memory_format=torch.channels_last)).latent_dist.mean
    found: Tensor = mean.float() * model.config.scaling_factor
    return found
