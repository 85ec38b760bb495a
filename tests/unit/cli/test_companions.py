"""Masks, control pictures, references and blends in campaign files: named as paths, uploaded like sources."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from farm.cli.campaign_file import read_file
from farm.cli.main import app
from schemas.campaign import CampaignSpec, MaskEntry
from tests.unit.api.serving import Farm
from tests.unit.api.world import picture


def run(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    names = ("photos/mug.png", "photos/lamp.png", "masks/mug.png", "masks/lamp.webp", "depth/mug.png", "depth/lamp.png")
    for number, name in enumerate((*names, "logo.png", "logo-mask.png", "look.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture(number, kind="WEBP" if name.endswith("webp") else "PNG"))
    (tmp_path / "masks" / "notes.txt").write_text("no picture")
    return tmp_path


def read(folder: Path, text: str) -> tuple[CampaignSpec, list[str]]:
    """The spec with an id for each picture, and which pictures those are: id *n* is the n-th."""
    (folder / "c.yaml").write_text(text)
    draft = read_file(folder / "c.yaml")
    pictures = draft.pictures()
    spec = draft.spec({path: f"src_{number:064x}" for number, path in enumerate(pictures)})
    return spec, [path.relative_to(folder).as_posix() for path in pictures]


def named(ids: str, pictures: list[str]) -> str:
    return pictures[int(ids.removeprefix("src_"), 16)]


def test_what_goes_with_a_source_is_found_beside_the_file(folder: Path) -> None:
    text = """
styles: noir
sources:
  - source: photos/mug.png
    mask: {picture: masks/mug.png, feather: 3, invert: true}
    control: depth/mug.png
    references: [look.png, src_%064x]
    blend:
      - {picture: logo.png, mask: logo-mask.png, weight: 0.8}
  - {source: photos/lamp.png, mask: masks/lamp.webp, references: look.png, blend: logo.png}
"""
    spec, pictures = read(folder, text % 255)
    first, second = spec.blocks[0].sources
    assert first.mask is not None
    assert (named(first.mask.picture, pictures), first.mask.feather, first.mask.invert) == ("masks/mug.png", 3, True)
    assert named(str(first.control), pictures) == "depth/mug.png"
    assert (named(first.references[0], pictures), first.references[1]) == ("look.png", f"src_{255:064x}")
    (over,) = first.blend
    assert (named(over.picture, pictures), named(str(over.mask), pictures)) == ("logo.png", "logo-mask.png")
    assert second.mask == MaskEntry(picture=second.mask.picture if second.mask else "")
    assert named(second.references[0], pictures) == "look.png"
    assert [(named(part.picture, pictures), part.weight) for part in second.blend] == [("logo.png", 0.5)]
    assert len(pictures) == len(set(pictures))


def test_a_folder_of_masks_and_one_of_control_pictures_hold_one_for_each_photo(folder: Path) -> None:
    spec, pictures = read(folder, "styles: noir\nsources: photos/\nmasks: masks/\ncontrols: depth/\n")
    found = [
        (named(entry.source, pictures), named(entry.mask.picture, pictures), named(str(entry.control), pictures))
        for entry in spec.blocks[0].sources
        if entry.mask is not None
    ]
    assert found == [
        ("photos/lamp.png", "masks/lamp.webp", "depth/lamp.png"),
        ("photos/mug.png", "masks/mug.png", "depth/mug.png"),
    ]


def test_masks_of_a_folder_may_be_feathered_and_an_entry_goes_before_it(folder: Path) -> None:
    text = """
blocks:
  - styles: noir
    masks: {folder: masks, feather: 20}
    sources: [photos/lamp.png, {source: photos/mug.png, mask: logo-mask.png}]
