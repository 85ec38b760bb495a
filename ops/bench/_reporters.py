"""Renderers without renders in a process of their own: they take shards, and say of every row that it has succeeded.

So what renderers do (make reports, put them into JSON) runs beside the scheduler, as on a farm.
"""

import multiprocessing
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Self

from farm.core.settle import ShardRow
from ops.bench._no_op import NoOp

_AHEAD = 64
"""Reports that wait to be heard; then the renderers wait, too."""


class Reporters:
    """A context manager."""

    def __init__(self, mates: Sequence[NoOp], rows: int) -> None:
        """*rows* in a report at most."""
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, list(mates), rows), daemon=True)
        self._process.start()
        theirs.close()
        self._ours.recv()  # it is ready

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._process.kill()
        self._process.join()

    def take(self, name: str, shard: ShardRow, fingerprints: Mapping[int, str] | None) -> None:
        self._ours.send((name, shard, fingerprints))

    def hear(self, most: int) -> list[tuple[str, str]]:
        """(name, JSON of a `Collected`): at least one, at most *most*. Blocks until there is one."""
        found: list[tuple[str, str]] = []
        while len(found) < most and (not found or self._ours.poll()):
            found.append(self._ours.recv())
        for _ in found:
            self._ours.send(None)
        return found


def _serve(pipe: Connection, mates: list[NoOp], rows: int) -> None:
    by_name = {mate.name: mate for mate in mates}
    unheard = 0
    pipe.send("ready")
    try:
        while True:
            busy = unheard < _AHEAD and any(mate.has_rows for mate in mates)
            while not busy or pipe.poll():
                told = pipe.recv()
                if told is None:
                    unheard -= 1
                else:
                    name, shard, fingerprints = told
                    by_name[name].take(shard, fingerprints)
                busy = unheard < _AHEAD and any(mate.has_rows for mate in mates)
            for mate in mates:
                if (text := mate.collected(rows)) is not None:
                    pipe.send((mate.name, text))
                    unheard += 1
                    mate.let_go()
    except (EOFError, BrokenPipeError, ConnectionResetError):  # nobody listens any more
        return
