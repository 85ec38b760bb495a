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

SourceId = Annotated[str, StringConstraints(pattern=r"^src_[0-9a-f]{64}$")]
Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]


def dimensions(size: str) -> tuple[int, int]:
    """(width, height) of a `Size`."""
    width, height = size.split("x")
    return int(width), int(height)


class Sampler(StrEnum):
    """How the noise is taken away. The scheduler is something else: it decides which shard goes where."""

    EULER = "euler"
    DPMPP_2M = "dpmpp_2m"  # with Karras' noise levels
    LCM = "lcm"  # for few-step checkpoints and LoRAs: LCM


class StrengthMode(StrEnum):
    """What strength and steps mean together."""

    NOISE = "noise"  # strength is how far up the noise begins, continuously; all of `steps` are taken from there
    DIFFUSERS = "diffusers"  # the noise begins at one of `steps` levels, and floor(steps x strength) are taken


class Fit(StrEnum):
    """How a source is brought to the size of the render."""

    CROP = "crop"  # fill, cut what hangs over, keep the centre
    PAD = "pad"  # keep everything, fill the rest with the background colour
    STRETCH = "stretch"  # ignore the aspect


class Focus(StrEnum):
    """What a crop keeps."""

    CENTRE = "centre"
    SALIENCE = "salience"  # where the picture draws the eye


class Prepare(Sent):
    """What is done to a source before it is brought to the size of the render."""

    auto_levels: bool = False  # the darkest and brightest hundredth become black and white
    white_balance: bool = False  # grey world
    focus: Focus = Focus.CENTRE


class ControlKind(StrEnum):
    """What a ControlNet looks at. Edges are found in the source; the others come as a picture of their own."""

    CANNY = "canny"
    DEPTH = "depth"
    POSE = "pose"


class StyleControl(Sent):
    """A ControlNet: how strongly, and from which part of the steps to which. The checkpoint brings its weights."""

    kind: ControlKind
    scale: float = Field(0.8, gt=0, le=2)
    start: float = Field(0.0, ge=0, le=1)
    end: float = Field(1.0, ge=0, le=1)


class StyleReference(Sent):
    """Pictures to resemble, through an IP-Adapter. A source may bring its own; the checkpoint brings the weights."""

    scale: float = Field(0.6, gt=0, le=2)
    pictures: tuple[SourceId, ...] = Field((), max_length=4)


class Checks(Sent):
    """What a picture is held against. One that misses is made again with the next seed, *rerolls* times at most;
    if none passes, the best is kept and marked.

    ``structure`` and ``edges`` are SSIM with the source (of luminance, of its edges), ``identity`` a cosine: at least.
    ``delta_e`` is the mean distance (CIEDE2000) from each pixel to the nearest colour of ``palette``: at most.
    """

    structure: float | None = Field(None, ge=0, le=1)
    edges: float | None = Field(None, ge=0, le=1)
    identity: float | None = Field(None, ge=0, le=1)
    palette: tuple[Colour, ...] = Field((), max_length=16)
    delta_e: float | None = Field(None, gt=0, le=100)
    rerolls: int = Field(2, ge=0, le=8)


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
    strength_mode: StrengthMode = StrengthMode.NOISE
    prepare: Prepare = Prepare()
    control: StyleControl | None = None
    reference: StyleReference | None = None
    checks: Checks | None = None


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


class ResolvedReference(Wire):
    scale: float
    pictures: tuple[str, ...]  # sha256


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
    strength_mode: StrengthMode = StrengthMode.DIFFUSERS  # what campaigns meant before there was a choice
    prepare: Prepare = Prepare()
    control: StyleControl | None = None
    reference: ResolvedReference | None = None
    checks: Checks | None = None
