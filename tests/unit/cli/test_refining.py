"""One picture at a time: `farm refine` and `farm preview`; renditions, checks and duplicates of a campaign."""

import hashlib
import json
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from farm.cli.main import app
from farm.core.keys import rendition_key
from schemas.campaign import Campaign
from schemas.report import Measured, PublishedRendition, TriedSeed
from schemas.style import Checks, StyleSpec
from tests.unit.api.serving import Farm
from tests.unit.api.world import picture


def run(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def campaign(stocked: Farm, tmp_path: Path) -> str:
    """One source, two variants, of which the first succeeded."""
    (tmp_path / "cup.png").write_bytes(picture(7))
    (tmp_path / "c.yaml").write_text("sources: cup.png\nstyles: noir\nvariants: 2\n")
    found = run("campaign", "submit", "c.yaml").stdout.strip()
    stocked.world.settle(found, {0: "succeeded"})
    return found


def test_a_render_is_refined_from_the_command_line(stocked: Farm, campaign: str, tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(picture(255, mode="L"))
    render = f"{campaign.replace('cmp_', 'rnd_')}_0"
    result = run("refine", render, "--strength", "0.3", "--prompt", "dawn", "--mask", "mask.png", "--variants", "2")
    assert result.exit_code == 0, result.output
    found = stocked.client.campaign(result.stdout.strip())
    (block,) = found.spec.blocks
    assert (block.strengths, block.variants, block.sources[0].prompt) == ((0.3,), 2, "dawn")
    assert block.sources[0].made_from == render
    assert block.sources[0].mask is not None
    assert stocked.client.source(block.sources[0].mask.picture).name == "mask.png"
    again = stocked.client.campaign(run("refine", render, "--start", "source", "--name", "Again").stdout.strip())
    assert (again.name, again.spec.blocks[0].sources[0].made_from) == ("Again", None)


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["--size", "big"], "size: ", 2),
        (["--style", "NOIR"], "style: ", 2),
        (["--mask", "c.yaml"], "is no picture", 2),
        (["--style", "nobody"], "There is no style nobody", 2),
    ],
)
def test_a_wrong_option_is_a_sentence(campaign: str, words: list[str], said: str, code: int) -> None:
    result = run("refine", f"{campaign.replace('cmp_', 'rnd_')}_0", *words)
    assert result.exit_code == code, result.output
    assert said in result.stderr


def test_what_has_no_picture_is_not_refined(campaign: str) -> None:
    result = run("refine", f"{campaign.replace('cmp_', 'rnd_')}_1")
    assert result.exit_code == 1
    assert "has no picture yet" in result.stderr


def _settle_next(farm: Farm, fate: str) -> threading.Thread:
    """What a renderer would do with the next campaign."""
    before = {found.id for found in farm.client.campaigns()}

    def work() -> None:
        found: list[Campaign] = []
        deadline = time.monotonic() + 30
        while not found and time.monotonic() < deadline:
            found = [one for one in farm.client.campaigns() if one.id not in before]
        farm.world.settle(found[0].id, {0: fate})

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_preview_is_uploaded_rendered_saved_and_timed(stocked: Farm, tmp_path: Path) -> None:
    (tmp_path / "cup.png").write_bytes(picture(7))
    thread = _settle_next(stocked, "succeeded")
    result = run("preview", "cup.png", "--style", "noir", "--strength", "0.7", "-o", "out/seen.webp")
    thread.join()
    assert (result.exit_code, result.stdout) == (0, "out/seen.webp\n"), result.output
    assert (tmp_path / "out" / "seen.webp").read_bytes() == picture(0)
    assert " s: upload " in result.stderr
    (found,) = stocked.client.campaigns()
    spec = stocked.client.campaign(found.id).spec
    assert (found.lane, spec.output.format, spec.blocks[0].strengths) == ("interactive", "webp", (0.7,))


def test_a_preview_that_fails_says_why_and_leaves_no_file(stocked: Farm, tmp_path: Path) -> None:
    (tmp_path / "cup.png").write_bytes(picture(7))
    thread = _settle_next(stocked, "failed")
    result = run("preview", "cup.png", "--style", "noir")
    thread.join()
    assert result.exit_code == 1
    assert "It broke. [engine]" in result.stderr
    assert not (tmp_path / "cup_noir.png").exists()


