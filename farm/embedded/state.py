"""What an embedded farm remembers between runs: ports, passwords, folders. One file that only its owner can read."""

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

_SECRETS = ("postgres", "farm_owner", "farm_api", "farm_scheduler", "s3_access", "s3_secret", "ray_token")


@dataclass(slots=True)
class State:
    """``instance`` marks every process of this farm; ``notes`` is for whoever runs it (its API key, say).

    ``renderers`` is how many GPUs the Ray that was started last knows of.
    """

    instance: str
    secrets: dict[str, str] = field(repr=False)
    ports: dict[str, int] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict, repr=False)
    renderers: int = 0


def new_state() -> State:
    # Hexadecimal: safe inside URLs, files and command lines without quoting.
    return State(instance=secrets.token_hex(8), secrets={name: secrets.token_hex(20) for name in _SECRETS})


def load(path: Path) -> State | None:
    """None when there is none. Raises `ValueError` when it cannot be read as one."""
    try:
        raw = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    try:
        return State(**raw)
    except TypeError as error:
        raise ValueError(f"{path} is not the state of an embedded farm: {error}") from error


def save(path: Path, state: State) -> None:
    """Whole or not at all: a crash leaves the former one."""
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(state), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
