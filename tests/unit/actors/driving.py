"""Renderers to try, and GPUs that work when they are let."""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from actors.engine.fake import FakeEngine
from actors.engine.port import Ended, Group, Rendered, Row, Weights
from actors.renderer import Renderer, RendererSettings
from schemas.report import Failure

Make = Callable[..., Renderer]
"""Takes an engine, and changes to the settings."""


@contextmanager
def running_renderers(cache: Path) -> Iterator[Make]:
    """Those that are made are shut down at the end."""
    with ExitStack() as stack:

        def made(engine: FakeEngine | None = None, **changes: Any) -> Renderer:
            values = {"batch": 2, "fake_seconds": 0.0, "io_threads": 2, "encoders": 0} | changes
            settings = RendererSettings(name="farm/test/1/0", engine="fake", cache=cache, **values)
            renderer = Renderer(settings, engine)
            stack.callback(renderer.__ray_shutdown__)
            return renderer

        yield made


class Gate:
    """A GPU that works only when it is let: stands for the engine's sleep."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, seconds: float) -> None:
        self.reached.set()
        assert self.open.wait(30)


class Recorder(FakeEngine):
    """Remembers the rows of each pass, and what was begun, staged and loaded. Pictures are copied once ``copied`` is
    set, as it is unless a test clears it."""

    def __init__(self, *, batch: int = 2, sleep: Callable[[float], None] = lambda _: None) -> None:
        super().__init__(batch=batch, seconds=0.0, sleep=sleep)
        self.passes: list[list[Row]] = []
        self.begun: list[Row] = []
        self.staged: list[Weights] = []
        self.loaded: list[Weights] = []
        self.copied = threading.Event()
        self.copied.set()

    def stage(self, weights: Weights) -> None:
        self.staged.append(weights)

    def load(self, weights: Weights) -> None:
        self.loaded.append(weights)
        super().load(weights)

    def begin(self, id: Hashable, row: Row) -> Ended | None:  # noqa: A002 - the port's name for it
        self.begun.append(row)
        return super().begin(id, row)

    def step(self, group: Group) -> Sequence[Ended]:
        self.passes.append([each.row for each in self._of(group).values()])
        return [Ended(each.id, self._late(each.result)) for each in super().step(group)]

    def _late(self, result: Rendered | Failure) -> Rendered | Failure:
        if isinstance(result, Failure):
            return result

        def picture() -> Image.Image:
            assert self.copied.wait(30)
            return result.picture()

        return replace(result, picture=picture)


class Stepper:
    """A GPU that takes as many steps as it is allowed; stands for the engine's sleep."""

    def __init__(self, steps: int = 0) -> None:
        self._allowed = threading.Semaphore(steps)
        self._begun = threading.Semaphore(0)

    def __call__(self, seconds: float) -> None:
        self._begun.release()
        assert self._allowed.acquire(timeout=30)

    def allow(self, steps: int) -> None:
        for _ in range(steps):
            self._allowed.release()

    def until(self, steps: int) -> None:
        """Until so many more steps have begun; the last one has not ended unless it was allowed to."""
        for _ in range(steps):
            assert self._begun.acquire(timeout=30)
