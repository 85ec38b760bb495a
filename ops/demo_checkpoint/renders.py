"""Renders with the shipped checkpoint, by Halftone's engine, without a farm: for the report and the tests."""

import importlib.resources
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import yaml
from diffusers import AutoencoderKL
from PIL import Image, ImageOps
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from actors.engine.denoise import SdxlEngine
from actors.engine.port import Ended, LoraFile, Rendered, Row, Weights
from actors.settings import RendererSettings
from farm.bootstrap.demo import PHOTOS
from farm.embedded import SHIPPED
from ops.demo_checkpoint.filters import Rgb
from schemas.report import Failure
from schemas.style import Sampler, StrengthMode, StyleSpec

SIZE: Final = 256
HELD_OUT: Final = {name: prompt for name, prompt in PHOTOS.items() if not name.startswith("hubble")}
"""The demo's photos, but for the one of stars, which has no shapes. No training saw any of them."""


def photo(name: str) -> Image.Image:
    folder = Path(str(importlib.resources.files("skimage"))) / "data"
    return ImageOps.fit(Image.open(folder / name).convert("RGB"), (SIZE, SIZE), Image.Resampling.LANCZOS)


def styles() -> dict[str, StyleSpec]:
    """As a new farm gets them."""
    listed = yaml.safe_load((SHIPPED / "styles.yaml").read_text())
    return {spec.name: spec for spec in map(StyleSpec.model_validate, listed)}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One picture: of which photo, under which prompt, from how much noise."""

    photo: str
    prompt: str
    strength: float
    seed: int = 1
    guidance: float | None = None  # none: that of the styles, with their negative prompt
    mode: StrengthMode = StrengthMode.NOISE


class Studio:
    """An engine with the checkpoint of *home* and at most one LoRA."""

    def __init__(self, home: Path = SHIPPED, threads: int = 0) -> None:
        self._home = home
        # Of what the cache folder is for, one thing is done here: what was learned from running out of memory is kept.
        cache = Path(tempfile.gettempdir()) / "halftone-demo-checkpoint"
        settings = RendererSettings(name="studio", batch=1, threads=threads, ram_bytes=2**30, cache=cache)
        self.engine = SdxlEngine(settings)

    @cached_property
    def styles(self) -> dict[str, StyleSpec]:
        return styles()

    def load(self, lora: str | None = None, scale: float | None = None) -> None:
        """*scale*: the one that the style of the LoRA's name has, if none is said."""
        if lora and scale is None:
            scale = self.styles[lora].loras[0].scale
        path = self._home / "loras" / f"{lora}.safetensors"
        files = (LoraFile(lora, path, scale),) if lora and scale is not None else ()
        self.engine.load(Weights("demo", self._home / "checkpoint", files))

    def styled(self, style: str, name: str, strength: float, seed: int = 1) -> Rgb:
        """What a campaign renders of the photo *name* in *style*, which must be loaded."""
        return self.picture(Wanted(name, self.styles[style].prompt.format(prompt=HELD_OUT[name]), strength, seed))

    def picture(self, wanted: Wanted) -> Rgb:
        """(256, 256, 3)."""
        look = next(iter(self.styles.values()))
        guidance, negative = look.guidance, look.negative_prompt
        if wanted.guidance is not None:
            guidance, negative = wanted.guidance, ""
        row = Row(
            source=wanted.photo,
            picture=photo(wanted.photo),
            prompt=wanted.prompt,
            negative=negative,
            seed=wanted.seed,
            size=f"{SIZE}x{SIZE}",
            strength=wanted.strength,
            steps=look.steps,
            guidance=guidance,
            sampler=Sampler.EULER,
            mode=wanted.mode,
        )
        match self._ended(row).result:
            case Rendered(picture=picture):
                return np.asarray(picture())
            case Failure(detail=detail):
                raise RuntimeError(detail)

    def _ended(self, row: Row) -> Ended:
        ended = self.engine.begin("row", row)
        while ended is None:
            ended = next(iter(self.engine.step(row.group)), None)
        return ended


def likeness(one: Rgb, other: Rgb) -> float:
    """SSIM of the luminance (Wang et al. 2004), 1 for the same picture."""
    grey = [np.asarray(Image.fromarray(picture).convert("L")) for picture in (one, other)]
    return float(structural_similarity(*grey))  # type: ignore[no-untyped-call]


def peak_ratio(one: Rgb, other: Rgb) -> float:
    """PSNR in dB."""
    return float(peak_signal_noise_ratio(one, other))  # type: ignore[no-untyped-call]


@torch.inference_mode()
def reconstructed(picture: Rgb, home: Path = SHIPPED) -> Rgb:
    """Through the VAE and back: what a render at strength 0 would be."""
    vae: Any = AutoencoderKL.from_pretrained(home / "checkpoint" / "vae", low_cpu_mem_usage=False)  # type: ignore[no-untyped-call]
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    back = vae.float().decode(vae.encode(pixels).latent_dist.mean).sample[0]
    return np.asarray(((back.clamp(-1, 1).permute(1, 2, 0) + 1) * 127.5).round().byte())
