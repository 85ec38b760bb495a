"""The same renders without a farm: one process, one loop, the same engine class. ``python -m ops.bench._bare``.

Reads jobs from standard input, one line of JSON each, and answers each with one line. The engine stays warm between
two jobs, as a renderer does. Sources come from disk; pictures, thumbnails and provenance go to disk.
"""

import hashlib
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from PIL import Image
from pydantic import BaseModel, ConfigDict

from actors.engine.opened import opened, versions
from actors.engine.port import Engine, LoraFile, PassKey, Rendered, Row, Weights
from actors.prepare import prepare
from actors.publish import Made, encode, provenance, thumbnail
from actors.settings import RendererSettings
from actors.sources import PictureKey
from schemas.order import OrderRow, PutLinks
from schemas.recipe import Recipe
from schemas.report import Seconds

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
        self._pictures: dict[PictureKey, Image.Image] = {}
        self._spent: defaultdict[str, float] = defaultdict(float)

    def do(self, job: Job) -> Done:
        self._spent.clear()
        began, cpu = time.perf_counter(), time.process_time()
        for weights, rows in groupby(job.rows, lambda row: _weights(job, row[2])):
            self._pictures.clear()  # a renderer, too, fetches the sources of each shard anew
            self._load(weights)
            for batch in _batches(list(rows), self._engine.batch):
                self._render(job, batch)
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

    def _render(self, job: Job, batch: Sequence[tuple[int, str, Recipe]]) -> None:
        began = time.perf_counter()
        rows = [self._row(job, recipe) for _, _, recipe in batch]
        self._spend("fetch", began)
        results = self._engine.render(rows, lambda: False)
        good = [result for result in results if isinstance(result, Rendered)]
        if len(good) < len(batch):
            raise RuntimeError(f"A render failed: {results}")
        for (ordinal, fingerprint, recipe), result in zip(batch, good, strict=True):
            gpu, began = result.seconds, time.perf_counter()
            for stage in ("encode", "denoise", "decode"):
                self._spent[stage] += getattr(gpu, stage)
            seconds = Seconds(encode=gpu.encode, denoise=gpu.denoise, decode=gpu.decode)
            self._publish(job.out / str(ordinal), _order(ordinal, fingerprint, recipe), result.picture, seconds)
            self._spend("publish", began)

    def _row(self, job: Job, recipe: Recipe) -> Row:
        key = PictureKey.of(recipe)
        if key not in self._pictures:
            data = (job.sources / recipe.source).read_bytes()
            if hashlib.sha256(data).hexdigest() != recipe.source:  # a renderer checks it, too
                raise RuntimeError(f"The source {recipe.source} is damaged.")
            self._pictures[key] = prepare(data, size=key.size, fit=key.fit, background=key.background)
        return Row(
            "|".join(key), self._pictures[key], recipe.prompt, recipe.negative_prompt, recipe.seed, _pass_key(recipe)
        )

    def _publish(self, folder: Path, row: OrderRow, picture: Image.Image, seconds: Seconds) -> None:
        made = Made(numerics=self._engine.numerics, session="bare", seconds=seconds, versions=self._versions)
        body = encode(picture, row.recipe.output, row.fingerprint)
        sha256 = hashlib.sha256(body).hexdigest()
        folder.mkdir(parents=True)
        (folder / "thumbnail.webp").write_bytes(thumbnail(picture, row.fingerprint))
        (folder / "provenance.json").write_bytes(provenance(row, sha256, made))
        (folder / f"picture.{row.recipe.output.format}").write_bytes(body)

    def _spend(self, stage: str, began: float) -> None:
        self._spent[stage] += time.perf_counter() - began


def _weights(job: Job, recipe: Recipe) -> Weights:
    loras = (LoraFile(lora.digest, job.loras / f"{lora.name}.safetensors", lora.scale) for lora in recipe.loras)
    return Weights(recipe.checkpoint, job.checkpoint, tuple(loras))


def _batches(rows: Sequence[tuple[int, str, Recipe]], batch: int) -> Iterator[Sequence[tuple[int, str, Recipe]]]:
    """Full ones, as far as the rows of one pass go."""
    key: Callable[[tuple[int, str, Recipe]], str] = lambda row: repr(_pass_key(row[2]))  # noqa: E731
    for _, members in groupby(sorted(rows, key=key), key):
        found = list(members)
        yield from (found[begin : begin + batch] for begin in range(0, len(found), batch))


def _pass_key(recipe: Recipe) -> PassKey:
    return PassKey(recipe.strength, recipe.steps, recipe.guidance, recipe.sampler, recipe.size)


def _order(ordinal: int, fingerprint: str, recipe: Recipe) -> OrderRow:
    links = PutLinks(picture_key="", picture="", thumbnail="", provenance="")
    return OrderRow(ordinal=ordinal, recipe=recipe, fingerprint=fingerprint, links=links)


if __name__ == "__main__":
    main()
