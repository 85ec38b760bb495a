"""Masks in latent space: what is painted over, and what is kept. Arithmetic as in diffusers' SDXL inpainting.

A UNet of 4 channels knows nothing of masks: after each step, what is kept is set back to the source at the noise level
of that step (`kept`). A UNet of 9 channels sees mask and masked source beside the latents (`extra_channels`) and is
left alone.
"""

from typing import Final

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

HALF: Final = 128
"""From here on a pixel is painted over. A feathered edge is a matter of pixels: it is blended after decoding."""


def latent_mask(mask: Image, height: int, width: int, device: torch.device) -> Tensor:
    """(1, 1, height, width), fp32, 1 is painted over. *mask*: L; *height*, *width*: of the latents.

    First black or white, then the nearest (upper left) pixel of each latent, in diffusers' order.
    """
    painted = _painted(mask).view(1, 1, mask.height, mask.width)
    return torch.nn.functional.interpolate(painted, size=(height, width)).to(device)


def kept(x_next: Tensor, source: Tensor, noise: Tensor, mask: Tensor, sigma_next: float) -> Tensor:
    """*x_next* where the mask is 1; elsewhere the source with as much of the row's noise as is left after the step.

    *x_next*, *source*, *noise* (N, C, h, w) with x = source + sigma * noise, as in all our latents; *mask*
    (N, 1, h, w); *sigma_next*: 0 after the last step.
    """
    return torch.where(mask >= 0.5, x_next, source + sigma_next * noise)


def masked_pixels(picture: Image, mask: Image) -> Tensor:
    """(1, 3, H, W), fp32, -1 to 1, 0 where painted over: what the VAE encodes for a UNet of 9 channels."""
    pixels = torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 127.5 - 1.0)
    return (pixels * (1.0 - _painted(mask))[..., None]).permute(2, 0, 1).unsqueeze(0).contiguous()


def extra_channels(mask: Tensor, masked: Tensor) -> Tensor:
    """(N, 1 + C, h, w): what follows the latents, already scaled for the step, in the input of a UNet of 9 channels.

    *mask* (N, 1, h, w) as of `latent_mask`; *masked* (N, C, h, w): the scaled latents of `masked_pixels`.
    """
    return torch.cat([mask.to(masked.dtype), masked], dim=1)


def _painted(mask: Image) -> Tensor:
    """(H, W), fp32, 0 or 1."""
    return torch.from_numpy((np.asarray(mask.convert("L")) >= HALF).astype(np.float32))
