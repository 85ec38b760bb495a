"""Command lines of containers, held against the programs that they start."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import click
import typer
import typer.main

from tests.chart.images import words_of
from tests.chart.pods import Pod
from tests.chart.rendering import Object

SHELLS = {"sh", "bash", "/bin/sh", "/bin/bash"}
PROGRAMS = {"farm", "ray"}
_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)|\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
_BETWEEN = re.compile(r"\s*(?:&&|\|\||;|\||\n)\s*")


@dataclass(frozen=True)
class Call:
    """One start of `farm` or `ray`: where it stands, what it starts, and the container that starts it."""

    where: str
    words: tuple[str, ...]
    container: Object

    @property
    def verb(self) -> str:
        """Program and first word that is no option; those of `farm` before its verb have values."""
        rest = list(self.words[1:])
        while rest and rest[0].startswith("-"):
            rest = rest[1:] if "=" in rest[0] else rest[2:]
        return " ".join([self.words[0], *rest[:1]])


def calls_of(pod: Pod) -> Iterator[Call]:
    """In a container's command, its probes and its hooks; shell scripts are taken apart."""
    for container in pod.containers:
        for place, words in _lines(container):
            for line in _taken_apart(words):
                if line and line[0].rpartition("/")[2] in PROGRAMS:
                    name = line[0].rpartition("/")[2]
                    yield Call(f"{pod.owner}/{container['name']} {place}", (name, *line[1:]), container)


def _lines(container: Object) -> Iterator[tuple[str, list[str]]]:
    yield "command", words_of(container)
    handlers = {key: container.get(key) for key in ("livenessProbe", "readinessProbe", "startupProbe")}
    handlers |= container.get("lifecycle") or {}
    for key, handler in handlers.items():
        if command := ((handler or {}).get("exec") or {}).get("command"):
            yield key, command


def _taken_apart(words: list[str]) -> Iterator[list[str]]:
    if not words or words[0] not in SHELLS:
        yield words
        return
    for script in (word for word in words[1:] if not word.startswith("-")):
        for line in _BETWEEN.split(script.replace("\\\n", " ")):
            plain = [word for word in shlex.split(line, comments=True) if word not in {"exec", "then", "do", "if", "!"}]
            while plain and re.fullmatch(r"[A-Z_]+=.*", plain[0]):
                plain.pop(0)
            yield plain


def faults_of(call: Call) -> list[str]:
    """What the program itself says of the line; it is parsed, not run."""
    unset = [name for name in _used(call) if name not in _set(call.container)]
    words = [_VARIABLE.sub("1", word) for word in call.words]
    return [f"{call.where}: no variable {name}" for name in unset] + [
        f"{call.where}: {fault}" for fault in _parsed(words[0], words[1:])
    ]


def _used(call: Call) -> list[str]:
    return [first or second for word in call.words for first, second in _VARIABLE.findall(word)]


def _set(container: Object) -> set[str]:
    return {one["name"] for one in container.get("env", [])}


def _parsed(program: str, words: list[str]) -> list[str]:
    command, context = _program(program), None
    try:
        while hasattr(command, "commands"):
            context = command.make_context(program, words, parent=context)
            rest = [*context._protected_args, *context.args]  # what follows the group's own options
            if not rest:
                return [f"`{program}` without a verb"]
            name, command, words = command.resolve_command(context, rest)
            program = f"{program} {name}"
        command.make_context(program, words, parent=context)
    except (click.ClickException, typer.TyperException) as error:
        return [f"`{program}`: {str(error).splitlines()[0]}"]
    except (click.exceptions.Exit, typer.Exit):
        return [f"`{program}` shows its help and ends"]
    return []


@cache
def _program(name: str) -> Any:
    """The root of a program's commands: typer's for `farm`, whose click is a copy of its own, click's for `ray`."""
    if name == "farm":
        from farm.cli.main import app

        return typer.main.get_command(app)
    from ray.scripts.scripts import cli

    return cli


@cache
def ray_start_flags() -> frozenset[str]:
    """Names that `rayStartParams` may have: KubeRay puts `--` before each."""
    start = _program("ray").commands["start"]
    return frozenset(
        option.removeprefix("--") for one in start.params for option in one.opts if option.startswith("--")
    )
