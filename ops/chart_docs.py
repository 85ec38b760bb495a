"""Writes the table of values in helm/README.md from helm/values.yaml: names, defaults, and the comments above them.

    python ops/chart_docs.py
    python ops/chart_docs.py --check     ends with 1 when the table is not what values.yaml says

A map or list whose inside has comments of its own is taken apart; any other is one value.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

CHART = Path(__file__).resolve().parent.parent / "helm"
BEGIN, END = "<!-- Made by `python ops/chart_docs.py`: -->\n", "<!-- end -->\n"
_KEY = re.compile(r"^(?P<indent> *)(?P<entry>- )?(?P<key>[A-Za-z][A-Za-z0-9]*):(?P<rest>.*)$")
_COMMENT = re.compile(r"^(?P<indent> *)(?P<entry>- )?# ?(?P<text>.*)$")


@dataclass(frozen=True)
class Value:
    """One line of the table. ``about`` is empty for what only holds others."""

    path: str
    default: str
    about: str


@dataclass
class _Open:
    """A key whose inside is being read, and how far it is indented."""

    indent: int
    name: str


def values(text: str) -> list[Value]:
    """Every value with its comment, in the order of the file."""
    found: list[Value] = []
    above: list[str] = []
    path: list[_Open] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if comment := _COMMENT.match(line):
            above.append(comment["text"])
            if comment["entry"]:
                path = [*_within(path, len(comment["indent"]) + 1)]
                path[-1].name = path[-1].name.removesuffix("[]") + "[]"
        elif key := _KEY.match(line):
            indent = len(key["indent"]) + (2 if key["entry"] else 0)
            path = [*_within(path, indent), _Open(indent, key["key"])]
            if above or not _inside(lines[number + 1 :], indent):
                default = _default(key["rest"], lines[number + 1 :], indent)
                found.append(Value(".".join(one.name for one in path), default, " ".join(above).strip()))
            above = []
        elif not line.strip():
            above = []
    return [value for value in found if value.about]


def _within(path: list[_Open], indent: int) -> Iterator[_Open]:
    """The keys that a line this far in stands below."""
    return (one for one in path if one.indent < indent)


def _inside(rest: list[str], indent: int) -> list[str]:
    """The lines that belong to a key."""
    found = []
    for line in rest:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        found.append(line)
    return found


def _default(rest: str, below: list[str], indent: int) -> str:
    """As it is written, on one line; nothing for a key whose inside has comments of its own."""
    plain = rest.partition(" #")[0].strip()
    inner = _inside(below, indent)
    if plain or not inner:
        return plain or '""'
    if any(_COMMENT.match(line) for line in inner):
        return ""
    return yaml.safe_dump(yaml.safe_load("\n".join(inner)), default_flow_style=True, width=10_000).strip()


def table(text: str) -> str:
    rows = ["| value | default | what it is |", "| --- | --- | --- |"]
    for value in values(text):
        default = f"`{value.default}`" if value.default else ""
        rows.append(f"| `{value.path}` | {default} | {value.about} |".replace("|  |", "| |"))
    return "\n".join(rows) + "\n"


def with_table(readme: str, text: str) -> str:
    """Raises `ValueError` when the page has no place for it."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("helm/README.md has no place for the table of values")
    return f"{before}{begin}\n{table(text)}\n{end}{after}"


def main() -> int:
    page = CHART / "README.md"
    old = page.read_text()
    new = with_table(old, (CHART / "values.yaml").read_text())
    if "--check" in sys.argv[1:]:
        if old != new:
            print("helm/README.md is not what helm/values.yaml says. Run: python ops/chart_docs.py")
        return int(old != new)
    page.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
