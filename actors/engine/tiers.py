"""Which LoRAs and pristine weights lie on the GPU, in (pinned) RAM, or only on disk; and merging from there.

`residency.plan` decides, this carries it out. A LoRA is held as its file says, whatever the checkpoint; its names are
bound to the weights of the checkpoint when it is first merged. A pristine copy is made before a weight is first
written, and may go once the weight is pristine again.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn

from actors.engine import lora
from actors.engine.merge import Merger, Recipe, Term, full_precision
from actors.engine.packed import in_ram, taken
from actors.engine.port import LoraFile, Refused, Weights
from actors.residency import Item, Move, Need, Tier, plan
from schemas.report import CacheCounts

_LORA: Final = "lora "
_PRISTINE: Final = "weight "


@dataclass(frozen=True, slots=True)
class _Held:
    contents: lora.Contents
    at: Tier
    used: int


@dataclass(frozen=True, slots=True)
class _Copy:
    tensor: Tensor
    at: Tier
    used: int


class Tiers:
    """`stage`, `counts` and `loras` from any thread, the rest from the GPU thread."""

    def __init__(self, *, device: torch.device, ram_bytes: int, gpu_bytes: int) -> None:
        self._device, self._pinned = device, device.type == "cuda"
        self._budgets = {Tier.RAM: ram_bytes} | ({Tier.GPU: gpu_bytes} if self._pinned else {})
        self._reading = threading.Lock()  # one file at a time, so that none is read twice; taken before `_lock`
        self._lock = threading.Lock()  # of all that follows
        self._held: dict[str, _Held] = {}  # by digest
        self._next: dict[str, int] = {}  # digest -> bytes of what the next shard needs
        self._now: frozenset[str] = frozenset()
        self._uses = 0
        self._checkpoint, self._layers = "", 0
        self._copies: dict[str, _Copy] = {}  # by name of the weight
        self._bound: dict[str, lora.Lora] = {}  # by digest
        self._merger = Merger({})
        self._modules: Mapping[str, nn.Module] = {}
        self._text_state: Recipe = ()
        self._digests: tuple[str, ...] = ()
        self._counting = threading.Lock()
        self.counts = CacheCounts()

    def loras(self) -> tuple[str, ...]:
        """Digests, on the GPU or in RAM."""
        return self._digests

    @property
    def text_state(self) -> Recipe:
        """(digest, scale) of the merged LoRAs that change a text encoder."""
        return self._text_state

    def hit_checkpoint(self) -> None:
        self._count(checkpoint_hits=1)

    @contextmanager
    def loading_checkpoint(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._count(checkpoint_loads=1, checkpoint_load_seconds=time.monotonic() - began)

    # the next shard

    def stage(self, weights: Weights) -> None:
        """Reads LoRAs into RAM while something else renders. Raises nothing: `merge` finds what cannot be read."""
        with suppress(OSError):  # a file that is gone
            sizes = {file.digest: file.path.stat().st_size for file in weights.loras}
            with self._lock:
                self._next = {digest: size for digest, size in sizes.items() if digest not in self._now}
            for file in weights.loras:
                with suppress(Refused, RuntimeError, MemoryError):  # torch has no memory, or no pinned memory, left
                    self._stage(file)

    def _stage(self, file: LoraFile) -> None:
        with self._reading:
            with self._lock:
                moves = plan(self._beside_gpu(), {Tier.RAM: self._budgets[Tier.RAM]})
                self._carry_out(tuple(move for move in moves if move.to is Tier.BELOW))
                wanted = any(move == Move(_LORA + file.digest, Tier.RAM) for move in moves)
            if wanted:
                self._read(file)

    def _beside_gpu(self) -> list[Item]:
        """Without the GPU, which belongs to another thread; with what the next shard needs and is not here yet."""
        here = [item for item in self._items({}) if item.at is not Tier.GPU]
        missing = [
            Item(_LORA + digest, self._cost(size), Tier.BELOW, self._uses, Need.NEXT)
            for digest, size in self._next.items()
            if digest not in self._held
        ]
        return here + missing

    # merging

    def open(self, digest: str, modules: Mapping[str, nn.Module], layers_per_block: int) -> None:
        """A checkpoint has been loaded; *modules* (`lora.targets`) are on the device and will not be replaced."""
        with self._lock:
            self._checkpoint, self._modules, self._layers = digest, modules, layers_per_block
            self._merger = Merger(modules)

    def close(self) -> None:
        """The checkpoint goes, and with it everything on the GPU. LoRAs stay in RAM as far as there is room."""
        with self._lock:
            self._now, self._text_state = frozenset(), ()
            self._copies.clear()
            self._bound.clear()
            self._checkpoint, self._modules, self._merger = "", {}, Merger({})
            self._carry_out(plan(self._items({}), {**self._budgets, Tier.GPU: 0}))

    def merge(self, weights: Weights) -> None:
        """From whatever is merged to exactly the LoRAs of *weights*. A failure half-way is mended by the next merge.

        Raises `Refused` before anything is written, and torch's out of memory if there is no room to be made.
        """
        if weights.digest != self._checkpoint:
            raise ValueError(f"{weights.digest} is not the checkpoint that is loaded")
        with self._lock:
            self._uses += 1
            self._now = frozenset(file.digest for file in weights.loras)
            for digest in self._now:
                self._next.pop(digest, None)
        bound = [(file, self._lora(file)) for file in weights.loras]
        recipes: dict[str, Recipe] = {}
        for file, found in bound:
            for name in found.deltas:
                recipes[name] = (*recipes.get(name, ()), (file.digest, file.scale))
        with self._lock, full_precision(self._device):
            try:
                self._write(recipes)
            except torch.OutOfMemoryError:
                if not self._gave_room():
                    raise
                self._write(recipes)
            self._text_state = tuple((file.digest, file.scale) for file, found in bound if found.touches_text)

    def _lora(self, file: LoraFile) -> lora.Lora:
        with self._reading:  # if it is being staged, that is waited for
            held = self._held.get(file.digest)
            if held is None:
                held = self._read(file)
            else:
                self._count(lora_hits=1)
        with self._lock:
            self._hold(file.digest, replace(held, used=self._uses))
        if file.digest not in self._bound:
            self._bound[file.digest] = lora.bind(held.contents, self._modules, self._layers)
        return self._bound[file.digest]

    def _read(self, file: LoraFile) -> _Held:
        began = time.monotonic()
        held = _Held(lora.read(file.path, pinned=self._pinned), Tier.RAM, self._uses)
        with self._lock:
            self._hold(file.digest, held)
        self._count(lora_loads=1, lora_load_seconds=time.monotonic() - began)
        return held

    @torch.no_grad()
    def _write(self, recipes: Mapping[str, Recipe]) -> None:
        stale = self._merger.stale(recipes)
        if not stale:
            return
        self._carry_out(plan(self._items(recipes), self._budgets))
        for name in stale:
            recipe, copy = recipes.get(name, ()), self._copies[name]
            self._copies[name] = replace(copy, used=self._uses)
            terms = [self._term(name, digest, scale) for digest, scale in recipe]
            self._merger.write(name, recipe, copy.tensor, terms)

    def _gave_room(self) -> bool:
        """The GPU has less to spare than the settings say: half of what is kept there goes, and is not missed again."""
        kept = sum(item.bytes for item in self._items({}) if item.at is Tier.GPU)
        if not kept:
            return False
        self._budgets[Tier.GPU] = kept // 2
        self._carry_out(plan(self._items({}), self._budgets))
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def _term(self, name: str, digest: str, scale: float) -> Term:
        delta, tensors = self._bound[digest].deltas[name], self._held[digest].contents.tensors
        return Term(tensors[delta.up], tensors[delta.down], delta.factor * scale)

    # what lies where

    def _items(self, recipes: Mapping[str, Recipe]) -> list[Item]:
        now = self._merger.merged | recipes.keys()
        items = [
            Item(_LORA + digest, self._cost(held.contents.tensors.bytes), held.at, held.used, self._need(digest))
            for digest, held in self._held.items()
        ]
        for name in now | self._copies.keys():
            copy, need = self._copies.get(name), Need.NOW if name in now else Need.PAST
            at, used = (copy.at, copy.used) if copy else (Tier.BELOW, self._uses)
            items.append(Item(_PRISTINE + name, self._cost(self._merger.weight(name).nbytes), at, used, need))
        return items

    def _need(self, digest: str) -> Need:
        return Need.NOW if digest in self._now else Need.NEXT if digest in self._next else Need.PAST

    def _cost(self, size: int) -> int:
        return taken(size, pinned=self._pinned)

    def _carry_out(self, moves: tuple[Move, ...]) -> None:
        for move in moves:
            if move.name.startswith(_LORA):
                self._move_lora(move.name.removeprefix(_LORA), move.to)
            else:
                self._move_copy(move.name.removeprefix(_PRISTINE), move.to)

    def _move_lora(self, digest: str, to: Tier) -> None:
        held = self._held[digest]
        if to is Tier.BELOW:
            self._hold(digest, None)
            return
        tensors = held.contents.tensors
        moved = tensors.on(self._device) if to is Tier.GPU else tensors.in_ram(pinned=self._pinned)
        self._hold(digest, replace(held, contents=replace(held.contents, tensors=moved), at=to))

    def _hold(self, digest: str, held: _Held | None) -> None:
        if held is None:
            del self._held[digest]
            self._bound.pop(digest, None)
        else:
            self._held[digest] = held
        self._digests = tuple(self._held)

    def _move_copy(self, name: str, to: Tier) -> None:
        """A first copy is of the weight itself, which is pristine until a copy of it exists."""
        if to is Tier.BELOW:
            del self._copies[name]
            return
        held = self._copies.get(name)
        tensor = held.tensor if held else self._merger.weight(name).detach()
        on_gpu = to is Tier.GPU
        copy = tensor.to(self._device, copy=True, non_blocking=True) if on_gpu else in_ram(tensor, pinned=self._pinned)
        self._copies[name] = _Copy(copy, to, self._uses)

    def _count(self, **more: float) -> None:
        """A new value each time: other threads read it meanwhile."""
        with self._counting:
            counted = self.counts.model_dump()
            grown = {name: counted[name] + by for name, by in more.items()}
            self.counts = CacheCounts.model_validate({**counted, **grown})
