"""What the documents say is so: commands parse, files validate, links lead somewhere, the reference is fresh."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from pydantic import BaseModel

from farm.cli.campaign_file import from_value, read_file
from farm.cli.companions import FOLDERS
from farm.core.campaign import EDGES
from ops import docs
from schemas.campaign import BlendEntry, CampaignSpec, MaskEntry, SourceEntry
from schemas.campaign import Block as CampaignBlock
from schemas.recipe import Output, Upscale
from schemas.rendition import Rendition
from schemas.style import Checks, Prepare, StyleControl, StyleLora, StyleReference, StyleSpec
from tests.unit.docs.pages import (
    DOCUMENTS,
    ROOT,
    Block,
    anchors,
    blocks,
    command_lines,
    links,
    name_of,
    prose,
    quoted,
)

PROGRAMS = {"farm", "make", "source", "printf", "docker", "sh", ".venv/bin/python"}
"""What a command in a bash block may begin with; each of them is looked at below or harmless."""

COMMANDS = [(page, words[1:]) for page, words in command_lines() if words[0] == "farm"]
CAMPAIGNS = [block for block in blocks("yaml") if "styles:" in block.text]
STYLES = [block for block in blocks("yaml") if "styles:" not in block.text]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(folder: Path, name: str) -> None:
    """What a command or a campaign names: a folder with a picture, or a file."""
    path = folder / name.replace("*", "1")
    if name.endswith("/"):
        path.mkdir(parents=True, exist_ok=True)
        path /= "picture.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_there_is_something_to_look_at() -> None:
    assert len(COMMANDS) > 20
    assert CAMPAIGNS
    assert STYLES
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/campaigns.md"} <= {name_of(p) for p in DOCUMENTS}


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}" for page, words in COMMANDS])
def test_commands_are_understood(page: str, words: list[str], root: Any, folder: Path) -> None:
    words = [word.replace("*", "1") for word in words]  # as a shell would
    for word in words:
        if "/" in word or "." in word:
            make(folder, word.removeprefix("/"))
    root.main(args=words, prog_name="farm", standalone_mode=False)


@pytest.mark.parametrize(
    "words", ["campaign submit . --stile anime", "campaign sumbit .", "up --gpus 2", "campaign show"]
)
def test_wrong_commands_are_noticed(words: str, root: Any, folder: Path) -> None:
    with pytest.raises(Exception, match=r"(?i)no such (command|option)|missing parameter"):
        root.main(args=words.split(), prog_name="farm", standalone_mode=False)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_commands_in_a_sentence_exist(path: Path, root: Any) -> None:
    for text in quoted(path):
        words = text.split()
        if words[0] == "farm" and len(words) > 1:
            command, rest = root, words[1:]
            while rest and hasattr(command, "commands"):
                assert rest[0] in command.commands, text
                command, rest = command.commands[rest[0]], rest[1:]
            options = {name for one in command.params for name in one.opts}
            assert {word for word in rest if word.startswith("-")} <= options, text


def test_programs_are_those_that_are_looked_at() -> None:
    assert {words[0] for _, words in command_lines()} <= PROGRAMS


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for _, words in command_lines() if words[0] == "make" for word in words[1:]}
    named |= {text.split()[1] for path in DOCUMENTS for text in quoted(path) if re.match(r"make [a-z]", text)}
    assert named
    assert named <= targets


def test_files_given_to_python_exist() -> None:
    for page, words in command_lines():
        if words[0] == ".venv/bin/python":
            assert all((ROOT / word).exists() for word in words[1:] if "/" in word and "://" not in word), (page, words)


def test_make_help_lists_every_target() -> None:
    lines = re.findall(r"^([a-z]+):(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [target for target, rest in lines if "##" not in rest] == []


# Blocks


def sources_of(value: Any) -> Iterator[str]:
    """Every picture and folder that a campaign names."""
    for block in value.get("blocks", [value]):
        yield from (block[key] for key in FOLDERS if key in block)
        yield from _named(block["sources"])


def _named(given: Any) -> Iterator[str]:
    match given:
        case str():
            yield given
        case list():
            yield from (name for one in given for name in _named(one))
        case dict():
            keys = ("source", "mask", "control", "references", "blend", "picture")
            yield from (name for key in keys if key in given for name in _named(given[key]))


@pytest.mark.parametrize("block", CAMPAIGNS, ids=str)
def test_campaigns_validate(block: Block, folder: Path) -> None:
    for name in sources_of(yaml.safe_load(block.text)):
        make(folder, name)
    file = folder / "campaign.yaml"
    file.write_text(block.text)
    draft = read_file(file)
    spec = draft.spec({path: f"src_{number:064x}" for number, path in enumerate(draft.pictures())})
    assert spec.name == yaml.safe_load(block.text)["name"]


def test_the_block_that_is_counted_in_words_has_as_many_renders(folder: Path) -> None:
    value = next(yaml.safe_load(block.text) for block in CAMPAIGNS if "blocks:" in block.text)
    for name in sources_of(value):
        make(folder, name)
    draft = from_value(value, folder, default_name="-")
    first = draft.spec({path: f"src_{number:064x}" for number, path in enumerate(draft.pictures())}).blocks[0]
    counts = [len(first.sources), len(first.styles), len(first.strengths or "1"), first.variants]
    total = counts[0] * counts[1] * counts[2] * counts[3]
    assert f"{' x '.join(map(str, counts))} = {total}" in (ROOT / "docs" / "campaigns.md").read_text()


@pytest.mark.parametrize("block", STYLES, ids=str)
def test_styles_validate(block: Block) -> None:
    value = yaml.safe_load(block.text)
    if pictures := value.get("reference", {}).get("pictures"):  # paths, as `farm style add` takes them
        value["reference"]["pictures"] = [f"src_{number:064x}" for number, _ in enumerate(pictures)]
    StyleSpec.model_validate(value)


def test_other_blocks_can_be_read() -> None:
    for block in blocks():
        match block.language:
            case "bash" | "yaml" | "mermaid" | "text":
                pass
            case "json":
                json.loads(block.text)
            case "python":
                ast.parse(block.text)
            case other:
                pytest.fail(f"{block} is of the language {other!r}, which nobody checks")


def test_the_drawn_states_of_a_campaign_are_the_real_ones() -> None:
    drawn = next(block.text for block in blocks("mermaid") if "stateDiagram" in block.text)
    arrows = set(re.findall(r"^ +(\w+) --> (\w+)$", drawn, re.MULTILINE))
    assert arrows == {(frm.value, to.value) for frm, to in EDGES}


@pytest.mark.parametrize(
    "kind",
    [
        *(CampaignSpec, CampaignBlock, SourceEntry, MaskEntry, BlendEntry, Output, Upscale, Rendition),
        *(StyleSpec, StyleLora, Prepare, StyleControl, StyleReference, Checks),
    ],
)
def test_every_key_of_a_file_is_explained(kind: type[BaseModel]) -> None:
    pages = (ROOT / "docs" / "campaigns.md", ROOT / "docs" / "engine.md")
    explained = {text for page in pages for text in quoted(page)} | set(
        re.findall(r"(\w+):", " ".join(block.text for block in blocks("yaml")))
    )
    assert set(kind.model_fields) <= explained


# Links and the reference


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path):
        if not link.startswith("https://"):
            where, _, anchor = link.partition("#")
            target = (path.parent / where).resolve() if where else path
            assert target.exists(), link
            assert target.is_relative_to(ROOT), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("name", docs.PAGES)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    told = "docs/reference is behind the code: .venv/bin/python ops/docs.py"
    assert (docs.FOLDER / name).read_text() == docs.PAGES[name](), told


def test_nothing_else_lies_in_the_reference() -> None:
    assert {path.name for path in docs.FOLDER.iterdir()} == set(docs.PAGES)


def test_every_error_code_has_one_sentence_and_no_sentence_is_left_over() -> None:
    explained = [code for codes in docs.ERRORS.values() for code in codes]
    assert len(explained) == len(set(explained))
    assert set(explained) == docs.error_codes()


def test_codes_are_found_wherever_they_are_given() -> None:
    found = docs.error_codes()
    assert "conflict" in found, "an attribute of a class"
    assert "bad_depot_key" in found, "a keyword"
    assert "lora_link_missing" in found, "an argument in its place"
    assert "depot_link_refused" in found, "a variable"
    assert "method_not_allowed" in found, "a table"
    assert "source_animated" in found, "an enumeration"


def test_every_variable_of_the_environment_is_explained() -> None:
    page = docs.settings_page()
    read = {
        name for path in (ROOT / "farm" / "cli").glob("*.py") for name in re.findall(r"FARM_[A-Z_]+", path.read_text())
    }
    named = {name for path in DOCUMENTS for name in re.findall(r"FARM_[A-Z_]+", path.read_text())}
    assert {name for name in read | named if f"`{name}`" not in page} == set()


def test_the_changelog_knows_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in prose(ROOT / "CHANGELOG.md")


def test_every_decision_is_listed() -> None:
    folder = ROOT / "ops" / "decisions"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [link for link in links(folder / "README.md") if link[0].isdigit()] == records
    assert [int(name[:4]) for name in records] == list(range(1, len(records) + 1))


def test_the_contact_sheet_is_a_picture_of_reasonable_size() -> None:
    path = ROOT / "docs" / "contact-sheet.png"
    with Image.open(path) as picture:
        assert picture.width >= 800
    assert path.stat().st_size < 1_000_000
