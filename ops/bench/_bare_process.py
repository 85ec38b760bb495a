"""The other end of `ops.bench._bare`: starts one, gives it jobs, ends it."""

import subprocess
import sys
from typing import Self

from actors.settings import RendererSettings
from ops.bench._bare import ANSWER, Done, Job
from ops.bench._report import ROOT


class BareProcess:
    """A context manager. In a session of its own, so that Ctrl-C reaches only us, who end it."""

    def __init__(self, settings: RendererSettings) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ops.bench._bare"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._say(settings.model_dump_json())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def begin(self, job: Job) -> None:
        self._say(job.model_dump_json())

    def end(self) -> Done:
        """Waits for the job's answer."""
        if self._process.stdout is None:
            raise RuntimeError("The bare loop has no output.")
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return Done.model_validate_json(line.removeprefix(ANSWER))
        raise RuntimeError("The bare loop ended; what it said stands above.")

    def _say(self, line: str) -> None:
        if self._process.stdin is None:
            raise RuntimeError("The bare loop has no input.")
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