@pytest.mark.parametrize("words", [["--style", "nobody"], ["--style", "no ir"], ["--style", "noir", "-o", "x.gif"]])
def test_a_preview_that_cannot_be_is_refused_before_anything_is_uploaded(
    stocked: Farm, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "cup.png").write_bytes(picture(7))
    result = run("preview", "cup.png", *words)
    assert result.exit_code == 2, result.output
    assert list(stocked.client.sources()) == []


def test_renditions_are_downloaded_into_folders_of_their_own(stocked: Farm, campaign: str, tmp_path: Path) -> None:
    small, key = picture(3, (16, 16)), "pictures/x/1/picture.png"
    stocked.world.depot.put(key, picture(9), "image/png")
    stocked.world.depot.put(rendition_key(key, "square", "png"), small, "image/png")
    made = PublishedRendition(
        name="square", sha256=hashlib.sha256(small).hexdigest(), bytes=len(small), width=16, height=16, format="png"
    )
    sha256 = hashlib.sha256(picture(9)).hexdigest()
    stocked.world.settle(campaign, {1: "succeeded"}, renditions=(made,), key=key, sha256=sha256)
    first = run("campaign", "download", campaign, "out")
    assert first.exit_code == 0, first.output
    assert (tmp_path / "out" / "square" / "cup_noir_0.5_1.png").read_bytes() == small
    assert (tmp_path / "out" / "cup_noir_0.5_1.png").read_bytes() == picture(9)
    assert "3 pictures saved in out, 0 were there already." in first.stderr
    assert "0 pictures saved in out, 3 were there already." in run("campaign", "download", campaign, "out").stderr
    with Image.open(tmp_path / "out" / "square" / "cup_noir_0.5_1.png") as opened:
        assert opened.size == (16, 16)


def test_show_and_watch_say_how_many_missed_their_checks(stocked: Farm, tmp_path: Path) -> None:
    checks = Checks(structure=0.4)
    stocked.client.save_style(StyleSpec(name="strict", steps=10, size="64x64", checks=checks))
    (tmp_path / "cup.png").write_bytes(picture(7))
    (tmp_path / "c.yaml").write_text("sources: cup.png\nstyles: strict\nvariants: 2\n")
    campaign = run("campaign", "submit", "c.yaml").stdout.strip()
    assert "missed checks" not in run("campaign", "show", campaign).stdout
    missed = TriedSeed(seed=1, structure=0.1, missed=("structure",))
    stocked.world.settle(campaign, {0: "succeeded"}, measured=Measured(tries=(missed, missed), kept=1))
    fine = TriedSeed(seed=1, structure=0.9)
    stocked.world.settle(campaign, {1: "succeeded"}, measured=Measured(tries=(fine,), kept=0))
    for verb in ("show", "watch"):
        said = run("campaign", verb, campaign).stdout
        assert "missed checks\t1 of 2 (structure 1)\n" in said
        assert "tried again\t1 (3 tries in all)\n" in said


def test_duplicates_are_listed_by_group(stocked: Farm, tmp_path: Path) -> None:
    (tmp_path / "cup.png").write_bytes(picture(7))
    (tmp_path / "c.yaml").write_text("sources: cup.png\nstyles: noir\nvariants: 4\n")
    campaign = run("campaign", "submit", "c.yaml").stdout.strip()
    phashes = {0: "00000000000000ff", 1: "ff00000000000000", 2: "00000000000000fe"}
    stocked.world.settle(campaign, dict.fromkeys(range(4), "succeeded"), phashes=phashes)
    result = run("campaign", "duplicates", campaign)
    prefix = campaign.replace("cmp_", "rnd_")
    assert result.stdout == (f"1\tcup.png\t{prefix}_0\tnoir\t0.5\t0\t0\n1\tcup.png\t{prefix}_2\tnoir\t0.5\t2\t1\n")
    assert "2 of 3 renders look alike, in 1 group." in result.stderr
    assert "1 render could not be compared" in result.stderr
    assert run("campaign", "duplicates", campaign, "--distance", "0").stdout == ""
    assert json.loads(run("campaign", "duplicates", campaign, "--json").stdout)["compared"] == 3
