"""Pictures from this machine to the farm: those that it has already are not sent again."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress

from farm.cli.output import err, say
from farm.sdk import ApiError, Client, Unreachable
from schemas.source import Source

AT_ONCE = 4


@dataclass(slots=True)
class Uploads:
    sources: dict[Path, Source] = field(default_factory=dict)
    refused: dict[Path, str] = field(default_factory=dict)  # and why

    @property
    def ids(self) -> dict[Path, str]:
        return {path: source.id for path, source in self.sources.items()}


def upload_all(farm: Client, paths: Sequence[Path]) -> Uploads:
    """Says on stderr which were refused, and why. Raises `Unreachable`."""
    done = Uploads()
    with (
        ThreadPoolExecutor(AT_ONCE, thread_name_prefix="upload") as pool,
        Progress(console=err, transient=True, disable=not err.is_terminal) as progress,
    ):
        results: Iterable[Source | ApiError] = pool.map(lambda path: _one(farm, path), paths)
        for path, result in zip(paths, progress.track(results, len(paths), description="Uploading"), strict=True):
            if isinstance(result, ApiError):
                done.refused[path] = result.problem.detail
            else:
                done.sources[path] = result
    for path, why in done.refused.items():
        say(f"{path.name}: {why}")
    return done


def _one(farm: Client, path: Path) -> Source | ApiError:
    data = path.read_bytes()
    try:
        return farm.source(f"src_{hashlib.sha256(data).hexdigest()}")
    except Unreachable:
        raise
    except ApiError as missing:
        if missing.problem.status != 404:
            raise
    try:
        return farm.upload_source(data, path.name)
    except Unreachable:
        raise
    except ApiError as refused:
        if refused.problem.status not in (413, 422):
            raise
        return refused
