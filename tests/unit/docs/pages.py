"""The documents, taken apart."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "ops" / "decisions").glob("*.md"),
        ROOT / "helm/README.md",
    ],
    key=lambda path: path.as_posix(),
)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_ASSIGNED = re.compile(r"^\w+=\$\((.*)\)$")
_VARIABLE = re.compile(r"^[A-Z_]+=\S+$")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.splitlines()[0] if self.text else 'empty'}"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(*languages: str) -> list[Block]:
    """Of these languages, or all."""
    found = [Block(name_of(path), *match) for path in DOCUMENTS for match in _BLOCK.findall(path.read_text())]
    return [block for block in found if not languages or block.language in languages]


def prose(path: Path) -> str:
    """Without its fenced blocks."""
    return _BLOCK.sub("", path.read_text())


def quoted(path: Path) -> list[str]:
    """What stands between backticks in the prose."""
    return _INLINE.findall(prose(path))


def links(path: Path) -> list[str]:
    return _LINK.findall(prose(path))


def anchors(path: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_lines() -> list[tuple[str, list[str]]]:
    """(page, words) of every command in a bash block, without what a shell would do with it."""
    return [(block.page, words) for block in blocks("bash") for words in _commands(block.text)]


def _commands(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        for part in line.split(" && "):
            inner = _ASSIGNED.match(part)
            words = shlex.split(inner[1] if inner else part, comments=True)
            while words and _VARIABLE.match(words[0]):
                words = words[1:]
            if words:
                yield words
