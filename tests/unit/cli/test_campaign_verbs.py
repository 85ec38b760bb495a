"""The path that a newcomer takes: a file, submit, watch, show, download, a contact sheet."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from farm.cli.main import app
from tests.unit.api.serving import Farm
from tests.unit.api.world import picture

YAML = """
name: Autumn coffee
sources: photos/
styles: [anime, noir]
strengths: [0.35, 0.7]
"""


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"cup{number}.png").write_bytes(picture(number))
    (folder / "notes.txt").write_text("no picture")
    (tmp_path / "autumn.yaml").write_text(YAML)
    return folder


def submitted(*more: str) -> str:
    result = run("campaign", "submit", "autumn.yaml", *more)
    assert result.exit_code == 0, result.output
    return result.stdout.strip().splitlines()[-1]


@pytest.mark.usefixtures("photos")
def test_a_campaign_file_becomes_a_campaign(stocked: Farm) -> None:
    campaign = stocked.client.campaign(submitted())
    assert (campaign.name, campaign.counts.total) == ("Autumn coffee", 8)
    assert {source.name for source in stocked.client.sources()} == {"cup1.png", "cup2.png"}


@pytest.mark.usefixtures("photos")
def test_watch_ends_with_3_when_a_render_failed(stocked: Farm) -> None:
    campaign = submitted()
    stocked.world.settle(campaign, {n: "failed" if n == 3 else "succeeded" for n in range(8)})
    result = run("campaign", "watch", campaign)
    assert result.exit_code == 3
    assert "8/8 renders, 1 failed" in result.stderr
    assert "retry" in result.stderr


@pytest.mark.usefixtures("photos")
def test_download_checks_and_keeps_and_sheet_draws(stocked: Farm, tmp_path: Path) -> None:
    campaign = submitted()
    stocked.world.settle(campaign, dict.fromkeys(range(8), "succeeded"))
    first = run("campaign", "download", campaign, "out")
    assert first.exit_code == 0, first.output
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(names) == 8
    assert "cup1_anime_0.35_0.png" in names
    (tmp_path / "out" / names[0]).write_bytes(b"spoilt")
    again = run("campaign", "download", campaign, "out", "--json")
    found = json.loads(again.stdout)
    assert (len(found["saved"]), len(found["kept"])) == (1, 7)

    result = run("campaign", "sheet", campaign, "sheet.png")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 5 * 200
        assert sheet.height > 2 * 200
