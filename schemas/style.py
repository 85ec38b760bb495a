"""A saved, versioned look."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from schemas.base import Sent, Wire

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""Lower case, digits, dot, dash, underscore: it appears in file names and addresses."""

Size = Annotated[str, StringConstraints(pattern=r"^[1-9]\d{1,4}x[1-9]\d{1,4}$")]
"""Width x height in pixels, such as ``1024x1024``; both are multiples of 8."""

Text = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
"""Any characters but NUL, which PostgreSQL cannot keep."""

Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]


def dimensions(size: str) -> tuple[int, int]:
    """(width, height) of a `Size`."""
    width, height = size.split("x")
    return int(width), int(height)


class Sampler(StrEnum):
    """How the noise is taken away. The scheduler is something else: it decides which shard goes where."""

    EULER = "euler"
    DPMPP_2M = "dpmpp_2m"


class Fit(StrEnum):
    """How a source is brought to the size of the render."""

    CROP = "crop"  # fill, cut what hangs over, keep the centre
    PAD = "pad"  # keep everything, fill the rest with the background colour
    STRETCH = "stretch"  # ignore the aspect


class StyleLora(Sent):
    """One LoRA of a style and how strongly it is mixed in."""

    lora: Name
    scale: float = Field(1.0, ge=-4, le=4)


class StyleSpec(Sent):
    """What a user sends to make a style, or a new version of one."""

    name: Name
    checkpoint: Name | None = None  # none: the farm's default checkpoint
    loras: tuple[StyleLora, ...] = Field((), max_length=8)
    prompt: Text = "{prompt}"
    negative_prompt: Text = ""
    strength: float = Field(0.5, ge=0, le=1)
    guidance: float = Field(5.0, ge=0, le=30)
    steps: int = Field(30, ge=1, le=150)
    sampler: Sampler = Sampler.EULER
    size: Size = "1024x1024"
    fit: Fit = Fit.CROP
    background: Colour = "#ffffff"


class Style(Wire):
    """One version of a style, as the API shows it. A version never changes."""

    id: str
    name: Name
    version: int
    spec: StyleSpec
    created_at: str


class Digested(Wire):
    """A LoRA as a render needs it: by content, not by name."""

    name: str
    digest: str
    scale: float


class ResolvedStyle(Wire):
    """A style version with every name replaced by what it meant when the campaign was submitted."""

    name: str
    version: int
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
