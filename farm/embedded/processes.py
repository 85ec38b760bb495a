"""Children that outlive us: started in a session of their own, found again by pid and start time, ended for good."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from farm.core.errors import Unavailable

_POLL_SECONDS = 0.05
# Start times are computed from the time of boot, which moves a little when the clock is adjusted.
_START_TOLERANCE_SECONDS = 2.0

# Kept for as long as we live, so that a child that ends is reaped and not left as a zombie.
_children: list[subprocess.Popen[bytes]] = []


class PartFailed(Unavailable):
    """A part of the embedded farm did not start or did not end; the message carries the end of its log."""

    code = "embedded_part_failed"


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a process runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Child:
    """One long-lived process (with all that it starts) of the farm *instance*, whose files lie below *folder*."""

    name: str
    folder: Path
    instance: str
    stop_signal: signal.Signals = signal.SIGTERM
    grace: timedelta = field(default=timedelta(seconds=15))

    @property
    def log(self) -> Path:
        return self.folder / "log" / f"{self.name}.log"

    @property
    def _pid_file(self) -> Path:
        return self.folder / "run" / f"{self.name}.json"

    def start(self, argv: Sequence[str], env: Mapping[str, str], *, cwd: Path, account: Account | None = None) -> None:
        """Starts it detached: neither a closed terminal nor Ctrl-C reaches it."""
        for folder in (self._pid_file.parent, self.log.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        who = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                list(argv),
                env={**env, **self._marks()},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **who,  # type: ignore[call-overload]  # the stubs cannot see through the mapping
            )
        _children.append(process)
        self._note(process.pid, cwd)

    def alive(self) -> bool:
        return self._process() is not None

    def wait_ready(self, ready: Callable[[], bool], timeout: timedelta) -> None:
        """Raises `PartFailed` when it dies first or is not ready in time."""
        deadline = time.monotonic() + timeout.total_seconds()
        while not ready():
            if not self.alive():
                raise PartFailed(f"{self.name} ended while it was starting. {self.log_tail()}")
            if time.monotonic() > deadline:
                raise PartFailed(f"{self.name} was not ready after {timeout.total_seconds():.0f} s. {self.log_tail()}")
            time.sleep(_POLL_SECONDS)

    def wait_done(self, timeout: timedelta) -> None:
        """For a command that ends by itself. Raises `PartFailed` when it fails or takes longer."""
        process = next(child for child in reversed(_children) if child.pid == self._noted()["pid"])
        try:
            status = process.wait(timeout.total_seconds())
        except subprocess.TimeoutExpired as error:
            self.stop()
            raise PartFailed(f"{self.name} took longer than {timeout}. {self.log_tail()}") from error
        self._pid_file.unlink(missing_ok=True)
        if status != 0:
            raise PartFailed(f"{self.name} failed with status {status}. {self.log_tail()}")

    def stop(self) -> None:
        """Ends it politely, then by force, then whatever it left behind. No harm when nothing runs."""
        process = self._process()
        if process is not None:
            _signal(process, self.stop_signal)
            psutil.wait_procs([process], timeout=self.grace.total_seconds())
        self._kill_rest(time.monotonic() + 10)
        self._pid_file.unlink(missing_ok=True)
        _children[:] = [child for child in _children if child.poll() is None]  # what ended is let go of

    def log_tail(self, lines: int = 15) -> str:
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return f"There is no log at {self.log}."
        tail = "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
        return f"The end of {self.log}:\n{tail}" if tail else f"{self.log} is empty."

    def _kill_rest(self, deadline: float) -> None:
        while rest := list(self._all()):
            for process in rest:
                _signal(process, signal.SIGKILL)
            psutil.wait_procs(rest, timeout=1)
            if time.monotonic() > deadline:
                raise PartFailed(f"{self.name}: processes {[process.pid for process in rest]} do not end.")

    def _all(self) -> Iterator[psutil.Process]:
        main = self._process()
        if main is not None:
            yield main
        noted = self._noted()
        for process in psutil.process_iter():
            if process.pid == os.getpid() or process == main or not _running(process):
                continue
            if self._is_marked(process) or _in_session(process, noted):
                yield process

    def _process(self) -> psutil.Process | None:
        noted = self._noted()
        try:
            process = psutil.Process(noted["pid"])
            same_start = abs(process.create_time() - noted["started"]) < _START_TOLERANCE_SECONDS
        except (KeyError, psutil.Error):
            return None
        ours = same_start or self._is_marked(process)  # a recycled pid is somebody else's
        return process if ours and _running(process) else None

    def _noted(self) -> dict[str, Any]:
        """What the pid file says: ``pid``, ``started``, ``cwd``. Empty when there is none."""
        try:
            return dict(json.loads(self._pid_file.read_text()))
        except (OSError, ValueError):
            return {}

    def _note(self, pid: int, cwd: Path) -> None:
        try:
            started = psutil.Process(pid).create_time()
        except psutil.Error:  # it ended at once; the log says why
            started = 0.0
        self._pid_file.write_text(json.dumps({"pid": pid, "started": started, "cwd": str(cwd.resolve())}))

    def _marks(self) -> dict[str, str]:
        """Everything a child starts inherits these, in whatever process group it ends up."""
        return {"FARM_INSTANCE": self.instance, "FARM_PART": self.name}

    def _is_marked(self, process: psutil.Process) -> bool:
        try:
            env = process.environ()
        except (psutil.Error, OSError):
            return False
        return all(env.get(name) == value for name, value in self._marks().items())


def _running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _in_session(process: psutil.Process, noted: Mapping[str, Any]) -> bool:
    """Whether it belongs to the session that our main process led, dead or alive.

    Ray's agents and PostgreSQL's workers write their title over their environment, and our marks with it. The folder is
    compared too: in the end a session's number is a pid, and pids come back.
    """
    try:
        return os.getsid(process.pid) == noted.get("pid") and process.cwd() == noted.get("cwd")
    except (OSError, psutil.Error):
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass
