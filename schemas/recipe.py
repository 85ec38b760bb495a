"""Everything that determines a picture."""

from collections.abc import Iterator

from pydantic import Field, model_validator

from schemas.base import Sent, Wire
from schemas.picture import PictureFormat
from schemas.rendition import Rendition, enlarged, tiles
from schemas.style import Checks, Colour, ControlKind, Digested, Fit, Prepare, Sampler, Size, StrengthMode


class Upscale(Sent):
    """How tiles are rendered when a rendition is larger than the render."""

    strength: float = Field(0.25, gt=0, le=0.6)
    steps: int = Field(8, ge=1, le=50)


class Output(Sent):
    """The file a render ends in, and what is made of it besides. ``quality`` matters to WebP and JPEG."""

    format: PictureFormat = PictureFormat.PNG
    quality: int = Field(90, ge=1, le=100)
    renditions: tuple[Rendition, ...] = Field((), max_length=20)
    upscale: Upscale = Upscale()

    @model_validator(mode="after")
    def _names_differ(self) -> "Output":
        names = [rendition.name for rendition in self.renditions]
        if len(set(names)) != len(names):
            raise ValueError("two renditions have the same name")
        return self


class Mask(Wire):
    """White is painted over. ``feather`` in pixels of the render."""

    picture: str  # sha256
    feather: int
    invert: bool = False


class Control(Wire):
    """``picture`` is none for edges, which are found in the source."""

    kind: ControlKind
    picture: str | None  # sha256
    scale: float
    start: float
    end: float


class Blended(Wire):
    picture: str  # sha256
    weight: float
    mask: str | None = None  # sha256


class EngineKey(Wire):
    """What makes renders share warm weights."""

    checkpoint: str  # digest
    loras: tuple[Digested, ...]
    size: Size
    parts: tuple[str, ...] = ()  # beside the UNet: control.canny, reference


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
    strength_mode: StrengthMode = StrengthMode.DIFFUSERS
    prepare: Prepare = Prepare()
    mask: Mask | None = None
    control: Control | None = None
    references: tuple[str, ...] = ()  # sha256
    reference_scale: float = 0.0
    blend: tuple[Blended, ...] = ()
    checks: Checks | None = None

    @property
    def engine_key(self) -> EngineKey:
        control = () if self.control is None else (f"control.{self.control.kind.value}",)
        parts = (*control, "reference") if self.references else control
        return EngineKey(checkpoint=self.checkpoint, loras=self.loras, size=self.size, parts=parts)

    @property
    def pictures(self) -> Iterator[str]:
        """The sha256 of every picture that it is made from; one may come twice."""
        yield self.source
        if self.mask is not None:
            yield self.mask.picture
        if self.control is not None and self.control.picture is not None:
            yield self.control.picture
        yield from self.references
        for blended in self.blend:
            yield blended.picture
            if blended.mask is not None:
                yield blended.mask

    @property
    def unet_steps(self) -> int:
        """Of one try and the tiles of its renditions."""
        return self.try_steps + upscale_steps(self.size, self.output)

    @property
    def most_steps(self) -> int:
        """When every try misses its checks: all of them, and the tiles of the last."""
        return self.unet_steps + (0 if self.checks is None else self.checks.rerolls * self.try_steps)

    @property
    def try_steps(self) -> int:
        """Of one try."""
        return unet_steps(self.steps, self.strength, self.strength_mode)


def unet_steps(steps: int, strength: float, mode: StrengthMode = StrengthMode.DIFFUSERS) -> int:
    """Steps the UNet really takes: diffusers runs floor(steps x strength) of them."""
    if mode is StrengthMode.NOISE:
        return steps if strength > 0 else 0
    return min(int(steps * strength), steps)


def upscale_steps(size: str, output: Output) -> int:
    if not output.renditions:
        return 0
    large = enlarged(size, output.renditions)
    return 0 if large is None else len(tiles(size, large)) * output.upscale.steps
