"""The engine: SDXL image-to-image in passes of a fixed size, whose rows join and leave at any step.

The same row gives the same bits whoever its neighbours are and whenever it joined: sources and texts are encoded and
pictures decoded one by one, the UNet always sees the same number of rows, and noise comes from the row's own CPU
generator, in fp32.
"""

import os
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; without it cuBLAS may vary
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers
import torch
import transformers
from torch import Tensor

from actors.engine import checkpoint, lora
from actors.engine.clock import Clock, Spent
from actors.engine.decode import BAD_PICTURE, Copies
from actors.engine.failures import mapped
from actors.engine.kernels import Kernels, device_of
from actors.engine.likeness import Likeness
from actors.engine.model import Model, Parts
from actors.engine.numerics import gpu_name, numerics
from actors.engine.passes import Pass, Under
from actors.engine.port import Ended, Group, Held, Refused, Rendered, Row, Weights
from actors.engine.tiers import Tiers
from actors.engine.vram import Limits
from actors.settings import RendererSettings
from schemas.report import CacheCounts, FailureKind
from schemas.style import ControlKind


class SdxlEngine:
    def __init__(self, settings: RendererSettings) -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self._settings = settings
        self._device = device_of(settings)
        self._kernels = Kernels(settings, self._device)
        self._clock, self._copies = Clock(self._device), Copies(self._device)
        self._tiers = Tiers(device=self._device, ram_bytes=settings.ram_bytes, gpu_bytes=settings.gpu_bytes)
        self._parts = Parts(self._device, self._kernels.dtype)
        self._likeness = Likeness(settings.identity, self._device)
        self._limits = Limits(settings.cache / "limits.json", self.gpu)
        self._weights: Weights | None = None
        self._model: Model | None = None
        self._passes: dict[Group, Pass] = {}

    @property
    def gpu(self) -> str:
        return gpu_name(self._device)

    @property
    def numerics(self) -> str:
        return f"{self._numerics} batch={self._settings.batch}"

    @property
    def _numerics(self) -> str:
        return numerics(self._device, self._kernels)

    @property
    def counts(self) -> CacheCounts:
        sources, prompts = self._clock.sources, self._clock.prompts
        return self._tiers.counts.model_copy(
            update={
                "source_hits": sources.hits,
                "source_loads": sources.made,
                "source_load_seconds": sources.seconds,
                "prompt_hits": prompts.hits,
                "prompt_loads": prompts.made,
                "prompt_load_seconds": prompts.seconds,
            }
        )

    def held(self) -> Held:
        weights = self._weights  # the GPU thread may take it away meanwhile
        return Held(weights.digest if weights else "", self._tiers.loras())

    def capacity(self, group: Group) -> int:
        return 1 if group.lone else self._limits.bucket(group.size, self._settings.batch)

    # weights

    def stage(self, weights: Weights) -> None:
        self._tiers.stage(weights)

    def load(self, weights: Weights) -> None:
        with _mapped():
            if self._weights is None or self._weights.digest != weights.digest:
                self._load_checkpoint(weights)
            else:
                self._tiers.hit_checkpoint()
            self._load_parts(weights)
            self._tiers.merge(weights)
            self._weights = weights

    def _load_checkpoint(self, weights: Weights) -> None:
        self._weights = self._model = None  # the old one leaves the GPU before the new one comes
        self._passes.clear()
        self._parts.clear()
        self._tiers.close()
        self._empty_cache()
        with self._tiers.loading_checkpoint():
            pipe = checkpoint.load(weights.checkpoint, dtype=self._kernels.dtype, tokenizer=self._settings.tokenizer)
            model = Model(pipe, self._parts, self._kernels, self._device, self._clock)
            self._kernels.place(pipe)
        modules = lora.targets({part: getattr(pipe, part) for part in lora.PARTS})
        self._tiers.open(weights.digest, modules, int(pipe.unet.config.layers_per_block))
        self._model = model
        self._weights = Weights(weights.digest, weights.checkpoint)

    def _load_parts(self, weights: Weights) -> None:
        if self._model is None or not weights.parts:
            return
        unet, folder = self._model.pipe.unet, weights.checkpoint
        kinds = [ControlKind(part.removeprefix("control.")) for part in weights.parts if part.startswith("control.")]
        self._parts.controls.load(folder, kinds, unet)
        if "reference" in weights.parts:
            self._parts.references.load(folder, unet)

    # rows

    @torch.inference_mode()
    def begin(self, name: Hashable, row: Row) -> Ended | None:
        group = row.group
        rows = self._passes.get(group)
        if rows is None:
            rows = Pass(group, self.capacity(group))
        if len(rows) >= rows.most:
            raise ValueError(f"{rows.most} rows of this group are under way already")
        rows.waiting.append((name, row))
        self._passes[group] = rows
        self._admit(rows)
        return self._taken(group, name)

    @torch.inference_mode()
    def step(self, group: Group) -> Sequence[Ended]:
        rows = self._passes.get(group)
        if rows is None:
            return ()
        self._admit(rows)
        if self._passes.get(group) is rows and rows.live:
            self._try(rows, None, partial(self._step, rows))
        rows = self._passes[group]
        ended, rows.ended = rows.ended, []
        self._tidy(rows)
        return ended

    def drop(self, ids: Collection[Hashable]) -> None:
        with torch.inference_mode():
            for rows in list(self._passes.values()):
                rows.drop(ids)
                rows.ended = [each for each in rows.ended if each.id not in ids]
                self._tidy(rows)

    def _taken(self, group: Group, name: Hashable) -> Ended | None:
        """Only its own end: those of its neighbours are for the next step."""
        rows = self._passes[group]
        own = next((each for each in rows.ended if each.id == name), None)
        rows.ended = [each for each in rows.ended if each.id != name]
        self._tidy(rows)
        return own

    def _tidy(self, rows: Pass) -> None:
        if not rows and not rows.ended:
            self._passes.pop(rows.group, None)

    def _admit(self, rows: Pass) -> None:
        while rows.waiting and not rows.full:
            joining = rows.waiting.popleft()
            self._try(rows, joining, partial(self._join, rows, *joining))
            if self._passes.get(rows.group) is not rows:
                return  # there was not memory enough; all rows wait for a smaller bucket

    def _join(self, rows: Pass, name: Hashable, row: Row) -> None:
        if self._model is None:
            raise RuntimeError("no weights are loaded")
        under, tensors = self._model.begun(name, row, self._tiers.text_state)
        if under.steps:
            rows.place(under, tensors)
        else:  # too little strength for a single step: the source as the VAE sees it
            rows.ended.append(self._ended(under, tensors["latents"], rows.bucket))

    def _step(self, rows: Pass) -> None:
        if self._model is None:
            raise RuntimeError("no weights are loaded")
        moving = [under for _, under in rows.live]
        with self._clock.span(len(moving)) as span:
            self._model.step(rows)
        for under in moving:
            under.denoise.append(span)
        self._clock.keep_pace(span)
        for slot, under in rows.live:
            if under.done:
                rows.ended.append(self._ended(under, rows.rows("latents")[slot : slot + 1], rows.bucket))
                rows.leave(slot)

    def _ended(self, under: Under, latents: Tensor, bucket: int) -> Ended:
        if self._model is None:
            raise RuntimeError("no weights are loaded")
        pixels, span = self._model.decoded(latents)
        picture = self._copies.taken(pixels)
        if picture is None:
            return Ended(under.id, BAD_PICTURE)
        seconds = Spent(under.encode, under.denoise, span)
        identity = self._likeness.to(under.row, picture)
        return Ended(under.id, Rendered(picture, f"{self._numerics} batch={bucket}", seconds, identity))

    # trouble

    def _try(self, rows: Pass, joining: tuple[Hashable, Row] | None, work: Callable[[], None]) -> None:
        """Whatever goes wrong is the fault of the row that joins, or of all that are stepped."""
        try:
            with _mapped():
                work()
        except Refused as refused:
            if refused.failure.kind is FailureKind.OUT_OF_VRAM:
                self._empty_cache()
                if rows.bucket > 1:
                    self._shrink(rows, joining)
                    return
            concerned = [joining[0]] if joining else [under.id for _, under in rows.live]
            rows.drop(concerned)
            rows.ended += [Ended(name, refused.failure) for name in concerned]

    def _shrink(self, rows: Pass, joining: tuple[Hashable, Row] | None) -> None:
        """All rows begin anew in a smaller bucket: what they have so far has the bits of the larger one."""
        smaller = Pass(rows.group, self._limits.halve(rows.group.size, rows.bucket), most=rows.most)
        smaller.ended = rows.ended
        smaller.waiting.extend((under.id, under.row) for _, under in rows.live)
        smaller.waiting.extend([joining] if joining else [])
        smaller.waiting.extend(rows.waiting)
        self._passes[rows.group] = smaller

    def _empty_cache(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        known = mapped(error)
        if known is error:
            raise
        raise known from error
