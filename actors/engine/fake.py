"""The engine's twin: it sleeps and draws, so that everything around it can be tried without a GPU."""

import hashlib
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from PIL import Image

from actors.engine.port import Ended, EngineError, GpuSeconds, Group, Held, Rendered, Row, Weights
from actors.residency import Resident, leaving
from schemas.report import CacheCounts, Failure

STEPS = 4
"""How many passes a row goes through."""

LORA_ROOM = 32
"""LoRAs that it pretends to keep in RAM."""


@dataclass(slots=True)
class _UnderWay:
    row: Row
    state: tuple[tuple[str, float], ...]  # of the LoRAs that it began with
    taken: int = 0


class FakeEngine:
    """*failures*: what rows with this prompt end in. *faults*: raised by the step that a row with this prompt takes.

    *sleep* stands for the GPU, once a pass; a test may pass one that waits for something else. A row takes *seconds*.
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
        self._rows: dict[Hashable, _UnderWay] = {}
        self._loras: dict[str, float] = {}
        self._counts = CacheCounts()
        self._uses = 0.0

    @property
    def gpu(self) -> str:
        return "fake"

    @property
    def numerics(self) -> str:
        return _numerics(self._batch)

    @property
    def counts(self) -> CacheCounts:
        return self._counts

    def held(self) -> Held:
        return Held(self._weights.digest if self._weights else "", tuple(self._loras))

    def capacity(self, group: Group) -> int:
        return 1 if group.lone else self._batch

    def stage(self, weights: Weights) -> None:
        """It has nothing that could lie in RAM."""

    def load(self, weights: Weights) -> None:
        for digest in (weights.digest, *(lora.digest for lora in weights.loras)):
            if digest in self._refused:
                raise self._refused[digest]
        if self._weights is None or self._weights.digest != weights.digest:
            self._loras.clear()
            self._rows.clear()
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

    def begin(self, name: Hashable, row: Row) -> Ended | None:
        if len(self._of(row.group)) >= self.capacity(row.group):
            raise ValueError(f"{row.group} is full.")
        self._rows[name] = _UnderWay(row, self._state)
        return None

    def step(self, group: Group) -> Sequence[Ended]:
        under_way = self._of(group)
        for each in under_way.values():
            if each.row.prompt in self._faults:
                raise self._faults[each.row.prompt]
            if each.state != self._state:
                raise ValueError("A row may not step under other weights than it began with.")
        self._sleep(self._seconds * len(under_way) / STEPS)
        for each in under_way.values():
            each.taken += 1
        through = {name: each for name, each in under_way.items() if each.taken == STEPS}
        self.drop(through)
        return [Ended(name, self._result(each)) for name, each in through.items()]

    def drop(self, ids: Collection[Hashable]) -> None:
        for name in ids:
            self._rows.pop(name, None)

    def _of(self, group: Group) -> dict[Hashable, _UnderWay]:
        rows = ((name, each) for name, each in self._rows.items() if each.row.group == group)
        return dict(islice(rows, self.capacity(group)))

    @property
    def _state(self) -> tuple[tuple[str, float], ...]:
        return self._weights.lora_state if self._weights else ()

    def _result(self, each: _UnderWay) -> Rendered | Failure:
        row = each.row
        failure = self._failures.get(row.prompt)
        if failure is not None:
            return failure
        numerics, seconds = _numerics(self.capacity(row.group)), GpuSeconds(denoise=self._seconds)
        return Rendered(lambda: drawn(row, each.state), numerics, seconds)

    def _count(self, name: str) -> None:
        self._counts = self._counts.model_copy(update={name: getattr(self._counts, name) + 1})


def drawn(row: Row, state: tuple[tuple[str, float], ...]) -> Image.Image:
    """The source, tinted: the colour says which style and seed, the amount says the strength."""
    text = repr((state, row.prompt, row.negative, row.seed, row.guidance, row.steps, row.sampler.value))
    red, green, blue = hashlib.sha256(text.encode()).digest()[:3]
    tint = Image.new("RGB", row.picture.size, (red, green, blue))
    return Image.blend(row.picture, tint, row.strength)


def _numerics(batch: int) -> str:
    return f"fake batch={batch}"
