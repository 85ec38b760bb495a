"""The runbooks, taken apart."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "ops" / "runbooks"
PAGES = sorted(FOLDER.rglob("*.md"))
_BLOCK = re.compile(
    r"^(?:(?P<mark> *)<!-- run: (?P<run>[\w-]+) -->\n)?(?P<indent> *)```bash\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_FENCED = re.compile(r"^ *```\w*\n.*?^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Commands of a page. *run* names those that a test carries out."""

    page: str
    run: str
    text: str

    def commands(self) -> Iterator[list[str]]:
        """Words, without redirections."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if ">" in words:
                words = words[: words.index(">")]
            if words:
                yield words


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


def blocks_of(path: Path) -> list[Block]:
    return [
        Block(name_of(path), found["run"] or "", textwrap.dedent(found["text"]))
        for found in _BLOCK.finditer(path.read_text())
    ]


def blocks() -> list[Block]:
    return [block for path in PAGES for block in blocks_of(path)]


def block_to_run(name: str) -> Block:
    """The one that is marked so."""
    (found,) = [block for block in blocks() if block.run == name]
    return found


def commands_of(program: str) -> list[tuple[str, list[str]]]:
    """(page, words) of every command with that program."""
    return [(block.page, words) for block in blocks() for words in block.commands() if words[0] == program]


def prose(path: Path) -> str:
    """Without its blocks."""
    return _FENCED.sub("", path.read_text())
