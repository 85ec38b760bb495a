"""Dockerfiles as values, and the build context that .dockerignore leaves."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

import typer
from dockerfile_parse import DockerfileParser

from farm.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "ops" / "docker"
DOCKERFILES = {"control": DOCKER / "control.Dockerfile", "renderer": DOCKER / "renderer.Dockerfile"}


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction; ``stage`` is the name of the stage that it stands in, empty for the last one."""

    stage: str
    what: str
    text: str

    def words(self) -> list[str]:
        """Of the JSON form or the plain one."""
        return list(json.loads(self.text)) if self.text.startswith("[") else shlex.split(self.text)


def steps(dockerfile: Path) -> list[Step]:
    parser = DockerfileParser(fileobj=StringIO(dockerfile.read_text()))
    stage, found = "", []
    for one in parser.structure:
        what, text = one["instruction"], one["value"]
        if what == "FROM":
            named = re.search(r"\bAS\s+(\S+)$", text, re.IGNORECASE)
            stage = named[1] if named else ""
        if what != "COMMENT":
            found.append(Step(stage, what, text))
    return found


def environment(dockerfile: Path) -> dict[str, str]:
    """What processes of the finished image are given."""
    pairs = (word for step in steps(dockerfile) if (step.stage, step.what) == ("", "ENV") for word in step.words())
    return dict(pair.split("=", 1) for pair in pairs)


def last(dockerfile: Path, what: str) -> str:
    return [step.text for step in steps(dockerfile) if (step.stage, step.what) == ("", what)][-1]


def context(root: Path = ROOT) -> Iterator[PurePosixPath]:
    """Every file that a build is sent, relative to *root*: .dockerignore's last pattern that fits decides."""
    rules = [
        (not line.startswith("!"), line.removeprefix("!").strip("/"))
        for line in (root / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    for top in {PurePosixPath(pattern).parts[0] for ignored, pattern in rules if not ignored}:
        found = [root / top] if (root / top).is_file() else (root / top).rglob("*")
        for file in found:
            path = PurePosixPath(file.relative_to(root).as_posix())
            if file.is_file() and not _ignored(path, rules):
                yield path


def _ignored(path: PurePosixPath, rules: list[tuple[bool, str]]) -> bool:
    verdict = False
    for ignored, pattern in rules:
        if any(_fits(part.parts, PurePosixPath(pattern).parts) for part in (path, *path.parents)):
            verdict = ignored
    return verdict


def _fits(path: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not path or not pattern:
        return not path and not pattern
    if pattern[0] == "**":
        return any(_fits(path[skipped:], pattern[1:]) for skipped in range(len(path) + 1))
    return fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])


def merged(*layers: Mapping[str, str]) -> dict[str, str]:
    """Environments one on top of the other."""
    return {name: value for layer in layers for name, value in layer.items()}


def new_env(file: Path) -> dict[str, str]:
    """What make-env.sh writes to *file*."""
    subprocess.run(["sh", DOCKER / "make-env.sh", file], check=True, capture_output=True)
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def parses(words: list[str]) -> None:
    """Raises an error of click's for a verb or an option that `farm` does not have."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, list(words))
