"""Everything that determines a picture."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Sent, Wire
from schemas.style import Colour, Digested, Fit, Sampler, Size


class PictureFormat(StrEnum):
    """How a finished picture is stored."""

    PNG = "png"
    WEBP = "webp"
    JPEG = "jpeg"


class Output(Sent):
    """The file a render ends in. ``quality`` matters to WebP and JPEG."""

    format: PictureFormat = PictureFormat.PNG
    quality: int = Field(90, ge=1, le=100)


class EngineKey(Wire):
    """What makes renders share warm weights."""

    checkpoint: str  # digest
    loras: tuple[Digested, ...]
    size: Size


class Recipe(Wire):
    """One render, written out: the same recipe under the same numerics key gives the same pixels."""

    source: str  # sha256
    checkpoint: str  # digest
    loras: tuple[Digested, ...]
    prompt: str
    negative_prompt: str
    strength: float
    guidance: float
    steps: int
    sampler: Sampler
    size: Size
    fit: Fit
    background: Colour
    seed: int
    output: Output

    @property
    def engine_key(self) -> EngineKey:
        return EngineKey(checkpoint=self.checkpoint, loras=self.loras, size=self.size)

    @property
    def unet_steps(self) -> int:
        return unet_steps(self.steps, self.strength)


def unet_steps(steps: int, strength: float) -> int:
    """Steps the UNet really takes: diffusers runs floor(steps x strength) of them."""
    return min(int(steps * strength), steps)
