"""What a renderer needs of an engine. `denoise` is the real one, `fake` is its twin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from PIL.Image import Image

from schemas.report import CacheCounts, Failure, FailureKind
from schemas.style import Sampler


class EngineError(Exception):
    """Root of what an engine raises; everything else it raises is a fault of ours."""


class Refused(EngineError):
    """It cannot be done, and the reason is data. ``failure`` goes into the reports of all rows concerned."""

    def __init__(self, kind: FailureKind, code: str, detail: str) -> None:
        super().__init__(detail)
        self.failure = Failure(kind=kind, code=code, detail=detail)


class Stopped(EngineError):
    """The caller's ``should_stop`` said so between two steps. Nothing was rendered."""


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

    @property
    def lora_state(self) -> tuple[tuple[str, float], ...]:
        """What is merged, and how strongly: it decides which cached embeddings are still good."""
        return tuple((lora.digest, lora.scale) for lora in self.loras)


@dataclass(frozen=True, slots=True)
class PassKey:
    """What rows must agree on to share a call of the engine."""

    strength: float
    steps: int
    guidance: float
    sampler: Sampler
    size: str


@dataclass(frozen=True, slots=True)
class Row:
    """One picture to make. ``picture`` is RGB and already has the size of the render.

    ``source`` names the pixels (source, fit and background): rows with the same name share one encoding.
    """

    source: str
    picture: Image
    prompt: str
    negative: str
    seed: int
    key: PassKey


@dataclass(frozen=True, slots=True)
class GpuSeconds:
    """Where one row's GPU time went; what a pass shares is divided among its rows."""

    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0


@dataclass(frozen=True, slots=True)
class Rendered:
    """``picture`` is RGB, 8 bits, of the size that was asked for."""

    picture: Image
    seconds: GpuSeconds = field(default_factory=GpuSeconds)


@dataclass(frozen=True, slots=True)
class Held:
    """What an engine holds: digest of the checkpoint ("" when none), digests of the LoRAs in its cache."""

    checkpoint: str = ""
    loras: tuple[str, ...] = ()


class Engine(Protocol):
    """Used from one thread only. One call renders at most ``batch`` rows, all with the same `PassKey`."""

    @property
    def gpu(self) -> str:
        """The name of the device."""
        ...

    @property
    def numerics(self) -> str:
        """Device, driver, libraries, dtype, batch size: same recipe and same numerics give the same pixels."""
        ...

    @property
    def batch(self) -> int: ...

    @property
    def counts(self) -> CacheCounts:
        """Since the engine was made."""
        ...

    def held(self) -> Held: ...

    def load(self, weights: Weights) -> None:
        """Makes *weights* the ones that `render` uses. Raises `Refused`, `Poisoned`."""
        ...

    def render(self, rows: Sequence[Row], should_stop: Callable[[], bool]) -> Sequence[Rendered | Failure]:
        """One result for each row, in order. Raises `Stopped`, `Poisoned`."""
        ...
