"""Pictures into a folder, renditions into folders in it: in parallel, checked, and never half a file under its name."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path, PurePath
from typing import IO, Protocol

from farm.sdk.transport import ApiError
from schemas.campaign import PictureLinks, Render

NAME = "{source}_{style}_{strength}_{variant}"
AT_ONCE = 8
BATCH = 200
"""As many as a page has: their links are good for ten minutes, so no more are asked for than are fetched soon."""

TRIES = 3
_FIELDS = ("source", "style", "strength", "variant", "size", "seed", "ordinal", "version", "id")


class Source(Protocol):
    """What is needed of the client."""

    def fetch(self, link: str, target: IO[bytes]) -> None: ...

    def links(self, render: str) -> PictureLinks: ...


@dataclass(slots=True)
class Downloaded:
    saved: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)  # they were there already
    failed: list[tuple[str, str]] = field(default_factory=list)  # render, why


@dataclass(frozen=True, slots=True)
class _File:
    """A picture, or a rendition of it."""

    render: Render
    path: Path
    sha256: str | None
    rendition: str | None = None

    def link(self, links: PictureLinks) -> str:
        return links.picture if self.rendition is None else links.renditions[self.rendition]


def download(
    farm: Source, renders: Iterable[Render], folder: Path, name: str, on_file: Callable[[Render], None] | None
) -> Downloaded:
    """Raises `ValueError` for a template with an unknown field."""
    check_template(name)
    folder.mkdir(parents=True, exist_ok=True)
    done, taken = Downloaded(), set[str]()
    rest = iter(renders)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="download") as pool:
        while batch := list(islice(rest, BATCH)):
            files = [file for render in batch for file in _files(render, folder, file_name(render, name, taken))]
            for file, (new, why) in zip(files, pool.map(partial(_one, farm), files), strict=True):
                if why is not None:
                    done.failed.append((file.render.id, why))
                else:
                    (done.saved if new else done.kept).append(file.path)
                if on_file is not None and file.rendition is None:
                    on_file(file.render)
    return done


def _files(render: Render, folder: Path, name: str) -> Iterator[_File]:
    yield _File(render, folder / name, render.sha256)
    for made in render.renditions:
        within = folder / made.name
        within.mkdir(exist_ok=True)
        yield _File(render, within / f"{PurePath(name).stem}.{made.format}", made.sha256, made.name)


def check_template(name: str) -> None:
    unknown = set(re.findall(r"\{(.*?)\}", name)) - set(_FIELDS)
    if unknown or "{" in re.sub(r"\{\w+\}", "", name):
        raise ValueError(f"A file name may hold {', '.join('{' + field + '}' for field in _FIELDS)}; not {name!r}.")


def file_name(render: Render, template: str, taken: set[str]) -> str:
    """Without a path in it, whatever the source was called; of two equal names the later one ends in its ordinal."""
    values = {
        "source": PurePath(render.source_name).stem,
        "style": render.style,
        "strength": f"{render.strength:g}",
        "variant": str(render.variant),
        "size": render.size,
        "seed": str(render.seed),
        "ordinal": str(render.ordinal),
        "version": str(render.style_version),
        "id": render.id,
    }
    stem = re.sub(r"\{(\w+)\}", lambda match: values[match[1]], template)
    stem = re.sub(r"[^\w. -]", "-", stem).strip(". ")[:180] or render.id
    if stem.casefold() in taken:  # some file systems do not tell case apart
        stem = f"{stem}_{render.ordinal}"
    taken.add(stem.casefold())
    return f"{stem}.{render.format}"


def _one(farm: Source, file: _File) -> tuple[bool, str | None]:
    """Whether it is new, and why it could not be had."""
    path = file.path
    if path.exists() and _sha256(path) == file.sha256:
        return False, None
    part = path.with_name(f".{path.name}.part")
    why = "it has no picture"
    fresh = False
    for _ in range(TRIES):
        try:
            link = _link(farm, file, fresh=fresh)
            with part.open("wb") as target:
                farm.fetch(link, target)
        except ApiError as error:
            why, fresh = str(error), True
            continue
        if _sha256(part) == file.sha256:
            part.replace(path)
            return True, None
        why = "what came has another sha256 than was rendered"
    part.unlink(missing_ok=True)
    return False, why


def _link(farm: Source, file: _File, *, fresh: bool) -> str:
    """The link that came with the render, or a new one: the first may have run out."""
    render = file.render
    return file.link(farm.links(render.id) if fresh or render.links is None else render.links)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
