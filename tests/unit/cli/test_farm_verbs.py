"""`farm up`, `down`, `status`, `doctor` and `demo`, over a stand-in for what they start."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import farm as package
from farm.cli import farm_verbs
from farm.cli.main import app
from farm.cli.watch import watch
from schemas.campaign import Block, CampaignSpec, SourceEntry
from tests.unit.api.serving import Farm
from tests.unit.api.world import KEY, picture


@dataclass
class Bootstrap:
    """What the verbs ask of `farm.bootstrap`."""

    url: str
    running: bool = False
    parts: list[Any] = field(default_factory=list)
    findings: list[Any] = field(default_factory=list)

    def up(self, data: Path, *, renderers: int | None, on_step: Callable[[str], None]) -> Any:
        self.running = True
        on_step("starting")
        return SimpleNamespace(url=self.url, key=KEY, data=data, ports={"api": 80, "postgres": 5432})

    def down(self, data: Path, *, on_step: Callable[[str], None]) -> bool:
        was, self.running = self.running, False
        return was

    def status(self, data: Path) -> list[Any]:
        return self.parts

    def doctor(self, data: Path) -> list[Any]:
        return self.findings

    def demo_campaign(self, client: Any) -> CampaignSpec:
        source = client.upload_source(picture(), "coffee.png")
        block = Block(sources=(SourceEntry(source=source.id),), styles=("noir",), strengths=(0.3, 0.6))
        return CampaignSpec(name="Demo", blocks=(block,))


@pytest.fixture
def bootstrap(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> Bootstrap:
    stand_in = Bootstrap(farm.url)
    monkeypatch.setattr(package, "bootstrap", stand_in, raising=False)
    return stand_in


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_up_and_down_say_ports_and_data_folder(bootstrap: Bootstrap, tmp_path: Path) -> None:
    up = run("up")
    assert up.exit_code == 0, up.output
    assert f"data folder\t{tmp_path / 'data'}" in up.stdout
    assert "postgres\t5432" in up.stdout
    assert "starting" in up.stderr
    assert json.loads(run("up", "--json").stdout)["ports"] == {"api": 80, "postgres": 5432}
    assert "has ended" in run("down").stderr
    assert "No farm runs" in run("down").stderr


def test_status_is_1_when_a_part_is_down(bootstrap: Bootstrap) -> None:
    assert run("status").exit_code == 1
    bootstrap.parts = [SimpleNamespace(name="api", state="up", port=80)]
    assert run("status").stdout == "api\tup\t80\n"
    bootstrap.parts += [SimpleNamespace(name="depot", state="down", port=None)]
    found = run("status", "--json")
    assert (found.exit_code, json.loads(found.stdout)["parts"][1]["state"]) == (1, "down")


def test_doctor_says_in_words_what_is_wrong(bootstrap: Bootstrap, farm: Farm) -> None:
    bootstrap.findings = [SimpleNamespace(what="disk", ok=True, detail="20 GiB free")]
    assert run("doctor").exit_code == 0
    farm.world.depot.answers = False
    result = run("doctor")
    assert result.exit_code == 1
    assert "WRONG\tapi" in result.stdout
    assert "S3 store" in result.stdout


def test_demo_ends_with_the_path_of_the_sheet(
    bootstrap: Bootstrap, stocked: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rendered(client: Any, campaign: str, console: Any) -> Any:
        stocked.world.settle(campaign, {0: "succeeded", 1: "succeeded"})
        return watch(client, campaign, console)

    monkeypatch.setattr(farm_verbs, "watch", rendered)
    result = run("demo")
    assert result.exit_code == 0, result.output
    sheet = Path(result.stdout.splitlines()[-1])
    assert sheet == tmp_path / "data" / "demo" / "contact-sheet.png"
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "data" / "demo" / "pictures").iterdir())) == 2
    assert not bootstrap.running
