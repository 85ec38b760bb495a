"""LoRAs kept in RAM, and the counts of what was found there."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from actors.engine import lora
from actors.engine.port import LoraFile
from actors.residency import Resident, leaving
from schemas.report import CacheCounts


class Shelf:
    """LoRAs of one checkpoint: which weights they change was checked against it."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._loras: dict[str, lora.Lora] = {}
        self._used: dict[str, int] = {}
        self._uses = 0
        self.counts = CacheCounts()

    def loras(self) -> tuple[str, ...]:
        return tuple(self._loras)

    def clear(self) -> None:
        self._loras.clear()
        self._used.clear()

    def hit_checkpoint(self) -> None:
        self._add(checkpoint_hits=1)

    @contextmanager
    def loading_checkpoint(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._add(checkpoint_loads=1, checkpoint_load_seconds=time.monotonic() - began)

    def lora(self, file: LoraFile, modules: Mapping[str, nn.Module], layers_per_block: int) -> lora.Lora:
        """Raises `Refused` (BAD_WEIGHTS)."""
        self._uses += 1
        self._used[file.digest] = self._uses
        if file.digest in self._loras:
            self._add(lora_hits=1)
            return self._loras[file.digest]
        began = time.monotonic()
        found = self._loras[file.digest] = lora.read(file.path, modules, layers_per_block)
        self._add(lora_loads=1, lora_load_seconds=time.monotonic() - began)
        self._make_room()
        return found

    def _make_room(self) -> None:
        residents = [Resident(digest, held.bytes, self._used[digest]) for digest, held in self._loras.items()]
        for digest in leaving(residents, budget_bytes=self._budget_bytes):
            del self._loras[digest], self._used[digest]

    def _add(self, **more: float) -> None:
        """A new value each time: the control threads read it while the GPU thread counts."""
        counted = self.counts.model_dump()
        self.counts = CacheCounts.model_validate({**counted, **{name: counted[name] + by for name, by in more.items()}})
