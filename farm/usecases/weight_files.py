"""Files of weights on their way in: read from an upload or the depot, hashed, and their headers looked at."""

import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from farm.core.errors import BadRequest, NotFound
from farm.core.keys import IMPORTS
from farm.core.safetensors import (
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    Header,
    header_bytes,
    parse,
)
from farm.ports import Depot

ALLOWED = (".json", ".txt", ".safetensors")
"""Nothing that Python would have to run, or unpickle, to read."""

MAX_FILES = 500
MAX_TENSORS = 200_000


@dataclass(frozen=True, slots=True)
class WeightFile:
    path: str  # where it belongs in the checkpoint
    local: Path
    sha256: str
    bytes: int


def weight_file(path: str, local: Path) -> WeightFile:
    with local.open("rb") as file:
        return WeightFile(path, local, hashlib.file_digest(file, "sha256").hexdigest(), local.stat().st_size)


def read_header(local: Path, *, cap: int = MAX_HEADER_BYTES, max_tensors: int = MAX_TENSORS) -> Header:
    """Raises `BadRequest` with the code ``not_safetensors``."""
    with local.open("rb") as file:
        length = header_bytes(file.read(LENGTH_BYTES), cap=cap)
        text = file.read(length)
    return parse(text, local.stat().st_size - LENGTH_BYTES - length, max_tensors=max_tensors)


@contextmanager
def unpacked(upload: Path) -> Iterator[list[WeightFile]]:
    """The files of a tar, or the upload itself when it is a single .safetensors file."""
    if not tarfile.is_tarfile(upload):
        yield [weight_file("checkpoint.safetensors", upload)]
        return
    with TemporaryDirectory(prefix="halftone-weights-") as folder, tarfile.open(upload, "r:") as tar:
        members = [member for member in tar if not member.isdir()]
        check_paths([member.name for member in members])
        for index, member in enumerate(members):
            stream = tar.extractfile(member) if member.isreg() else None
            if stream is None:  # a link could point anywhere
                raise _refuse(f"{member.name[:200]!r} is no plain file")
            with stream, Path(folder, str(index)).open("wb") as target:
                shutil.copyfileobj(stream, target, 1 << 20)
        names = _without_top([member.name for member in members])
        yield [weight_file(name, Path(folder, str(index))) for index, name in enumerate(names)]


@contextmanager
def fetched(depot: Depot, key: str) -> Iterator[list[WeightFile]]:
    """What an operator put into the depot: one .safetensors object, or all below a prefix that ends in a slash."""
    if not key.startswith(IMPORTS) or ".." in key:
        raise BadRequest(f"Weights are taken from keys below {IMPORTS} only.", code="bad_depot_key")
    found = [name for name, _ in depot.list(key)] if key.endswith("/") else [key]
    if not found:
        raise NotFound(f"There is nothing below {key} in the depot.", code="nothing_in_depot")
    names = [name.removeprefix(key) or "checkpoint.safetensors" for name in found]
    check_paths(names)
    with TemporaryDirectory(prefix="halftone-weights-") as folder:
        for index, name in enumerate(found):
            with depot.open(name) as source, Path(folder, str(index)).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        yield [weight_file(name, Path(folder, str(index))) for index, name in enumerate(_without_top(names))]


def check_paths(paths: list[str]) -> None:
    """Raises `BadRequest` with the code ``bad_checkpoint_files``."""
    if len(paths) > MAX_FILES:
        raise _refuse(f"it has {len(paths)} files; {MAX_FILES} are the limit")
    if len({_tidy(path) for path in paths}) != len(paths):
        raise _refuse("a file stands in it twice")
    for path in paths:
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts or "\\" in path or not path.isprintable():
            raise _refuse(f"{path[:200]!r} leads out of it")
        if not path.endswith(ALLOWED):
            raise _refuse(f"{path[:200]!r} is not among {', '.join(ALLOWED)}")


def _tidy(path: str) -> str:
    return str(PurePosixPath(path))


def _without_top(paths: list[str]) -> list[str]:
    """A tar of a folder begins each name with it; model_index.json says where the checkpoint begins."""
    tidy = [_tidy(path) for path in paths]
    tops = [path.removesuffix("model_index.json") for path in tidy if PurePosixPath(path).name == "model_index.json"]
    top = min(tops, key=len, default="")
    return [path.removeprefix(top) for path in tidy]


def _refuse(why: str) -> BadRequest:
    return BadRequest(f"This checkpoint cannot be taken: {why}.", code="bad_checkpoint_files")
