"""What the commands print, and how they end."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner, Result

from farm.cli import watch, watching
from farm.cli.main import app
from farm.cli.watch import Pace
from farm.core.ids import CampaignId, read
from schemas.renderer import RendererView
from tests.unit.api.scheduling import Scheduler
from tests.unit.api.serving import Farm
from tests.unit.api.world import CHECKPOINT, lora_of, picture, safetensors


def run(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert "Traceback" not in result.output
    return result


def write_campaign(folder: Path, **more: object) -> str:
    (folder / "a.png").write_bytes(picture(1))
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump({"sources": "a.png", "styles": "noir", **more}))
    return str(path)


def test_the_library_is_filled_and_listed(farm: Farm, tmp_path: Path) -> None:
    for name, content in CHECKPOINT.items():
        path = tmp_path / "sdxl" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else safetensors(content))
    (tmp_path / "sdxl" / "README.md").write_text("left out")
    (tmp_path / "l.safetensors").write_bytes(lora_of())
    (tmp_path / "noir.yaml").write_text("name: noir\nloras: [{lora: anime}]\nsize: 64x64\n")
    assert run("checkpoint", "add", "default", "sdxl").exit_code == 0
    added = run("lora", "add", "anime", "l.safetensors", "--trigger-word", "a", "--expires", "2030-01-01")
    assert added.exit_code == 0, added.output
    assert run("style", "add", "noir.yaml").stdout.startswith("noir\t1\t(default)\tanime 1\t")
    assert json.loads(run("style", "show", "noir", "--json").stdout)["version"] == 1
    assert run("style", "show", "noir", "--versions").stdout.count("\n") == 1
    shown = run("style", "show", "noir").stdout
    assert "steps\t30" in shown
    assert "loras\tanime x 1.0\n" in shown
    (tmp_path / "noir.yaml").write_text("name: noir\nloras: [{lora: nobody}]\n")
    assert run("style", "add", "noir.yaml").exit_code == 2
    assert run("checkpoint", "list").stdout.startswith("default\tfolder\t6\t")
    assert json.loads(run("lora", "list", "--json").stdout)[0]["trigger_words"] == ["a"]
    assert run("renderer", "list").stdout == ""
    assert len(run("style", "list").stdout.splitlines()) == 1


def test_sources_are_added_and_bad_ones_named(farm: Farm, tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(picture())
    (tmp_path / "bad.png").write_bytes(b"text")
    result = run("source", "add", "good.png", "bad.png")
    assert result.exit_code == 1
    assert "good.png\t64x48" in result.stdout
    assert "bad.png: This is no picture" in result.stderr
    assert len(json.loads(run("source", "list", "--json").stdout)) == 1


def test_a_bad_picture_stops_a_campaign_unless_it_is_skipped(stocked: Farm, tmp_path: Path) -> None:
    file = write_campaign(tmp_path, sources=["a.png", "bad.jpg"])
    (tmp_path / "bad.jpg").write_bytes(b"text")
    stopped = run("campaign", "submit", file)
    assert (stopped.exit_code, stopped.stdout) == (1, "")
    assert "bad.jpg: This is no picture" in stopped.stderr
    assert run("campaign", "submit", file, "--skip-bad").exit_code == 0
    assert [row.counts.total for row in stocked.client.campaigns()] == [1]


def test_a_folder_is_a_campaign_too(stocked: Farm, tmp_path: Path) -> None:
    folder = tmp_path / "Autumn photos"
    folder.mkdir()
    (folder / "a.PNG").write_bytes(picture())
    result = run(
        "campaign", "submit", str(folder), "--style", "noir", "--strength", "0.3", "--strength", "0.6", "--json"
    )
    shown = json.loads(result.stdout)
    assert (shown["name"], shown["counts"]["total"]) == ("Autumn photos", 2)
    assert run("campaign", "submit", str(folder)).exit_code == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sources: [", "no YAML"),
        ("just text", "holds no campaign"),
        ("sources: nowhere/*.jpg\nstyles: noir", "There are no pictures at"),
        ("sources: a.png\nstyles: noir\nstrenghts: 0.5", "strenghts"),
        ("sources: a.png\nstyles: noir\nstrengths: [2]", "strengths no. 1"),
        ("sources: a.png", "styles"),
        ("blocks: 3", "`blocks` is a list"),
        ("sources: [{source: a.png, sku: 1}]\nstyles: noir", "sku"),
        ("sources: [7]\nstyles: noir", "sources no. 1"),
    ],
)
def test_a_campaign_file_that_is_wrong_is_2_before_anything_is_uploaded(
    stocked: Farm, tmp_path: Path, text: str, said: str
) -> None:
    write_campaign(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    result = run("campaign", "submit", "c.yaml")
    assert result.exit_code == 2
    assert said in result.stderr
    assert list(stocked.client.sources()) == []


def test_what_the_api_refuses_is_listed_in_full(stocked: Farm, tmp_path: Path) -> None:
    result = run("campaign", "submit", write_campaign(tmp_path, styles=["noir", "anime"], strengths=[0]))
    assert result.exit_code == 2, "as when it is found here"
    assert "/blocks/0/strengths/0" in result.stderr
    assert "[strength_too_low]" in result.stderr


def test_two_blocks_and_entries_with_variables(stocked: Farm, tmp_path: Path) -> None:
    entry = {"source": "a.png", "prompt": "a {what}", "variables": {"what": "cup"}}
    blocks = [{"sources": [entry], "styles": ["noir"]}, {"sources": ["*.png"], "styles": ["anime"], "strengths": 0.5}]
    file = write_campaign(tmp_path)
    Path(file).write_text(yaml.safe_dump({"name": "two", "blocks": blocks}))
    campaign = run("campaign", "submit", file).stdout.strip()
    assert [render.prompt for render in stocked.client.renders(campaign)] == ["a cup, noir", ""]


def test_moving_listing_and_showing(stocked: Farm, tmp_path: Path) -> None:
    campaign = run("campaign", "submit", write_campaign(tmp_path)).stdout.strip()
    assert f"{campaign}\tc\tpaused" in run("campaign", "pause", campaign).stdout
    assert json.loads(run("campaign", "resume", campaign, "--json").stdout)["state"] == "active"
    stocked.world.settle(campaign, {0: "failed"})
    assert "It broke. [engine]" in run("campaign", "show", campaign).stderr
    child = run("campaign", "retry", campaign).stdout.split("\t")[0]
    assert f"parent\t{campaign}" in run("campaign", "show", child).stdout
    assert "cancelling" in run("campaign", "cancel", child).stdout
    conflict = run("campaign", "resume", child)
    assert conflict.exit_code == 1
    assert len(run("campaign", "list").stdout.splitlines()) == 2
    assert run("campaign", "show", "cmp_0000000000001").exit_code == 1
    assert run("campaign", "download", campaign, "out", "--name", "{nothing}").exit_code == 2


def test_exit_codes_of_watch(stocked: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = run("campaign", "submit", write_campaign(tmp_path)).stdout.strip()
    late = run("campaign", "watch", campaign, "--timeout", "0")
    assert late.exit_code == 5
    assert "has not ended" in late.stderr

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(watching, "watch_campaign", interrupted)
        assert run("campaign", "watch", campaign).exit_code == 130
    stocked.world.settle(campaign, {0: "succeeded"})
    done = run("campaign", "watch", campaign, "--json")
    assert (done.exit_code, json.loads(done.stdout)["state"]) == (0, "done")


def test_without_a_good_key_it_is_4(farm: Farm) -> None:
    result = run("--key", "farm_1_wrong", "campaign", "list")
    assert result.exit_code == 4
    assert "farm up" in result.stderr


def test_where_the_farm_is(farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FARM_URL")
    monkeypatch.delenv("FARM_API_KEY")
    nowhere = run("campaign", "list")
    assert nowhere.exit_code == 1
    assert "farm up" in nowhere.stderr
    data = tmp_path / "elsewhere"
    data.mkdir()
    (data / "client.json").write_text(json.dumps({"url": farm.url, "key": "farm_1_ours"}))
    assert run("--data", str(data), "campaign", "list").exit_code == 0
    (data / "client.json").write_text("{")
    assert run("--data", str(data), "campaign", "list").exit_code == 1


def test_schema_prints_every_contract(farm: Farm) -> None:
    everything = json.loads(run("schema").stdout)
    assert {"CampaignSpec", "Style", "ShardOrder", "RenderReport", "Event", "Problem"} <= everything.keys()
    assert json.loads(run("schema", "Event").stdout)["title"] == "Event"
    assert run("schema", "Nothing").exit_code == 2


def test_help_has_examples_and_wrong_usage_is_2() -> None:
    assert "farm campaign submit photos/" in run("--help").stdout
    assert "autumn.yaml --watch" in run("campaign", "submit", "--help").stdout
    assert run("campaign", "frobnicate").exit_code == 2


def test_pace() -> None:
    pace = Pace()
    assert (pace.rate, pace.left(5)) == (0.0, "unknown")
    for second in range(100):
        pace.note(float(second), second * 4)
    assert pace.rate == pytest.approx(4)
    assert (pace.left(40), pace.left(0)) == ("0:00:10", "none")
    assert len(pace.seen) <= watch.WINDOW + 2


def test_watch_on_a_terminal_shows_speed_renderers_and_warnings(stocked: Farm, tmp_path: Path) -> None:
    campaign = run("campaign", "submit", write_campaign(tmp_path, variants=2)).stdout.strip()
    with Scheduler(stocked.world.store).tx() as tx:
        tx.warn(CampaignId(read("cmp", campaign)), "deadline_at_risk", "An hour late.", {})
    console = Console(force_terminal=True, width=100, record=True)
    found = RendererView(
        name="farm/local/1/0",
        state="busy",
        doing="render",
        gpu="cpu",
        node="n",
        shards=1,
        waiting=3,
        checkpoint="",
        seen_at="",
    )
    stocked.client.renderers = lambda: iter([found])  # type: ignore[method-assign]
    steps = iter([{0: "succeeded"}, {1: "failed"}])
    ended = watch.watch(
        stocked.client,
        campaign,
        console,
        timeout=timedelta(seconds=60),
        pause=lambda _: stocked.world.settle(campaign, next(steps)),
    )
    assert ended.counts.failed == 1
    text = console.export_text()
    for part in (
        "1 of 2 renders",
        "2 of 2 renders",
        "images/s",
        "time left none",
        "farm/local/1/0",
        "busy",
        "Warning: An hour late.",
    ):
        assert part in text
