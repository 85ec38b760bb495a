"""How long the GPU took, without waiting for it: marks are laid down between its orders and read later."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from actors.engine.port import GpuSeconds

AHEAD: Final = 2
"""Passes that are ordered before the first of them is done: enough that the GPU never waits for an order, few enough
that what is cancelled stops soon."""


class Span:
    """Between two marks. ``seconds`` waits for the second one. *rows* share it."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self.rows = 1
        self._seconds: float | None = None
        self._began = self._mark()
        self._ended = self._began

    def _mark(self) -> float | torch.cuda.Event:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def end(self) -> None:
        self._ended = self._mark()

    def wait(self) -> None:
        if isinstance(self._ended, torch.cuda.Event):
            self._ended.synchronize()

    @property
    def done(self) -> bool:
        if isinstance(self._ended, torch.cuda.Event):
            return bool(self._ended.query())  # type: ignore[no-untyped-call]
        return True

    @property
    def seconds(self) -> float:
        """Of one of its rows."""
        if self._seconds is None:
            if isinstance(self._began, float) and isinstance(self._ended, float):
                took = self._ended - self._began
            elif isinstance(self._began, torch.cuda.Event) and isinstance(self._ended, torch.cuda.Event):
                self._ended.synchronize()
                took = self._began.elapsed_time(self._ended) / 1000
            else:
                raise TypeError("the two marks of a span are of two kinds")
            self._seconds = took / self.rows
        return self._seconds


class Tally:
    """What a cache had, what it had to make, and how long that took; what the GPU still works on comes in later."""

    def __init__(self) -> None:
        self.hits = self.made = 0
        self.seconds = 0.0
        self._spans: deque[Span] = deque()

    def add(self, span: Span) -> None:
        self.made += 1
        self._spans.append(span)
        while self._spans and self._spans[0].done:
            self.seconds += self._spans.popleft().seconds


class Clock:
    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._passes: deque[Span] = deque()
        self.sources, self.prompts = Tally(), Tally()

    @contextmanager
    def span(self, rows: int = 1) -> Iterator[Span]:
        span = Span(self._device)
        span.rows = rows
        yield span
        span.end()

    @contextmanager
    def counted(self, tally: Tally, *, hit: bool) -> Iterator[None]:
        """Around what looks into a cache."""
        with self.span() as span:
            yield
        if hit:
            tally.hits += 1
        else:
            tally.add(span)

    def keep_pace(self, span: Span) -> None:
        """Waits until no more than `AHEAD` passes are ordered and not done."""
        self._passes.append(span)
        while len(self._passes) > AHEAD:
            self._passes.popleft().wait()


class Spent(GpuSeconds):
    """The time of one row; reading it waits for the GPU."""

    __slots__ = ("_decode", "_denoise", "_encode")
    _encode: list[Span]
    _denoise: list[Span]
    _decode: list[Span]

    def __init__(self, encode: Span, denoise: list[Span], decode: Span) -> None:
        for name, spans in (("_encode", [encode]), ("_denoise", denoise), ("_decode", [decode])):
            object.__setattr__(self, name, spans)

    @property
    def encode(self) -> float:
        return _sum(self._encode)

    @property
    def denoise(self) -> float:
        return _sum(self._denoise)

    @property
    def decode(self) -> float:
        return _sum(self._decode)


def _sum(spans: list[Span]) -> float:
    return sum(span.seconds for span in spans)
