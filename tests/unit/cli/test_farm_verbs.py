"""`farm up`, `down`, `status`, `doctor` and `demo`, over a stand-in for what they start."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import farm as package
from farm.cli import farm_verbs
from farm.cli.main import app
from farm.cli.watch import watch
from farm.sdk import Client
from schemas.campaign import Block, CampaignDetail, CampaignSpec, CampaignState, Counts, SourceEntry
from schemas.renderer import RendererView
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
    bootstrap.parts = [SimpleNamespace(name=name, state="up", port=80) for name in ("scheduler", "api")]
    assert run("status").stdout == "scheduler\tup\t80\napi\tup\t80\n"
    bootstrap.parts += [SimpleNamespace(name="depot", state="down", port=None)]
    found = run("status", "--json")
    assert (found.exit_code, json.loads(found.stdout)["parts"][2]["state"]) == (1, "down")


def test_status_lists_services_of_a_farm_that_was_ended(bootstrap: Bootstrap) -> None:
    assert run("status").stdout == "", "where no farm was ever started there are no parts"
    bootstrap.parts = [SimpleNamespace(name="postgres", state="down", port=5432)]
    found = run("status")
    assert found.exit_code == 1
    assert found.stdout == "postgres\tdown\t5432\napi\tdown\t\nscheduler\tdown\t\n"


def test_doctor_says_in_words_what_is_wrong(bootstrap: Bootstrap, farm: Farm) -> None:
    bootstrap.findings = [SimpleNamespace(what="disk", ok=True, detail="20 GiB free")]
    assert run("doctor").exit_code == 0
    farm.world.depot.answers = False
    result = run("doctor")
    assert result.exit_code == 1
    assert "WRONG\tapi" in result.stdout
    assert "S3 store" in result.stdout


def renderer(number: int, state: str) -> RendererView:
    numbers = {"shards": 0, "waiting": 0}
    words = dict.fromkeys(("doing", "gpu", "node", "checkpoint", "seen_at"), "")
    return RendererView.model_validate({"name": f"r{number}", "state": state, **numbers, **words})


def test_demo_ends_with_the_path_of_the_sheet(
    bootstrap: Bootstrap, stocked: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [renderer(number, state) for number, state in enumerate(("idle", "busy", "lost"))]
    monkeypatch.setattr(Client, "renderers", lambda _: iter(found))

    def rendered(client: Any, campaign: str, console: Any) -> Any:
        stocked.world.settle(campaign, {0: "succeeded", 1: "succeeded"})
        ended = watch(client, campaign, console)
        took = timedelta(seconds=4)
        return ended.model_copy(update={"finished_at": (datetime.fromisoformat(ended.created_at) + took).isoformat()})

    monkeypatch.setattr(farm_verbs, "watch", rendered)
    result = run("demo")
    assert result.exit_code == 0, result.output
    sheet = Path(result.stdout.splitlines()[-1])
    assert sheet == tmp_path / "data" / "demo" / "contact-sheet.png"
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "data" / "demo" / "pictures").iterdir())) == 2
    assert not bootstrap.running
    rows = dict(line.split("\t") for line in result.stdout.splitlines()[:-1])
    assert rows == {
        "pictures": str(tmp_path / "data" / "demo" / "pictures"),
        "renders": "2",
        "succeeded": "2",
        "failed": "0",
        "reused": "0",
        "seconds taken": "4.0",
        "images/s": "0.5",
        "renderers": "2",
    }


def test_a_demo_that_rendered_nothing_has_no_speed(stocked: Farm) -> None:
    reused = CampaignDetail(
        id="cmp_1",
        name="Demo",
        state=CampaignState.DONE,
        priority=50,
        parent=None,
        counts=Counts(total=2, queued=0, running=0, succeeded=2, failed=0, cancelled=0, reused=2),
        created_at="2026-11-23T10:00:00+00:00",
        finished_at="2026-11-23T10:00:00.500000+00:00",
        spec=Bootstrap("").demo_campaign(stocked.client),
    )
    assert dict(farm_verbs._summary(reused))["seconds taken"] == "0.5"
    assert dict(farm_verbs._summary(reused))["images/s"] == "none rendered anew"
