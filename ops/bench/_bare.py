"""The same renders without a farm: one process, one loop, the same engine class. ``python -m ops.bench._bare``.

Reads jobs from standard input, one line of JSON each, and answers each with one line. The engine stays warm between
two jobs, as a renderer does. Sources come from disk; pictures, thumbnails and provenance go to disk.
"""

import hashlib
import sys
import time
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from PIL import Image
from pydantic import BaseModel, ConfigDict

from actors import finish
from actors.engine.opened import opened, versions
from actors.engine.port import Ended, Engine, Group, LoraFile, Rendered, Weights
from actors.making import Making, group_of, row_of
from actors.prepare import Prepared, pixels_key, prepared
from actors.publish import Made, provenance
from actors.settings import RendererSettings
from schemas.order import OrderRow, PutLinks
from schemas.recipe import Recipe
from schemas.report import Failure, Measured, Seconds

ANSWER: Final = "bare "
"""What an answer's line begins with: libraries print, too."""


class Job(BaseModel):
    """Renders as (ordinal, fingerprint, recipe). Files in ``sources`` are named by sha256, in ``loras`` by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: tuple[tuple[int, str, Recipe], ...]
    checkpoint: Path
    loras: Path
    sources: Path
    out: Path


class Done(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    renders: int
    wall_seconds: float
    cpu_seconds: float
    stage_seconds: dict[str, float]
    """Of all renders together: load, fetch, encode, denoise, decode, publish."""


def main() -> None:
    settings = RendererSettings.model_validate_json(sys.stdin.readline())
    bare = Bare(opened(settings))
    for line in sys.stdin:
        done = bare.do(Job.model_validate_json(line))
        print(ANSWER + done.model_dump_json(), flush=True)


class Bare:
    def __init__(self, engine: Engine) -> None:
        self._engine, self._versions = engine, versions()
        self._weights: Weights | None = None
        self._prepared: dict[str, Prepared] = {}
        self._spent: defaultdict[str, float] = defaultdict(float)

    def do(self, job: Job) -> Done:
        self._spent.clear()
        began, cpu = time.perf_counter(), time.process_time()
        for weights, rows in groupby(job.rows, lambda row: _weights(job, row[2])):
            self._prepared.clear()  # a renderer, too, fetches the sources of each shard anew
            self._load(weights)
            for group in _grouped(_order(*row) for row in rows):
                self._render(job, group)
        return Done(
            renders=len(job.rows),
            wall_seconds=time.perf_counter() - began,
            cpu_seconds=time.process_time() - cpu,
            stage_seconds=dict(self._spent),
        )

    def _load(self, weights: Weights) -> None:
        began = time.perf_counter()
        if weights != self._weights:
            self._engine.load(weights)
            self._weights = weights
        self._spend("load", began)

    def _render(self, job: Job, orders: Sequence[OrderRow]) -> None:
        """Rows of one group: one joins as soon as one has left."""
        waiting, under_way = deque(orders), dict[Hashable, Making]()
        while waiting or under_way:
            ended: list[Ended] = []
            while waiting and len(under_way) < self._engine.capacity(_group(waiting[0])):
                making = self._made(job, waiting.popleft())
                under_way[making.order.ordinal] = making
                at_once = self._engine.begin(making.order.ordinal, row_of(making, 0))
                ended += [] if at_once is None else [at_once]
            if len(ended) < len(under_way):
                ended += self._engine.step(_group(orders[0]))
            for each in ended:
                self._finish(job, under_way.pop(each.id), each.result)

    def _made(self, job: Job, order: OrderRow) -> Making:
        began, recipe = time.perf_counter(), order.recipe
        key = pixels_key(recipe)
        if key not in self._prepared:
            data = (job.sources / recipe.source).read_bytes()
            if hashlib.sha256(data).hexdigest() != recipe.source:  # a renderer checks it, too
                raise RuntimeError(f"The source {recipe.source} is damaged.")
            self._prepared[key] = prepared(recipe, {recipe.source: data})
        self._spend("fetch", began)
        return Making(order, self._prepared[key])

    def _finish(self, job: Job, making: Making, result: Rendered | Failure) -> None:
        if isinstance(result, Failure):
            raise RuntimeError(f"A render failed: {result.detail}")  # noqa: TRY004 - it is no type that was wrong
        picture, gpu, began = result.picture(), result.seconds, time.perf_counter()
        for stage in ("encode", "denoise", "decode"):
            self._spent[stage] += getattr(gpu, stage)
        seconds = Seconds(encode=gpu.encode, denoise=gpu.denoise, decode=gpu.decode)
        made = Made(numerics=result.numerics, session="bare", seconds=seconds, versions=self._versions)
        self._publish(job.out, making, picture, made)
        self._spend("publish", began)

    def _publish(self, out: Path, making: Making, picture: Image.Image, made: Made) -> None:
        order, recipe = making.order, making.order.recipe
        judged = finish.judge(picture, making.prepared.picture, None, recipe.seed, recipe.checks, None)
        files = finish.encode(judged.picture, None, recipe.output, order.fingerprint)
        measured = Measured(tries=(judged.tried,), kept=0)
        folder = out / str(order.ordinal)
        folder.mkdir(parents=True)
        (folder / "thumbnail.webp").write_bytes(files.thumbnail)
        (folder / "provenance.json").write_bytes(provenance(order, files, made, measured))
        (folder / f"picture.{files.picture.format}").write_bytes(files.picture.body)

    def _spend(self, stage: str, began: float) -> None:
        self._spent[stage] += time.perf_counter() - began


def _weights(job: Job, recipe: Recipe) -> Weights:
    loras = (LoraFile(lora.digest, job.loras / f"{lora.name}.safetensors", lora.scale) for lora in recipe.loras)
    return Weights(recipe.checkpoint, job.checkpoint, tuple(loras))


def _group(order: OrderRow) -> Group:
    return group_of(order.recipe, 0, lone=False)


def _grouped(orders: Iterable[OrderRow]) -> list[list[OrderRow]]:
    """What may share passes."""
    found: dict[Group, list[OrderRow]] = {}
    for order in orders:
        found.setdefault(_group(order), []).append(order)
    return list(found.values())


def _order(ordinal: int, fingerprint: str, recipe: Recipe) -> OrderRow:
    links = PutLinks(picture_key="", picture="", thumbnail="", provenance="")
    return OrderRow(ordinal=ordinal, recipe=recipe, fingerprint=fingerprint, links=links)


if __name__ == "__main__":
    main()
