"""Masks in latent space are what diffusers' inpainting makes of them."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from diffusers.image_processor import VaeImageProcessor
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from actors.engine.inpaint import extra_channels, kept, latent_mask, masked_pixels

CPU = torch.device("cpu")
FACTOR = 4


def a_mask(seed: int, width: int = 24, height: int = 32) -> Image.Image:
    """Grey of every shade, as a feathered mask has."""
    shades = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    return Image.fromarray(shades)


def a_picture(seed: int, width: int = 24, height: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def theirs(mask: Image.Image) -> torch.Tensor:
    """As `StableDiffusionXLInpaintPipeline` reads a mask; (1, 1, H, W)."""
    processor: Any = VaeImageProcessor(
        vae_scale_factor=FACTOR, do_normalize=False, do_binarize=True, do_convert_grayscale=True
    )
    found: torch.Tensor = processor.preprocess(mask, height=mask.height, width=mask.width)
    return found


@given(st.integers(0, 2**32 - 1))
def test_mask_of_the_latents_is_that_of_diffusers(seed: int) -> None:
    mask = a_mask(seed)
    expected = torch.nn.functional.interpolate(theirs(mask), size=(8, 6))
    assert torch.equal(latent_mask(mask, 8, 6, CPU), expected)


@pytest.mark.parametrize(("shade", "painted"), [(0, 0.0), (127, 0.0), (128, 1.0), (255, 1.0)])
def test_half_grey_is_painted_over(shade: int, painted: float) -> None:
    found = latent_mask(Image.new("L", (16, 8), shade), 2, 4, CPU)
    assert found.shape == (1, 1, 2, 4)
    assert (found == painted).all()


@given(st.integers(0, 2**32 - 1))
def test_masked_picture_is_that_of_diffusers(seed: int) -> None:
    picture, mask = a_picture(seed), a_mask(seed + 1)
    processor: Any = VaeImageProcessor(vae_scale_factor=FACTOR)
    expected = processor.preprocess(picture, height=32, width=24) * (theirs(mask) < 0.5)
    assert torch.allclose(masked_pixels(picture, mask), expected, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers' schedulers
@pytest.mark.parametrize("step", [0, 5, 9])
def test_what_is_kept_is_the_source_with_the_noise_of_the_next_step(step: int) -> None:
    scheduler: Any = EulerDiscreteScheduler()  # type: ignore[no-untyped-call]
    scheduler.set_timesteps(10)
    source, noise, stepped = torch.randn(3, 2, 4, 8, 6, generator=torch.Generator().manual_seed(1)).unbind(0)
    mask = latent_mask(a_mask(1), 8, 6, CPU)
    behind = source
    if step < 9:  # the pipeline's own words, after each of its steps
        behind = scheduler.add_noise(source, noise, scheduler.timesteps[step + 1 : step + 2])
    expected = (1 - mask) * behind + mask * stepped
    found = kept(stepped, source, noise, mask, float(scheduler.sigmas[step + 1]))
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(found, stepped, rtol=0, atol=1e-2)


def test_row_without_a_mask_keeps_its_bits() -> None:
    stepped = torch.randn(1, 4, 8, 6)
    found = kept(stepped, torch.full_like(stepped, torch.inf), stepped, torch.ones(1, 1, 8, 6), 3.0)
    assert torch.equal(found, stepped)


def test_wider_unets_see_the_mask_and_then_the_masked_source() -> None:
    mask, masked = latent_mask(a_mask(1), 8, 6, CPU), torch.randn(1, 4, 8, 6).bfloat16()
    found = extra_channels(mask, masked)
    assert found.dtype is torch.bfloat16
    assert torch.equal(found[:, :1].float(), mask)
    assert torch.equal(found[:, 1:], masked)
