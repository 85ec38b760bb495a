"""A style as a YAML file: its fields are those of `StyleSpec`, and reference pictures may be paths."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from farm.cli.companions import found, paths_in, with_ids
from farm.cli.exits import USAGE, Stop
from farm.cli.faults import sentences
from farm.cli.uploading import upload_all
from farm.sdk import Client
from schemas.style import StyleSpec

_STAND_IN = "src_" + "0" * 64  # while the rest of the file is checked, before anything is uploaded


def style_in(file: Path, farm: Client) -> StyleSpec:
    """Uploads its reference pictures. Raises `Stop` for whatever is wrong, before that."""
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise Stop(f"{file} is no YAML: {' '.join(str(fault).split())}", USAGE) from fault
    value = _with_paths(value, file.parent)
    pictures = list(dict.fromkeys(paths_in(value)))
    spec = _validated(file, with_ids(value, dict.fromkeys(pictures, _STAND_IN)))
    if not pictures:
        return spec
    uploads = upload_all(farm, pictures)
    if uploads.refused:
        raise Stop(f"{len(uploads.refused)} reference pictures were refused, so the style was not saved.")
    return _validated(file, with_ids(value, uploads.ids))


def _with_paths(value: Any, base: Path) -> Any:
    reference = value.get("reference") if isinstance(value, dict) else None
    pictures = reference.get("pictures") if isinstance(reference, dict) else None
    if not isinstance(reference, dict) or not isinstance(pictures, list | str):
        return value
    named = [pictures] if isinstance(pictures, str) else pictures
    paths = [path for name in named for path in (found(name, base) if isinstance(name, str) else [name])]
    return {**value, "reference": {**reference, "pictures": paths}}


def _validated(file: Path, value: Any) -> StyleSpec:
    try:
        return StyleSpec.model_validate(value)
    except ValidationError as fault:
        raise Stop("\n".join([f"{file} is no style:", *sentences(fault, StyleSpec)]), USAGE) from fault
