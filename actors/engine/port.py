"""What a renderer needs of an engine. `denoise` is the real one, `fake` is its twin."""

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL.Image import Image

from schemas.report import CacheCounts, Failure, FailureKind
from schemas.style import ControlKind, Sampler, StrengthMode


class EngineError(Exception):
    """Root of what an engine raises; everything else it raises is a fault of ours."""


class Refused(EngineError):
    """It cannot be done, and the reason is data. ``failure`` goes into the reports of all rows concerned."""

    def __init__(self, kind: FailureKind, code: str, detail: str) -> None:
        super().__init__(detail)
        self.failure = Failure(kind=kind, code=code, detail=detail)


class Poisoned(EngineError):
    """The GPU context is beyond repair; only a new process helps."""


@dataclass(frozen=True, slots=True)
class LoraFile:
    digest: str
    path: Path
    scale: float


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights on disk, digests already checked.

    ``checkpoint`` is a diffusers folder, or a folder with exactly one ``.safetensors`` file.
    """

    digest: str
    checkpoint: Path
    loras: tuple[LoraFile, ...] = ()
    parts: tuple[str, ...] = ()  # as in `EngineKey.parts`

    @property
    def lora_state(self) -> tuple[tuple[str, float], ...]:
        """What is merged, and how strongly: it decides which cached embeddings are still good."""
        return tuple((lora.digest, lora.scale) for lora in self.loras)


@dataclass(frozen=True, slots=True)
class Group:
    """What rows must agree on to share a UNet pass, beside the weights. It decides the shape of the pass."""

    size: str
    guided: bool  # guidance above 1: every row goes through the UNet twice
    control: ControlKind | None = None
    reference_scale: float = 0.0  # 0: no reference pictures
    lone: bool = False  # a bucket of one


@dataclass(frozen=True, slots=True)
class ControlInput:
    """``picture``: RGB, of the size of the render; none for edges, which the engine finds in the row's own picture.

    The ControlNet acts on the steps from ``start`` to ``end`` (0 to 1, of the steps taken).
    """

    kind: ControlKind
    picture: Image | None
    scale: float
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True, slots=True)
class ReferenceInput:
    """RGB, any size. ``name`` names the pixels."""

    name: str
    picture: Image


@dataclass(frozen=True, slots=True)
class Row:
    """One picture to make. ``picture`` is RGB and already has the size of the render.

    ``source`` names the pixels: rows with the same name (and size) share one encoding. ``mask``: L, of the same size,
    255 is painted over; what it leaves black is composed back by the caller, from pixels.
    """

    source: str
    picture: Image
    prompt: str
    negative: str
    seed: int
    size: str
    strength: float
    steps: int
    guidance: float
    sampler: Sampler
    mode: StrengthMode = StrengthMode.NOISE
    mask: Image | None = None
    control: ControlInput | None = None
    references: tuple[ReferenceInput, ...] = ()
    reference_scale: float = 0.0
    lone: bool = False

    @property
    def group(self) -> Group:
        return Group(
            size=self.size,
            guided=self.guidance > 1,
            control=None if self.control is None else self.control.kind,
            reference_scale=self.reference_scale if self.references else 0.0,
            lone=self.lone,
        )


@dataclass(frozen=True, slots=True)
class GpuSeconds:
    """Where one row's GPU time went; what a pass shares is divided among its rows."""

    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0


@dataclass(frozen=True, slots=True)
class Rendered:
    """``picture()`` is RGB, 8 bits, of the size that was asked for. It may wait for the GPU's copy: call it from
    another thread than the engine's. ``identity``: cosine with the source, None without a model for it."""

    picture: Callable[[], Image]
    numerics: str = ""
    seconds: GpuSeconds = field(default_factory=GpuSeconds)
    identity: Callable[[], float | None] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class Ended:
    """A row that has left its pass."""

    id: Hashable
    result: Rendered | Failure


@dataclass(frozen=True, slots=True)
class Held:
    """What an engine holds: digest of the checkpoint ("" when none), digests of the LoRAs in its cache."""

    checkpoint: str = ""
    loras: tuple[str, ...] = ()


class Engine(Protocol):
    """Rows join passes of the UNet and leave them at any step. Used from one thread only, except for `stage`,
    `counts` and `held`.

    Rows of several groups may be under way at once; each step moves the rows of one of them. Weights may change
    between steps while rows are under way, if the checkpoint stays: each row keeps the embeddings it began with, and
    the caller sees to it that a group steps only under the weights that its rows began under.
    """

    @property
    def gpu(self) -> str:
        """The name of the device."""
        ...

    @property
    def numerics(self) -> str:
        """Device, driver, libraries, kernels, dtype, batch size: same recipe and same numerics give the same pixels."""
        ...

    @property
    def counts(self) -> CacheCounts:
        """Since the engine was made."""
        ...

    def held(self) -> Held: ...

    def capacity(self, group: Group) -> int:
        """How many rows go through one pass of *group*. It shrinks after the GPU ran out of memory."""
        ...

    def stage(self, weights: Weights) -> None:
        """Reads *weights* into RAM, as far as the budget goes, so that `load` need not wait for the disk.

        From any thread; it raises nothing: what cannot be read is found by `load`.
        """
        ...

    def load(self, weights: Weights) -> None:
        """Makes *weights* the ones that `begin` and `step` use. Raises `Refused`, `Poisoned`.

        Another checkpoint drops all rows under way.
        """
        ...

    def begin(self, name: Hashable, row: Row) -> Ended | None:
        """*row* joins the passes of its group; its sources and texts are encoded now. *name* will be `Ended.id`.

        Something that ended at once is returned (a failure, or nothing to do). Raises `Poisoned`, and `ValueError`
        when the group is full.
        """
        ...

    def step(self, group: Group) -> Sequence[Ended]:
        """One pass of the UNet for every row of *group* under way. Raises `Poisoned`."""
        ...

    def drop(self, ids: Collection[Hashable]) -> None:
        """These rows are not wanted any more; unknown ones are no matter."""
        ...
