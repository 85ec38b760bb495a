"""What `farm up` says, over a stand-in for the parts of the farm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from farm.bootstrap import local
from farm.embedded import Service, Started
from farm.embedded.state import State

ALL = ("postgres", "s3", "ray", "api", "scheduler")


class Parts:
    """What `up` asks of an embedded farm. Ray lives on with the renderers that it was started with."""

    alive: set[str] = set()
    renderers = 0

    def __init__(self, data: Path, *, renderers: int) -> None:
        self.data, self.api_url, self._asked = data, "http://127.0.0.1:1", renderers
        self.state = State("", {}, ports=dict.fromkeys(("api", "metrics", "postgres", "s3", "ray"), 1))

    def running(self) -> dict[str, bool]:
        return {name: name in Parts.alive for name in ("postgres", "s3", "ray")} | dict.fromkeys(Parts.alive, True)

    def up(self, services: Sequence[Service]) -> Started:
        missing = [name for name in ALL if name not in Parts.alive]
        if "ray" in missing:
            Parts.renderers = self._asked
        Parts.alive = set(ALL)
        self.state.renderers = Parts.renderers
        return Started(already=not missing, seconds=dict.fromkeys(missing, 1.0))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def nothing(*_: Any) -> None:
        return None

    monkeypatch.setattr(local, "EmbeddedFarm", Parts)
    monkeypatch.setattr(local, "_key", lambda _: "farm_1_ours")
    monkeypatch.setattr(local, "_furnish", nothing)
    monkeypatch.setattr(Parts, "alive", set())
    monkeypatch.setattr(Parts, "renderers", 0)
    return tmp_path


def said(data: Path, renderers: int | None) -> list[str]:
    lines: list[str] = []
    local.up(data, renderers=renderers, on_step=lines.append)
    return lines


def test_a_farm_that_does_not_run_is_started(data: Path) -> None:
    first, second = said(data, 2)
    assert first == f"Starting the farm in {data}"
    assert second.startswith("Started postgres (1.0 s), ")


def test_a_farm_that_runs_is_not_started_and_says_its_renderers(data: Path) -> None:
    said(data, 2)
    assert said(data, None) == [f"The farm in {data} runs already, with 2 renderers."]
    assert said(data, 2) == [f"The farm in {data} runs already, with 2 renderers."]


def test_another_number_of_renderers_needs_an_end_first(data: Path) -> None:
    said(data, 2)
    assert said(data, 3)[-1] == "It goes on with 2 renderers, not 3: `farm down` first, then `farm up --renderers 3`."
    Parts.alive.remove("api")
    starting, started, renderers = said(data, 3)
    assert (starting, started) == (f"Starting the farm in {data}", "Started api (1.0 s)")
    assert "2 renderers, not 3" in renderers
    Parts.alive.clear()
    assert not any("not 3" in line for line in said(data, 3))
