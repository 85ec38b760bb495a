"""Pictures that go with a source (mask, control, references, blend) in files: from paths to ids of uploaded pictures.

A companion is a path relative to the file, or an id. A folder of masks, or of control pictures, stands beside `sources`
and holds one picture for each photo, of the same name.
"""

import glob
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from farm.cli.exits import USAGE, Stop

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
FOLDERS = {"masks": "mask", "controls": "control"}
"""Keys of a block that name a folder, and the key of a source that each fills."""

_SAID = 20
"""Faults that are said one by one."""

T = TypeVar("T")

_MASK_SAYS = ("feather", "invert")  # `masks: {folder: masks/, feather: 12}`


def found(name: str, base: Path) -> list[str | Path]:
    """An id as it is; a path, folder or pattern as the pictures there. Raises `Stop`."""
    path = base / Path(name).expanduser()
    if name.startswith("src_") and not path.exists():
        return [name]
    if path.is_file():
        return [path]
    if path.is_dir():
        paths = [child for child in path.iterdir() if child.is_file() and child.suffix.lower() in PICTURES]
    else:
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207  (Path.glob refuses absolute patterns)
        paths = [Path(match) for match in matches if Path(match).is_file()]
    if not paths:
        raise Stop(f"There are no pictures at {path}.", USAGE)
    return sorted(paths)


def one(name: Any, base: Path) -> Any:
    """A companion; what is no text goes on to the validation, which says so. Raises `Stop`."""
    if not isinstance(name, str):
        return name
    pictures = found(name, base)
    if len(pictures) > 1:
        raise Stop(f"{name} stands for {len(pictures)} pictures, and one is meant.", USAGE)
    return pictures[0]


def spelled_out(entry: dict[str, Any], base: Path) -> dict[str, Any]:
    """An entry of `sources`, with its companions found: ``mask: m.png`` is short for ``mask: {picture: m.png}``."""
    changed: dict[str, Any] = {}
    if isinstance(entry.get("mask"), str | dict):
        changed["mask"] = _part(entry["mask"], base)
    if entry.get("control") is not None:
        changed["control"] = one(entry["control"], base)
    if entry.get("references") is not None:
        changed["references"] = [one(name, base) for name in _list(entry["references"])]
    if entry.get("blend") is not None:
        changed["blend"] = [_part(part, base) for part in _list(entry["blend"])]
    return {**entry, **changed}


def _part(given: Any, base: Path) -> Any:
    """A mask, or a part of a blend, which may have a mask of its own."""
    if isinstance(given, str):
        return {"picture": one(given, base)}
    if not isinstance(given, dict):
        return given
    return {key: one(value, base) if key in ("picture", "mask") else value for key, value in given.items()}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def from_folders(entries: list[dict[str, Any]], block: Mapping[str, Any], base: Path) -> list[dict[str, Any]]:
    """With what the block's folders hold for each photo; an entry that says it itself keeps that. Raises `Stop`."""
    for key, fills in FOLDERS.items():
        if key in block:
            folder, more = _folder(key, block[key], base)
            there = _by_stem(folder)
            entries = together(partial(_with, entry, fills, folder, there, more) for entry in entries)
    return entries


def together(makers: Iterable[Callable[[], T]]) -> list[T]:
    """What each of them gives. Raises `Stop` with what all of them find wrong, not only the first."""
    made: list[T] = []
    wrong: list[str] = []
    for make in makers:
        try:
            made.append(make())
        except Stop as stop:
            wrong.append(str(stop))
    if wrong:
        more = [f"And {len(wrong) - _SAID} more of the kind."] if len(wrong) > _SAID else []
        raise Stop("\n".join([*wrong[:_SAID], *more]), USAGE)
    return made


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    there = defaultdict[str, list[Path]](list)
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURES:
            there[path.stem].append(path)
    return there


def _folder(key: str, given: Any, base: Path) -> tuple[Path, dict[str, Any] | None]:
    """And for masks, what is said of each."""
    name, more = given, None if key == "controls" else dict[str, Any]()
    if key == "masks" and isinstance(given, dict):
        name, more = given.get("folder"), {word: given[word] for word in _MASK_SAYS if word in given}
        if unknown := given.keys() - {"folder", *_MASK_SAYS}:
            raise Stop(f"`{key}` has no {min(unknown)!r}; there are folder, {', '.join(_MASK_SAYS)}.", USAGE)
    folder = base / Path(name).expanduser() if isinstance(name, str) else None
    if folder is None or not folder.is_dir():
        raise Stop(f"`{key}` names no folder: {folder or given}.", USAGE)
    return folder, more


def _with(
    entry: dict[str, Any], fills: str, folder: Path, there: Mapping[str, list[Path]], more: dict[str, Any] | None
) -> dict[str, Any]:
    return entry if fills in entry else {**entry, fills: _of(entry, folder, there, more)}


def _of(entry: dict[str, Any], folder: Path, there: Mapping[str, list[Path]], more: dict[str, Any] | None) -> Any:
    source = entry.get("source")
    if not isinstance(source, Path):
        raise Stop(f"{source} is no file here, so nothing in {folder} bears its name. Say it in its entry.", USAGE)
    paths = there.get(source.stem, [])
    if len(paths) != 1:
        which = "no picture" if not paths else "several pictures"
        raise Stop(f"{folder} has {which} called {source.stem}, which {source.name} wants.", USAGE)
    return paths[0] if more is None else {"picture": paths[0], **more}


def paths_in(value: Any) -> Iterator[Path]:
    """Every picture that is still on this machine, in order."""
    match value:
        case Path():
            yield value
        case dict():
            yield from (path for inner in value.values() for path in paths_in(inner))
        case list():
            yield from (path for inner in value for path in paths_in(inner))


def with_ids(value: Any, ids: Mapping[Path, str]) -> Any:
    """With ids in the place of paths. Raises `KeyError` for one that has none."""
    match value:
        case Path():
            return ids[value]
        case dict():
            return {key: with_ids(inner, ids) for key, inner in value.items()}
        case list():
            return [with_ids(inner, ids) for inner in value]
        case _:
            return value
