"""A campaign as a YAML file that a person edits, and how it becomes a `CampaignSpec`.

    name: Autumn coffee
    sources: photos/
    styles: [anime, cinematic]
    strengths: [0.35, 0.7]

Sources are paths, folders, globs (relative to the file) or ids, and so is what goes with them (`farm.cli.companions`).
One value may stand where a list is meant, and with a single block its keys may stand at the top. ``budget: 25``,
``proof: true`` and ``deadline: in 3h`` are short for more.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from farm.cli import companions
from farm.cli.companions import FOLDERS, found, from_folders, paths_in, together, with_ids
from farm.cli.exits import USAGE, Stop
from farm.cli.faults import sentences
from farm.cli.wishes import spelled_out
from schemas.campaign import Block, CampaignSpec

_LISTS = ("sources", "styles", "sizes", "prompts", "strengths")
_STAND_IN = "src_" + "0" * 64  # while the rest of the file is checked, before anything is uploaded


@dataclass(frozen=True, slots=True)
class CampaignFile:
    """The spec as it stands in the file, with `Path` objects where pictures are still on this machine."""

    draft: dict[str, Any]
    inline: bool  # its only block has no `blocks` around it

    def pictures(self) -> list[Path]:
        """Every file that the campaign wants, once, in order."""
        return list(dict.fromkeys(path for block in self.draft["blocks"] for path in paths_in(block["sources"])))

    def styles(self) -> list[str]:
        """Every style that the campaign wants, once, in order: ``anime`` or ``anime@3``."""
        return list(dict.fromkeys(style for block in self.draft["blocks"] for style in block["styles"]))

    def spec(self, ids: Mapping[Path, str]) -> CampaignSpec:
        """With *ids* put in. A source that lacks its own, or that of a picture that goes with it, is left out, and a
        block without any source too."""
        return self._validated([block for block in self._blocks(ids) if block["sources"]])

    def check(self) -> None:
        """Raises `Stop` with all that is wrong, but for what only the farm can know."""
        self._validated(self._blocks(dict.fromkeys(self.pictures(), _STAND_IN)))

    def _blocks(self, ids: Mapping[Path, str]) -> list[dict[str, Any]]:
        return [{**block, "sources": list(_with_ids(block["sources"], ids))} for block in self.draft["blocks"]]

    def _validated(self, blocks: list[dict[str, Any]]) -> CampaignSpec:
        try:
            return CampaignSpec.model_validate({**self.draft, "blocks": blocks})
        except ValidationError as fault:
            lines = sentences(fault, CampaignSpec, inline=("blocks", 0) if self.inline else ())
            raise Stop("\n".join(["The campaign is not right:", *lines]), USAGE) from fault


def read_file(path: Path, wishes: Mapping[str, Any] | None = None) -> CampaignFile:
    """*wishes* go before what stands in it. Raises `Stop` for whatever is wrong, before anything is uploaded."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise Stop(f"{path} is no YAML: {_one_line(fault)}", USAGE) from fault
    if not isinstance(value, dict):
        raise Stop(
            f"{path} holds no campaign: it begins with `name:` and goes on with `sources:` and `styles:`.", USAGE
        )
    return from_value({**value, **(wishes or {})}, path.parent, default_name=path.stem)


def from_value(value: dict[str, Any], base: Path, *, default_name: str) -> CampaignFile:
    """*value* as YAML gave it. Raises `Stop`."""
    value = spelled_out(_filled(value, {*CampaignSpec.model_fields, *Block.model_fields, *FOLDERS}))
    inline = "blocks" not in value
    value = {"name": default_name, **_with_blocks(value)}
    blocks = value["blocks"]
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise Stop("`blocks` is a list of mappings, each with `sources` and `styles`.", USAGE)
    draft = CampaignFile({**value, "blocks": together(partial(_block, block, base) for block in blocks)}, inline)
    draft.check()
    return draft


def _filled(value: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """A key with nothing behind it is as good as left out; one that there is not must still be noticed."""
    return {key: given for key, given in value.items() if given is not None or key not in known}


def _with_blocks(value: dict[str, Any]) -> dict[str, Any]:
    if "blocks" in value:
        return value
    inner = {key: value[key] for key in (*Block.model_fields, *FOLDERS) if key in value}
    return {**{key: value[key] for key in value if key not in inner}, "blocks": [inner]}


def _block(block: dict[str, Any], base: Path) -> dict[str, Any]:
    block = _filled(block, {*Block.model_fields, *FOLDERS})
    lists = {key: _as_list(block[key]) for key in _LISTS if key in block}
    named = together(partial(_entries, given, base) for given in lists.get("sources", []))
    sources = [entry for entries in named for entry in entries]
    kept = {key: value for key, value in block.items() if key not in FOLDERS}
    return {**kept, **lists, "sources": from_folders(sources, block, base)}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _entries(given: Any, base: Path) -> list[dict[str, Any]]:
    """One line of `sources`, as entries; what cannot be understood goes on to the validation, which says so."""
    if isinstance(given, str):
        return [{"source": source} for source in found(given, base)]
    if isinstance(given, dict) and isinstance(given.get("source"), str):
        entry = companions.spelled_out(given, base)
        return [{**entry, "source": source} for source in found(given["source"], base)]
    return [given if isinstance(given, dict) else {"source": given}]


def _with_ids(entries: list[dict[str, Any]], ids: Mapping[Path, str]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        try:
            yield with_ids(entry, ids)
        except KeyError:
            continue


def _one_line(fault: Exception) -> str:
    return " ".join(str(fault).split())
