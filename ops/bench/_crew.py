"""Worker processes of a peer: started and connected before the clock runs, let go together, asked what they did.

A worker is a module of ours, run with ``python -m``: it reads what it is asked (`asked`), gets ready, waits for the
start (`wait_for_go`), works, and answers (`answer`). Peers print, too, so an answer's line begins with a mark.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from ops.bench._report import ROOT

_MARK: Final = "crew "
_READY: Final = _MARK + "ready"


class Crew:
    """A context manager. In sessions of their own, so that Ctrl-C reaches only us, who end them."""

    def __init__(self, module: str, asked: Sequence[Mapping[str, object]]) -> None:
        self._module = module
        self._processes = [self._started(worker) for worker in asked]

    def __enter__(self) -> Self:
        for process in self._processes:
            self._next(process)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def go(self) -> None:
        for process in self._processes:
            _say(process, "go")

    def answers(self) -> list[dict[str, Any]]:
        """Waits until each has ended its work."""
        return [json.loads(self._next(process)) for process in self._processes]

    def _started(self, asked: Mapping[str, object]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        _say(process, json.dumps(asked))
        return process

    def _next(self, process: subprocess.Popen[str]) -> str:
        for line in process.stdout or ():
            if line.startswith(_MARK):
                return line.removeprefix(_MARK)
        raise RuntimeError(f"A worker of {self._module} ended; what it said stands above.")


def _say(process: subprocess.Popen[str], line: str) -> None:
    if process.stdin is None:
        raise RuntimeError("A worker has no input.")
    process.stdin.write(line + "\n")
    process.stdin.flush()


# the worker's side


def asked() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(sys.stdin.readline())
    return value


def wait_for_go() -> None:
    print(_READY, flush=True)
    if not sys.stdin.readline():
        raise SystemExit("Nobody waits for this worker any more.")


def answer(value: Mapping[str, object]) -> None:
    print(_MARK + json.dumps(value), flush=True)