"""
    spec, pictures = read(folder, text)
    lamp, mug = spec.blocks[0].sources
    assert lamp.mask is not None
    assert mug.mask is not None
    assert (lamp.mask.feather, named(mug.mask.picture, pictures)) == (20, "logo-mask.png")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("masks: nowhere/", "`masks` names no folder"),
        ("masks: [masks/]", "`masks` names no folder"),
        ("masks: {folder: masks, fether: 3}", "`masks` has no 'fether'; there are folder, feather, invert."),
        ("controls: masks2/", "masks2 has no picture called lamp, which lamp.png wants."),
        ("maskes: masks/", "maskes: there is no such key"),
        ("sources: [{source: photos/mug.png, mask: photos/}]", "photos/ stands for 2 pictures, and one is meant."),
        ("sources: [{source: photos/mug.png, mask: gone.png}]", "There are no pictures at"),
        ("sources: [{source: photos/mug.png, mask: {fether: 3}}]", "sources no. 1 mask picture: missing"),
        ("sources: [{source: photos/mug.png, control: 3}]", "sources no. 1 control: "),
        ("sources: [{source: photos/mug.png, mask: masks/mug.png}]\nmasks: masks2/", None),
        (f"sources: [src_{0:064x}]\nmasks: masks/", "is no file here"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_uploaded(folder: Path, more: str, said: str | None) -> None:
    (folder / "masks2").mkdir()
    (folder / "masks2" / "mug.png").write_bytes(picture(1))
    keys = [key for key in ("sources: photos/", "styles: noir") if not (key[:7] in more and "sources" in key)]
    (folder / "c.yaml").write_text("\n".join([*keys, more]))
    result = run("campaign", "quote", "c.yaml")
    if said is None:
        assert "There is no farm" in result.stderr, "the file is right"
    else:
        assert result.exit_code == 2, result.output
        assert said in result.stderr


def test_all_that_is_missing_is_said_at_once(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "c.yaml").write_text("sources: photos/\nstyles: noir\nmasks: empty/\n")
    said = run("campaign", "quote", "c.yaml").stderr
    assert "no picture called lamp" in said
    assert "no picture called mug" in said
    text = """
blocks:
  - {sources: [gone-1.png, {source: photos/mug.png, mask: gone-2.png}], styles: noir}
  - {sources: gone-3.png, styles: noir}
"""
    (folder / "c.yaml").write_text(text)
    said = run("campaign", "quote", "c.yaml").stderr
    assert [name for name in ("gone-1.png", "gone-2.png", "gone-3.png") if name not in said] == []
    entries = "".join(f"  - gone-{number}.png\n" for number in range(25))
    (folder / "c.yaml").write_text(f"styles: noir\nsources:\n{entries}")
    assert "And 5 more of the kind." in run("campaign", "quote", "c.yaml").stderr


def test_a_folder_may_be_called_as_ids_begin(folder: Path) -> None:
    (folder / "photos").rename(folder / "src_photos")
    _, pictures = read(folder, "styles: noir\nsources: src_photos/\n")
    assert pictures == ["src_photos/lamp.png", "src_photos/mug.png"]


def test_pictures_that_go_with_sources_are_uploaded_with_them(stocked: Farm, folder: Path) -> None:
    (folder / "c.yaml").write_text("styles: noir\nsources: photos/\nmasks: masks/\n")
    result = run("campaign", "submit", "c.yaml")
    assert result.exit_code == 0, result.output
    spec = stocked.client.campaign(result.stdout.strip()).spec
    known = {source.id: source.name for source in stocked.client.sources()}
    found = [(known[entry.source], known[entry.mask.picture]) for entry in spec.blocks[0].sources if entry.mask]
    assert found == [("lamp.png", "lamp.webp"), ("mug.png", "mug.png")]


def test_a_source_whose_mask_is_refused_is_left_out_with_skip_bad(stocked: Farm, folder: Path) -> None:
    (folder / "masks" / "mug.png").write_bytes(b"no picture")
    (folder / "c.yaml").write_text("styles: noir\nsources: photos/\nmasks: masks/\n")
    assert run("campaign", "submit", "c.yaml").exit_code == 1
    result = run("campaign", "submit", "c.yaml", "--skip-bad")
    assert result.exit_code == 0, result.output
    (entry,) = stocked.client.campaign(result.stdout.strip()).spec.blocks[0].sources
    assert stocked.client.source(entry.source).name == "lamp.png"


def test_reference_pictures_of_a_style_are_uploaded(stocked: Farm, folder: Path) -> None:
    (folder / "look.yaml").write_text("name: look\nsize: 64x64\nreference: {scale: 0.5, pictures: look.png}\n")
    result = run("style", "add", "look.yaml")
    # The checkpoint of this farm has no IP-Adapter; what matters here is that the picture got there, and its id.
    assert result.exit_code == 2, result.output
    assert "lacks the part reference" in result.stderr
    assert "reference picture" not in result.stderr
    assert "look.png" in {source.name for source in stocked.client.sources()}
    (folder / "look.yaml").write_text("name: look\nreference: {pictures: [gone.png]}\n")
    assert "There are no pictures at" in run("style", "add", "look.yaml").stderr
    (folder / "look.yaml").write_text("name: look\nreference: {scale: 5, pictures: [look.png]}\n")
    assert "reference scale: 5 is too large; at most 2" in run("style", "add", "look.yaml").stderr
