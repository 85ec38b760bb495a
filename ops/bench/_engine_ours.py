"""Halftone's engine as an arm, through its port: weights by weights, and of those that wait the longest row first.

In what order rows join is up to whoever drives the engine.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from actors.engine import clock
from actors.engine.opened import opened
from actors.engine.port import Ended, Engine, LoraFile, Rendered, Row, Weights
from actors.settings import RendererSettings
from ops.bench._engine_peers import Pictures
from ops.bench._engine_work import GUIDANCE, LORA_SCALE, NEGATIVE, Files, Task, Work
from schemas.recipe import unet_steps
from schemas.style import Sampler, StrengthMode


@dataclass(frozen=True, slots=True)
class Feature:
    """How an arm differs from ours; ``settings`` are changes of the renderer's settings.

    ``contiguous``: no channels_last. ``waits``: for the GPU at every pass, instead of ordering some ahead.
    """

    name: str
    settings: tuple[tuple[str, object], ...] = ()
    joining: bool = True
    share_sources: bool = True
    share_texts: bool = True
    staging: bool = True
    longest_first: bool = True
    contiguous: bool = False
    waits: bool = False


OURS = Feature("halftone")


class Ours:
    def __init__(self, feature: Feature, files: Files, settings: RendererSettings) -> None:
        self._feature, self._files = feature, files
        changed = {"name": feature.name, **dict(feature.settings)}
        self.engine: Engine = opened(RendererSettings.model_validate(settings.model_dump() | changed))
        self.passes = self.row_steps = 0
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="pictures")

    @property
    def name(self) -> str:
        return self._feature.name

    def switch(self, style: int) -> None:
        self.engine.load(self._weights(style))
        if self._feature.contiguous:
            self._unet.to(memory_format=torch.contiguous_format)

    @property
    def fill(self) -> float:
        """Of the rows that went through the UNet: how many were no padding."""
        return self.row_steps / self.passes if self.passes else 0.0

    @property
    def _unet(self) -> Any:
        found: Any = self.engine
        return found._model.pipe.unet  # noqa: SLF001 - no setting chooses the layout

    def turn(self, work: Work, *, box: float) -> Pictures:  # noqa: ARG002 - sorted, a part would not stand for the whole
        self.passes = self.row_steps = 0
        ahead, clock.AHEAD = clock.AHEAD, 0 if self._feature.waits else clock.AHEAD  # type: ignore[misc]
        try:
            return self._made(work)
        finally:
            clock.AHEAD = ahead  # type: ignore[misc]

    def _made(self, work: Work) -> Pictures:
        shards: Sequence[Sequence[Task]] = work.by_style()
        made: dict[int, Future[Image.Image]] = {}
        for number, tasks in enumerate(shards):
            self.switch(tasks[0].style)
            if self._feature.staging and number + 1 < len(shards):
                self._threads.submit(self.engine.stage, self._weights(shards[number + 1][0].style))
            made.update(self._shard(work, tasks))
        return {number: picture.result() for number, picture in made.items()}

    def rows(self, work: Work, tasks: Sequence[Task]) -> list[Row]:
        return [self._row(work, task) for task in tasks]

    def _shard(self, work: Work, tasks: Sequence[Task]) -> Iterator[tuple[int, Future[Image.Image]]]:
        """Rows join as others leave, or, without joining, when all have left."""
        cost: Callable[[Task], int] = lambda task: -unet_steps(work.steps, task.strength)  # noqa: E731
        waiting, under_way = deque(sorted(tasks, key=cost) if self._feature.longest_first else tasks), 0
        group = self._row(work, tasks[0]).group
        self.row_steps -= sum(map(cost, tasks))
        while waiting or under_way:
            ended: list[Ended] = []
            room = self.engine.capacity(group) - under_way if self._feature.joining or not under_way else 0
            for task in [waiting.popleft() for _ in range(min(room, len(waiting)))]:
                at_once = self.engine.begin(task.number, self._row(work, task))
                under_way += 1
                ended += [] if at_once is None else [at_once]
            ended += self.engine.step(group)
            self.passes += self.engine.capacity(group)
            under_way -= len(ended)
            for each in ended:
                yield int(str(each.id)), self._threads.submit(rendered(each).picture)

    def _weights(self, style: int) -> Weights:
        path = self._files.loras[style]
        return Weights("bench", self._files.checkpoint, (LoraFile(path.stem, path, LORA_SCALE),))

    def _row(self, work: Work, task: Task) -> Row:
        own = f"#{task.number}"  # what nobody else has is never found in a cache
        return Row(
            source=f"{work.name}/{task.source}{'' if self._feature.share_sources else own}",
            picture=work.pictures[task.source],
            prompt=work.prompts[task.style] + ("" if self._feature.share_texts else own),
            negative=NEGATIVE + ("" if self._feature.share_texts else own),
            seed=task.seed,
            size=work.size,
            strength=task.strength,
            steps=work.steps,
            guidance=GUIDANCE,
            sampler=Sampler.EULER,
            mode=StrengthMode.DIFFUSERS,
        )


def rendered(ended: Ended) -> Rendered:
    match ended.result:
        case Rendered() as good:
            return good
        case failure:
            raise RuntimeError(f"A render failed: {failure.detail}")


def same_bits(arm: Ours, work: Work) -> bool:
    """One row alone; then beside other rows, joining them while they are under way."""
    one, *others = arm.rows(work, work.by_style()[0][:4])
    arm.switch(work.by_style()[0][0].style)
    group = one.group
    alone = _through(arm.engine, {0: one}, [])[0]
    company = dict(enumerate(others[: arm.engine.capacity(group) - 1], start=1))
    beside = _through(arm.engine, company, [(0, one)])[0]
    return alone.tobytes() == beside.tobytes()


def _through(engine: Engine, first: dict[int, Row], later: Sequence[tuple[int, Row]]) -> dict[int, Image.Image]:
    group, made = next(iter({**first, **dict(later)}.values())).group, {}
    for number, row in first.items():
        engine.begin(number, row)
    if first:
        made.update({each.id: rendered(each).picture() for each in engine.step(group)})
    for number, row in later:
        engine.begin(number, row)
    while len(made) < len(first) + len(later):
        made.update({each.id: rendered(each).picture() for each in engine.step(group)})
    return {int(str(number)): picture for number, picture in made.items()}


def features(*, gpu: bool, compiled: bool) -> list[Feature]:
    """Ours with one thing off at a time."""
    found = [
        Feature("sources encoded for every row", share_sources=False),
        Feature("texts embedded for every row", share_texts=False),
        Feature("batch of 1", (("batch", 1),)),
        Feature("rows join when all have left", joining=False),
        Feature("rows in the order of the campaign", longest_first=False),
        Feature("LoRAs from disk each time", (("ram_bytes", 0), ("gpu_bytes", 0)), staging=False),
    ]
    if gpu:
        found += [
            Feature("pristine weights and LoRAs not on the GPU", (("gpu_bytes", 0),)),
            Feature("no channels_last in the UNet", contiguous=True),
            Feature("the GPU waited for at every pass", waits=True),
            Feature("VAE in fp32", (("vae", "fp32"),)),
            Feature("attention without flash or cuDNN", (("attention", "math"),)),
        ]
    if compiled:
        found.append(Feature("not compiled", (("compile", False),)))
    return found


def settings_for(cache: Path, *, device: str, batch: int, compiled: bool) -> RendererSettings:
    vae = "half" if device == "cuda" else "auto"
    return RendererSettings(
        name="bench", device=device, batch=batch, cache=cache, vae=vae, compile=compiled, encoders=0
    )
