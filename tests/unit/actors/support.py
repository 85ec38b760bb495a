"""A depot in a thread, and orders that point to it."""

import hashlib
import io
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

from actors.renderer import Renderer
from schemas.order import CheckpointRef, FileRef, Lane, LoraRef, OrderRow, PutLinks, ShardOrder
from schemas.recipe import Output, Recipe
from schemas.report import Collected, RenderReport, RowReport
from schemas.style import Digested, Fit, Sampler

SIZE = "64x48"


@dataclass
class Depot:
    """Objects by path. ``answers`` gives, for a path, statuses to answer first; ``gate`` holds back what it names."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    wrong_tags: set[str] = field(default_factory=set)

    def add(self, data: bytes) -> str:
        """Its sha256, which is also its path."""
        digest = hashlib.sha256(data).hexdigest()
        self.objects[f"/{digest}"] = data
        return digest

    def link(self, path: str) -> str:
        return f"{self.url}/{path}"


class _Handler(BaseHTTPRequestHandler):
    depot: Depot
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self._allowed():
            self._answer(200 if self.path in self.depot.objects else 404, self.depot.objects.get(self.path, b""))

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._allowed():
            self.depot.objects[self.path] = body
            self.depot.headers[self.path] = {name.lower(): value for name, value in self.headers.items()}
            tag = "0" * 32 if self.path in self.depot.wrong_tags else hashlib.md5(body).hexdigest()
            self._answer(200, b"", tag)

    def _allowed(self) -> bool:
        self.depot.asked[f"{self.command} {self.path}"] += 1
        gate = self.depot.gates.get(self.path)
        if gate is not None:
            gate.wait(30)
        statuses = self.depot.answers.get(self.path)
        if statuses:
            self._answer(statuses.pop(0), b"")
            return False
        return True

    def _answer(self, status: int, body: bytes, tag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if tag:
            self.send_header("ETag", f'"{tag}"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it overrides
        """Quiet."""


@contextmanager
def running_depot() -> Iterator[Depot]:
    depot = Depot()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"depot": depot}))
    server.daemon_threads = True
    depot.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield depot
    finally:
        for gate in depot.gates.values():
            gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


def picture(colour: str = "red", size: tuple[int, int] = (80, 60), file_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, file_format)
    return file.getvalue()


def recipe(source: str = "0" * 64, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "source": source,
        "checkpoint": "c" * 64,
        "loras": (),
        "prompt": "a cat",
        "negative_prompt": "",
        "strength": 0.5,
        "guidance": 5.0,
        "steps": 8,
        "sampler": Sampler.EULER,
        "size": SIZE,
        "fit": Fit.CROP,
        "background": "#ffffff",
        "seed": 7,
        "output": Output(),
    }
    return Recipe.model_validate(values | changes)


def row(ordinal: int, made: Recipe, depot: Depot | None = None) -> OrderRow:
    base = f"{depot.url if depot else 'http://nowhere'}/out/{ordinal}"
    links = PutLinks(
        picture_key=f"out/{ordinal}/picture",
        picture=f"{base}/picture",
        thumbnail=f"{base}/thumbnail",
        provenance=f"{base}/provenance",
        renditions={each.name: f"{base}/{each.name}" for each in made.output.renditions},
    )
    fingerprint = hashlib.sha256(f"{ordinal}".encode()).hexdigest()
    return OrderRow(ordinal=ordinal, recipe=made, fingerprint=fingerprint, links=links)


def order(
    rows: list[OrderRow],
    depot: Depot | None = None,
    *,
    shard: int = 1,
    fence: str = "",
    epoch: int = 1,
    checkpoint: CheckpointRef | None = None,
    loras: tuple[LoraRef, ...] = (),
    lane: Lane = Lane.BULK,
) -> ShardOrder:
    """A shard whose sources are in *depot*; its checkpoint is one file that nobody looks into."""
    depot = depot or Depot(url="http://nowhere")
    return ShardOrder(
        shard=shard,
        fence=fence or str(uuid.uuid4()),
        epoch=epoch,
        campaign=1,
        lane=lane,
        engine=rows[0].recipe.engine_key,
        engine_digest="e" * 64,
        checkpoint=checkpoint or checkpoint_file(depot),
        loras=loras,
        sources={sha256: depot.link(sha256) for each in rows for sha256 in each.recipe.pictures},
        rows=tuple(rows),
    )


def checkpoint_file(depot: Depot) -> CheckpointRef:
    data = b"weights"
    digest = depot.add(data)
    file = FileRef(path="model.safetensors", url=depot.link(digest), sha256=digest, bytes=len(data))
    return CheckpointRef(name="tiny", digest="c" * 64, files=(file,))


def checkpoint_folder(depot: Depot, folder: Path) -> CheckpointRef:
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            digest = depot.add(data)
            name = path.relative_to(folder).as_posix()
            files.append(FileRef(path=name, url=depot.link(digest), sha256=digest, bytes=len(data)))
    return CheckpointRef(name="tiny", digest="c" * 64, files=tuple(files))


def lora(depot: Depot, data: bytes, scale: float = 1.0, name: str = "style") -> tuple[LoraRef, Digested]:
    digest = depot.add(data)
    ref = LoraRef(name=name, digest=digest, url=depot.link(digest), bytes=len(data))
    return ref, Digested(name=name, digest=digest, scale=scale)


@dataclass
class Scheduler:
    """Collects from one renderer and acknowledges, as the real one does."""

    renderer: Renderer
    epoch: int = 1
    seq: int = 0
    reports: list[RenderReport] = field(default_factory=list)

    def collect(self, wait: float = 20.0) -> Collected:
        answer = Collected.model_validate_json(self.renderer.collect(self.epoch, self.seq, wait))
        self.reports.extend(answer.reports)
        self.seq = max([self.seq, *(report.seq for report in answer.reports)])
        return answer

    def until(self, done: Callable[["Scheduler"], bool]) -> Collected:
        while True:
            answer = self.collect()
            if done(self):
                return answer
            if not answer.reports:
                raise AssertionError(f"nothing came for 20 s: {answer}")

    def rows(self) -> dict[int, RowReport]:
        return {each.ordinal: each for report in self.reports for each in report.rows}

    def all_of(self, count: int) -> dict[int, RowReport]:
        self.until(lambda self: len(self.rows()) >= count)
        return self.rows()


def rows_of(depot: Depot, count: int, first: int = 0) -> list[OrderRow]:
    source = depot.add(picture())
    return [row(first + number, recipe(source, seed=number), depot) for number in range(count)]
