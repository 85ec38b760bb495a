"""What `farm campaign submit` takes, and how it says what is wrong."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from farm.cli.main import app
from farm.sdk.download import check_template, file_name
from schemas.style import StyleSpec
from tests.unit.api.serving import Farm
from tests.unit.api.world import picture

GOOD = "sources: cup.png\nstyles: noir\n"


def run(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def folder(stocked: Farm, tmp_path: Path) -> Path:
    """Where the commands run: two pictures, and one below."""
    (tmp_path / "photos").mkdir()
    for number, name in enumerate(("cup.png", "lamp.png", "photos/mug.PNG")):
        (tmp_path / name).write_bytes(picture(number))
    return tmp_path


def submit(folder: Path, text: str, *more: str) -> Result:
    (folder / "c.yaml").write_text(text)
    return run("campaign", "submit", "c.yaml", *more)


def faults(folder: Path, text: str) -> list[str]:
    """Of a file that is wrong, each on its line."""
    result = submit(folder, text)
    assert (result.exit_code, result.stdout) == (2, "")
    head, *lines = result.stderr.splitlines()
    assert head == "The campaign is not right:"
    return [line.strip() for line in lines]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strengths: [2]", ["strengths no. 1: 2 is too large; at most 1"]),
        ("strengths: [-0.5]", ["strengths no. 1: -0.5 is too small; at least 0"]),
        ("variants: 20000", ["variants: 20000 is too large; at most 10,000"]),
        ("strenghts: 0.5", ["strenghts: there is no such key; did you mean `strengths`?"]),
        ("output: {qualty: 3}", ["output qualty: there is no such key; did you mean `quality`?"]),
        ("output: {zzz: 1}", ["output zzz: there is no such key; there are format, quality, renditions, upscale"]),
        ("strengths: [0.5, 0.5]", ["strengths: the same value stands there twice"]),
        ("prompts: []", ["prompts: missing"]),
        ("output: webp", ["output: keys and their values belong here, each as `key: value`"]),
    ],
)
def test_a_fault_is_one_sentence_and_nothing_is_said_of_what_lies_around_it(
    folder: Path, text: str, said: list[str]
) -> None:
    assert faults(folder, GOOD + text) == said


def test_what_is_missing_is_said_in_words(folder: Path) -> None:
    sources, styles = faults(folder, "name: Autumn")
    assert sources == "sources: missing; a folder, a file or a list of them"
    assert styles.startswith("styles: missing; a name or a list of them")
    assert faults(folder, "name:\nsources:\nstyles: [noir]") == [sources]
    assert faults(folder, "blocks: []") == ["blocks: missing; at least one, with `sources` and `styles`"]


def test_with_several_blocks_a_fault_says_where_it_lies(folder: Path) -> None:
    blocks = (
        "blocks:\n  - {sources: cup.png, styles: noir, seeds: 1}\n  - {sources: [{sorce: cup.png}], styles: noir}\n"
    )
    first, second, third = faults(folder, blocks)
    assert first.startswith("blocks no. 1 seeds: there is no such key")
    assert second == "blocks no. 2 sources no. 1 source: missing"
    assert third == "blocks no. 2 sources no. 1 sorce: there is no such key; did you mean `source`?"


def test_a_key_with_nothing_behind_it_counts_as_left_out(folder: Path) -> None:
    assert submit(folder, GOOD + "name:\nstrengths:\nprompts:\nseed:\n").exit_code == 0


def test_of_a_key_that_is_like_no_other_all_are_said(folder: Path) -> None:
    assert faults(folder, GOOD + "zzz: 1")[0].endswith(
        "there are name, seed, output, priority, deadline, budget, proof, parent, lane, gpu, off_peak, "
        "sources, styles, sizes, prompts, strengths, variants, first_variant"
    )


def test_of_many_faults_the_first_are_said(folder: Path) -> None:
    told = faults(folder, GOOD + f"strengths: {list(range(2, 102))}")
    assert (len(told), told[-1]) == (21, "and 80 more")


def test_a_style_file_is_wrong_in_the_same_words(folder: Path) -> None:
    (folder / "s.yaml").write_text("name: noir\nstrenght: 0.5\nsteps: 500\nloras: [{lora: anime, scal: 1}]\n")
    result = run("style", "add", "s.yaml")
    assert result.exit_code == 2
    assert [line.strip() for line in result.stderr.splitlines()[1:]] == [
        "loras no. 1 scal: there is no such key; did you mean `scale`?",
        "steps: 500 is too large; at most 150",
        "strenght: there is no such key; did you mean `strength`?",
    ]


def test_unknown_styles_are_said_before_anything_is_uploaded(folder: Path, stocked: Farm) -> None:
    result = submit(folder, "sources: cup.png\nstyles: [noir, anmie, noir@2, anime@1]")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "There is no style anmie; did you mean anime?",
        "The style noir has no version 2; its newest is 1.",
        "There are anime, noir.",
    ]
    assert list(stocked.client.sources()) == []
    stocked.client.save_style(StyleSpec(name="noir", steps=12, size="64x64"))
    assert submit(folder, "sources: cup.png\nstyles: [noir@2, noir@1]").exit_code == 0


def test_without_styles_it_says_how_to_save_one(farm: Farm, tmp_path: Path) -> None:
    (tmp_path / "cup.png").write_bytes(picture())
    assert "There are no styles yet; `farm style add`" in submit(tmp_path, GOOD).stderr


@pytest.mark.parametrize(
    ("words", "name", "renders"),
    [
        (["cup.png"], "cup", 1),
        (["photos"], "photos", 1),
        (["photos/mug.PNG", "photos/mug.PNG"], "mug", 1),
        (["photos/mug.PNG", "cup.png", "lamp.png"], "photos", 3),
        (["photos", "cup.png", "--name", "All", "--strength", "0.3", "--strength", "0.6"], "All", 4),
    ],
)
def test_pictures_and_folders_are_a_campaign(folder: Path, words: list[str], name: str, renders: int) -> None:
    result = run("campaign", "submit", *words, "--style", "noir", "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert (shown["name"], shown["counts"]["total"]) == (name, renders)


def test_a_picture_whose_name_looks_like_an_id_is_a_picture(folder: Path, stocked: Farm) -> None:
    (folder / "src_1.png").write_bytes(picture())
    assert run("campaign", "submit", "src_1.png", "--style", "noir").exit_code == 0
    assert [source.name for source in stocked.client.sources()] == ["src_1.png"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cup.png"], "say at least one --style"),
        (["c.yaml", "--style", "noir"], "c.yaml says itself which styles it wants"),
        (["c.yaml", "cup.png", "--style", "noir"], "c.yaml is neither a picture"),
        (["cup.gif", "--style", "noir"], "cup.gif is neither a picture"),
    ],
)
def test_what_does_not_go_together_is_refused(folder: Path, words: list[str], said: str) -> None:
    (folder / "c.yaml").write_text(GOOD)
    (folder / "cup.gif").touch()
    result = run("campaign", "submit", *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_key_that_came_before_is_said_to_have_been_submitted_before(folder: Path) -> None:
    first = submit(folder, GOOD, "--idempotency-key", "k")
    again = submit(folder, GOOD, "--idempotency-key", "k")
    assert (again.exit_code, again.stdout) == (0, first.stdout)
    assert first.stderr.splitlines()[-1].startswith("Submitted cmp_")
    assert "was submitted before" in again.stderr
    assert "Submitted" not in again.stderr
    other = submit(folder, GOOD + "seed: 9", "--idempotency-key", "k")
    assert (other.exit_code, "another body" in other.stderr) == (2, True)


def test_the_id_of_a_render_names_its_campaign(folder: Path, stocked: Farm) -> None:
    campaign = submit(folder, GOOD).stdout.strip()
    render = next(stocked.client.renders(campaign)).id
    for verb in ("show", "watch", "cancel"):
        result = run("campaign", verb, render)
        assert result.exit_code == 2
        assert result.stderr.strip() == f"{render} is the id of a render. Its campaign is {campaign}."


def test_the_file_name_in_the_help_is_one_that_comes_out(folder: Path, stocked: Farm) -> None:
    text = " ".join(run("campaign", "download", "--help").stdout.split())
    template = re.findall(r'--name "(.+?)"', text)[0]
    check_template(template)
    campaign = submit(folder, GOOD).stdout.strip()
    plain = template.format(source="cup", style="noir")
    assert Path(file_name(next(stocked.client.renders(campaign)), template, set())).stem == plain
