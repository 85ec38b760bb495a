"""A pod, as far as one machine can be one: containers with a root of their own, in one process namespace.

As Kubernetes makes them with ``shareProcessNamespace``: a first process holds the namespace and reaps, each container
sees its own mounts (a root that it cannot write, the pod's /tmp, the pod's /dev/shm), runs as a user without any
right, and is started again when it ends. The network is the machine's: pods differ by ports, not by addresses.
"""

import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import farm

USER = 10001
_FIRST = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True: signal.pause()"
_BACKOFF = 1.0
"""Seconds until an ended container is started again. Kubernetes waits up to 10 s the first time, later minutes."""

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/dev", "/sys")
_BECOME = (
    'exec /usr/sbin/chroot . setpriv --reuid="$0" --regid="$0" --clear-groups --no-new-privs --bounding-set=-all '
    '-- "$@"\n'
)


@dataclass(slots=True)
class Container:
    """Started again whenever it ends, until its pod does; ``ended`` holds the exit code of each run."""

    name: str
    log: Path
    argv: Sequence[str]
    env: Mapping[str, str]
    ended: list[int] = field(default_factory=list)
    _process: "subprocess.Popen[bytes] | None" = None

    def main(self) -> psutil.Process | None:
        """Its first process; None between two runs."""
        if self._process is None or self._process.poll() is not None:
            return None
        try:
            inside = psutil.Process(self._process.pid).children()
        except psutil.Error:
            return None
        return inside[0] if inside else None

    def processes(self) -> list[psutil.Process]:
        main = self.main()
        try:
            return [main, *main.children(recursive=True)] if main else []
        except psutil.Error:
            return []

    def terminate(self) -> None:
        main = self.main()
        if main:
            main.terminate()

    def kill(self) -> None:
        """All of its processes, as a runtime does that ends a container."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.Error:
                continue

    def running(self) -> bool:
        return self.main() is not None


class Pod:
    """Use `pod`, which ends it. *share_processes* False gives each container a namespace of its own."""

    def __init__(self, name: str, *, share_processes: bool = True, user: int = USER) -> None:
        self.name, self.user, self._shared = name, user, share_processes
        self.folder = Path(tempfile.mkdtemp(prefix=f"pod-{name}-", dir="/tmp"))
        self._shm = Path("/dev/shm") / f"pod-{secrets.token_hex(6)}"
        (self.folder / "root").mkdir()
        for folder in (self.folder / "tmp", self._shm):
            folder.mkdir()
            folder.chmod(0o1777)
        self.folder.chmod(0o711)
        self.containers: dict[str, Container] = {}
        self._ending, self._keepers = threading.Event(), list[threading.Thread]()
        argv = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", _FIRST]
        # What `unshare` says as it is killed is of no interest.
        self._first = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not psutil.Process(self._first.pid).children():
            assert self._first.poll() is None, "no process namespace can be made here"
            self._ending.wait(0.01)
        [self._first_inside] = psutil.Process(self._first.pid).children()

    def run(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> Container:
        """Starts a container and keeps it up. It knows *env* and the image's PATH, and nothing else."""
        image = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}
        container = Container(name, self.folder / f"{name}.log", argv, {**image, **env})
        self.containers[name] = container
        self._start(container)
        keeper = threading.Thread(target=self._keep, args=(container,), daemon=True)
        keeper.start()
        self._keepers.append(keeper)
        return container

    def terminate(self) -> None:
        """SIGTERM to every container at once, as Kubernetes ends a pod; none is started again."""
        self._ending.set()
        for container in self.containers.values():
            container.terminate()

    def over(self) -> bool:
        return not any(container.running() for container in self.containers.values())

    def end(self) -> None:
        """Whatever still runs is killed with the namespace."""
        self._ending.set()
        for container in self.containers.values():
            container.kill()
        self._first_inside.kill()
        self._first.wait(10)
        for keeper in self._keepers:
            keeper.join(10)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self._shm, ignore_errors=True)

    def logs(self) -> str:
        found = (container.log for container in self.containers.values())
        return "\n".join(f"== {log.stem}\n{log.read_text(errors='replace')[-4000:]}" for log in found if log.exists())

    def _start(self, container: Container) -> None:
        space = ["nsenter", f"--target={self._first_inside.pid}", "--pid", "--"]
        if not self._shared:
            space = ["unshare", "--pid", "--fork", "--kill-child"]
        script = "\n".join([*_mounts(self.folder, self._shm), _BECOME])
        argv = [*space, "unshare", "--mount", "--propagation=private", "sh", "-ec", script, str(self.user)]
        argv += container.argv
        with container.log.open("ab") as log:
            container._process = subprocess.Popen(
                argv, env=container.env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _keep(self, container: Container) -> None:
        while True:
            assert container._process is not None
            container.ended.append(container._process.wait())
            if self._ending.wait(_BACKOFF):
                return
            self._start(container)


@contextmanager
def pod(name: str, *, share_processes: bool = True, user: int = USER) -> Iterator[Pod]:
    """Needs the rights to make namespaces and to mount."""
    made = Pod(name, share_processes=share_processes, user=user)
    try:
        yield made
    except BaseException:
        print(made.logs())
        raise
    finally:
        made.end()


def _mounts(folder: Path, shm: Path) -> list[str]:
    """What a container's first process does before it gives up its rights: a root of its own, that cannot be written.

    In it are the machine's programs and what stands for the image (interpreter, virtual environment, the farm), each
    where it lies outside, the pod's /tmp and /dev/shm, and the processes of the namespace.
    """
    root = folder / "root"
    found = sorted({Path(sys.prefix), Path(sys.base_prefix), Path(farm.__file__).parents[1]})
    image = [
        path
        for path in found
        if not any(path.is_relative_to(other) for other in (Path("/usr"), *found) if other != path)
    ]
    programs = [path for path in map(Path, _PROGRAMS) if path.exists()]
    lines = [f"mount -t tmpfs -o mode=755 tmpfs {root}"]
    for path in programs:
        inside = f"{root}{path}"
        lines += (
            [f"cp -P {path} {inside}"] if path.is_symlink() else [f"mkdir {inside}", f"mount --rbind {path} {inside}"]
        )
    lines += [f"mkdir {root}/tmp {root}/proc", f"mount -t proc proc {root}/proc", f"mount --bind {shm} {root}/dev/shm"]
    lines.append(f"mount --bind {folder / 'tmp'} {root}/tmp")
    for path in image:
        outside, inside = shlex.quote(str(path)), shlex.quote(f"{root}{path}")
        lines += [f"mkdir -p {inside}", f"mount --bind {outside} {inside}", f"mount -o remount,bind,ro {inside}"]
    return [*lines, f"mount -o remount,ro {root}", f"cd {root}"]
