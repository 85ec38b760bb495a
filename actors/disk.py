"""Weights on disk: fetched once for all renderers of a machine, checked, and kept while there is room.

An entry appears by one rename, so it is whole or not there. Whoever wants it holds a shared lock on its lock file, and
whoever removes it needs that lock alone; whoever makes it holds another. The kernel lets go of the locks of a process
that dies.
"""

import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.engine.port import LoraFile, Refused, Weights
from actors.links import Links, WrongDigest
from actors.residency import Resident, leaving
from schemas.order import CheckpointRef, LoraRef, ShardOrder
from schemas.report import FailureKind

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py")
"""Loading these can run code."""


class Lease:
    """Entries that stay on disk until it is released."""

    def __init__(self) -> None:
        self._locks: list[int] = []

    def add(self, descriptor: int) -> None:
        self._locks.append(descriptor)

    def take_over(self, other: "Lease") -> None:
        while other._locks:  # noqa: SLF001 - the same class
            self._locks.append(other._locks.pop())  # noqa: SLF001

    def release(self) -> None:
        while self._locks:
            os.close(self._locks.pop())


class Disk:
    def __init__(self, root: Path, budget_bytes: int, links: Links) -> None:
        self._root, self._budget_bytes, self._links = root, budget_bytes, links
        for name in ("entries", "locks", "unfinished"):
            (root / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        if root.stat().st_uid != os.getuid():
            raise PermissionError(f"{root} belongs to another user, who could swap the weights after the check.")
        self._pruning = threading.Lock()

    def weights(self, order: ShardOrder, lease: Lease) -> Weights:
        """Everything that *order* needs, on disk until *lease* is released. Raises `Refused`."""
        checkpoint = self._entry(order.checkpoint.digest, lease, lambda at: self._fetch_folder(order.checkpoint, at))
        by_digest = {ref.digest: ref for ref in order.loras}
        loras: list[LoraFile] = []
        for wanted in order.engine.loras:
            if wanted.scale == 0:
                continue
            ref = by_digest.get(wanted.digest)
            if ref is None:
                raise Refused(FailureKind.BAD_WEIGHTS, "lora_link_missing", f"No link to LoRA {wanted.name} came.")
            loras.append(LoraFile(wanted.digest, self._lora(ref, lease), wanted.scale))
        self._prune()
        return Weights(order.checkpoint.digest, checkpoint, tuple(loras), order.engine.parts)

    def _lora(self, ref: LoraRef, lease: Lease) -> Path:
        def fetch(at: Path) -> None:
            self._fetch(ref.url, at / "lora.safetensors", ref.digest, ref.bytes, f"LoRA {ref.name}")

        return self._entry(ref.digest, lease, fetch) / "lora.safetensors"

    def _fetch_folder(self, ref: CheckpointRef, at: Path) -> None:
        for file in ref.files:
            path = at / file.path
            if not path.resolve().is_relative_to(at.resolve()) or path.suffix.lower() in PICKLES:
                detail = f"{file.path} is not taken: weights are .safetensors, inside their folder."
                raise Refused(FailureKind.BAD_WEIGHTS, "weights_unsafe_file", detail)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(file.url, path, file.sha256, file.bytes, f"{file.path} of checkpoint {ref.name}")

    def _fetch(self, url: str, path: Path, sha256: str, size: int, what: str) -> None:
        try:
            self._links.download(url, path, sha256=sha256, limit=size)
        except WrongDigest as error:
            raise Refused(FailureKind.BAD_WEIGHTS, "weights_wrong_digest", f"{what}: {error}.") from error
        except OSError as error:
            # As little the fault of the render as a store that does not answer, and over as suddenly.
            detail = f"{what} could not be kept on disk: {error.strerror or error}."
            raise Refused(FailureKind.DEPOT, "weights_disk", detail) from error

    def _entry(self, digest: str, lease: Lease, fetch: Callable[[Path], None]) -> Path:
        name = _safe(digest)
        final = self._root / "entries" / name
        use = self._lock(name)
        lease.add(use)
        fcntl.flock(use, fcntl.LOCK_SH)  # from here on nobody removes it
        if not final.exists():
            with self._making(name):
                if not final.exists():  # another renderer made it while we waited
                    with self._unfinished(name) as folder:
                        fetch(folder)
                        folder.rename(final)
        os.utime(final)
        return final

    def _lock(self, name: str) -> int:
        return os.open(self._root / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def _making(self, name: str) -> Iterator[None]:
        """A lock of its own: turning a shared lock into an exclusive one is not atomic."""
        descriptor = self._lock(f"{name}.making")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _unfinished(self, name: str) -> Iterator[Path]:
        """What a renderer that died left behind under this name goes first: only one makes it at a time."""
        for left in (self._root / "unfinished").glob(f"{name}.*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = self._root / "unfinished" / f"{name}.{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _prune(self) -> None:
        with self._pruning:
            for name in leaving(self._residents(), budget_bytes=self._budget_bytes, pinned=self._in_use()):
                self._remove(name)

    def _residents(self) -> list[Resident]:
        found: list[Resident] = []
        for folder in (self._root / "entries").iterdir():
            try:
                size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                found.append(Resident(folder.name, size, folder.stat().st_mtime))
            except FileNotFoundError:  # another renderer removed it just now
                continue
        return found

    def _in_use(self) -> frozenset[str]:
        return frozenset(resident.name for resident in self._residents() if not self._free(resident.name))

    def _free(self, name: str) -> bool:
        descriptor = self._lock(name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _remove(self, name: str) -> None:
        descriptor = self._lock(name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = self._root / "unfinished" / f"{name}.{secrets.token_hex(4)}"
            (self._root / "entries" / name).rename(gone)  # disappears at once, however long deleting takes
            shutil.rmtree(gone, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):
            pass  # somebody began to use it, or removed it
        finally:
            os.close(descriptor)


def _safe(digest: str) -> str:
    if not digest.isalnum():
        raise Refused(FailureKind.BAD_WEIGHTS, "weights_wrong_digest", f"{digest!r} is no digest.")
    return digest
