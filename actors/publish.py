"""Pixels out: upload a picture with its renditions, a thumbnail and a provenance note."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from actors.engine.port import Refused
from actors.finish import SOURCE_TYPE, File, Files
from actors.links import Links
from schemas.order import OrderRow
from schemas.picture import PictureFormat
from schemas.recipe import Recipe
from schemas.report import FailureKind, Measured, Published, PublishedRendition, Seconds

CONTENT_TYPES: Final = {
    PictureFormat.PNG: "image/png",
    PictureFormat.WEBP: "image/webp",
    PictureFormat.JPEG: "image/jpeg",
}


@dataclass(frozen=True, slots=True)
class Made:
    """How a picture came to be, beyond its recipe. ``numerics`` is that of the pass that drew it."""

    numerics: str
    session: str
    seconds: Seconds
    versions: Mapping[str, str]


def upload(links: Links, row: OrderRow, files: Files, made: Made, measured: Measured | None) -> Published:
    """The picture last: where it lies, the others lie as well. Raises `Refused` (DEPOT)."""
    targets = {name: _link(row, name) for name in files.renditions}
    links.put(row.links.thumbnail, files.thumbnail, CONTENT_TYPES[PictureFormat.WEBP])
    links.put(row.links.provenance, provenance(row, files, made, measured), "application/json")
    for name, file in files.renditions.items():
        links.put(targets[name], file.body, CONTENT_TYPES[file.format])
    picture = files.picture
    links.put(row.links.picture, picture.body, CONTENT_TYPES[picture.format])
    return Published(
        key=row.links.picture_key,
        sha256=picture.sha256,
        bytes=len(picture.body),
        width=picture.width,
        height=picture.height,
        format=picture.format,
        renditions=_published(files),
        measured=measured,
    )


def provenance(row: OrderRow, files: Files, made: Made, measured: Measured | None) -> bytes:
    """JSON with all that is needed to say what a picture is, and to make it again.

    ``seed`` is that of the try that was kept, ``recipe.seed`` that of the first one.
    """
    recipe = row.recipe
    note = {
        "fingerprint": row.fingerprint,
        "recipe": recipe.model_dump(mode="json"),
        "seed": recipe.seed if measured is None else measured.tries[measured.kept].seed,
        "strength_mode": recipe.strength_mode.value,
        "made_from": row.made_from or None,
        "measured": None if measured is None else measured.model_dump(mode="json"),
        "digests": {"picture": files.picture.sha256, **_digests(recipe)},
        "renditions": {name: _described(file) for name, file in files.renditions.items()},
        "digital_source_type": SOURCE_TYPE,
        "numerics": made.numerics,
        "session": made.session,
        "versions": dict(made.versions),
        "seconds": made.seconds.model_dump(mode="json", exclude={"publish"}),
    }
    return json.dumps(note, indent=1, ensure_ascii=False, sort_keys=True).encode()


def _digests(recipe: Recipe) -> dict[str, Any]:
    return {
        "source": recipe.source,
        "checkpoint": recipe.checkpoint,
        "loras": [lora.digest for lora in recipe.loras],
        "mask": recipe.mask.picture if recipe.mask else None,
        "control": recipe.control.picture if recipe.control else None,
        "references": list(recipe.references),
        "blend": [{"picture": each.picture, "mask": each.mask} for each in recipe.blend],
    }


def _described(file: File) -> dict[str, Any]:
    return {"sha256": file.sha256, "width": file.width, "height": file.height, "format": file.format.value}


def _published(files: Files) -> tuple[PublishedRendition, ...]:
    return tuple(
        PublishedRendition(
            name=name,
            sha256=file.sha256,
            bytes=len(file.body),
            width=file.width,
            height=file.height,
            format=file.format,
        )
        for name, file in files.renditions.items()
    )


def _link(row: OrderRow, rendition: str) -> str:
    link = row.links.renditions.get(rendition)
    if not link:
        detail = f"No link for the rendition {rendition} came with the order."
        raise Refused(FailureKind.DEPOT, "rendition_link_missing", detail)
    return link
