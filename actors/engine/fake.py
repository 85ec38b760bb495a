"""The engine's twin: it sleeps and draws, so that everything around it can be tried without a GPU."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence

from PIL import Image

from actors.engine.port import EngineError, GpuSeconds, Held, Rendered, Row, Stopped, Weights
from actors.residency import Resident, leaving
from schemas.report import CacheCounts, Failure

STEPS = 4
"""How often a pass asks whether it should stop."""

LORA_ROOM = 32
"""LoRAs that it pretends to keep in RAM."""


class FakeEngine:
    """*failures*: what rows with this prompt end in. *fault*: raised by `render` when a row has this prompt.

    *sleep* stands for the GPU; a test may pass one that waits for something else.
    """

    def __init__(
        self,
        *,
        batch: int = 4,
        seconds: float = 0.05,
        failures: Mapping[str, Failure] | None = None,
        refused: Mapping[str, EngineError] | None = None,
        faults: Mapping[str, BaseException] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._batch, self._seconds, self._sleep = batch, seconds, sleep
        self._failures, self._refused, self._faults = failures or {}, refused or {}, faults or {}
        self._weights: Weights | None = None
        self._loras: dict[str, float] = {}
        self._counts = CacheCounts()
        self._uses = 0.0

    @property
    def gpu(self) -> str:
        return "fake"

    @property
    def numerics(self) -> str:
        return f"fake batch={self._batch}"

    @property
    def batch(self) -> int:
        return self._batch

    @property
    def counts(self) -> CacheCounts:
        return self._counts

    def held(self) -> Held:
        return Held(self._weights.digest if self._weights else "", tuple(self._loras))

    def load(self, weights: Weights) -> None:
        for digest in (weights.digest, *(lora.digest for lora in weights.loras)):
            if digest in self._refused:
                raise self._refused[digest]
        if self._weights is None or self._weights.digest != weights.digest:
            self._loras.clear()
            self._count("checkpoint_loads")
        else:
            self._count("checkpoint_hits")
        for lora in weights.loras:
            self._count("lora_hits" if lora.digest in self._loras else "lora_loads")
            self._uses += 1
            self._loras[lora.digest] = self._uses
        residents = [Resident(digest, 1, used) for digest, used in self._loras.items()]
        for digest in leaving(residents, budget_bytes=LORA_ROOM):
            del self._loras[digest]
        self._weights = weights

    def render(self, rows: Sequence[Row], should_stop: Callable[[], bool]) -> Sequence[Rendered | Failure]:
        for row in rows:
            if row.prompt in self._faults:
                raise self._faults[row.prompt]
        for _ in range(STEPS):
            if should_stop():
                raise Stopped
            self._sleep(self._seconds * len(rows) / STEPS)
        return [self._failures.get(row.prompt) or self._drawn(row) for row in rows]

    def _drawn(self, row: Row) -> Rendered:
        """The source, tinted: the colour says which style and seed, the amount says the strength."""
        state = self._weights.lora_state if self._weights else ()
        text = repr((state, row.prompt, row.negative, row.seed, row.key.guidance, row.key.steps, row.key.sampler.value))
        red, green, blue = hashlib.sha256(text.encode()).digest()[:3]
        tint = Image.new("RGB", row.picture.size, (red, green, blue))
        return Rendered(Image.blend(row.picture, tint, row.key.strength), GpuSeconds(denoise=self._seconds))

    def _count(self, name: str) -> None:
        self._counts = self._counts.model_copy(update={name: getattr(self._counts, name) + 1})
