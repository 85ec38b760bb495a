"""What our images bring along, as their Dockerfiles say: environment, entry point, command, user."""

import json
import re
import shlex
from dataclasses import dataclass
from functools import cache

from tests.chart.rendering import CHART, Object

_FOLDER = CHART.parent / "ops" / "docker"


@dataclass(frozen=True)
class Image:
    """The last stage of a Dockerfile."""

    env: dict[str, str]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    user: str


def image_of(container: Object) -> Image | None:
    """Ours, or None for other people's."""
    name = container["image"].partition("@")[0].rpartition("/")[2].partition(":")[0]
    return read(name) if (_FOLDER / f"{name}.Dockerfile").is_file() else None


def words_of(container: Object) -> list[str]:
    """What a container runs: `command` goes before the image's entry point, `args` before its command."""
    image = image_of(container) or Image({}, (), (), "")
    if "command" in container:
        return [*container["command"], *container.get("args", [])]
    return [*image.entrypoint, *container.get("args", image.command)]


@cache
def read(name: str) -> Image:
    text = (_FOLDER / f"{name}.Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    last = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    found: dict[str, list[str]] = {}
    for line in lines[last + 1 :]:
        word, _, rest = line.partition(" ")
        found.setdefault(word, []).append(rest.strip())
    env = dict(pair.split("=", 1) for line in found.get("ENV", []) for pair in shlex.split(line))
    lists = [tuple(json.loads(found.get(word, ["[]"])[-1])) for word in ("ENTRYPOINT", "CMD")]
    return Image(env, lists[0], lists[1], found.get("USER", [""])[-1])
