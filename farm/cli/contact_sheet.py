"""A campaign on one picture: a row for each source, a column for each style and strength, the original first."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from farm.sdk import ApiError, Client
from schemas.campaign import CampaignDetail, CampaignState, Render, RenderState

CELL = 224
GAP = 12
CAPTION = 26
HEADER = 58
TITLE = 56
TEXT = 18
AT_ONCE = 8
PAPER, INK, FAINT, EMPTY = "#ffffff", "#1b1b1f", "#6b6b76", "#e8e8ec"

Column = tuple[str, float]  # style, strength


@dataclass(frozen=True, slots=True)
class Row:
    """One source: what it is called, its picture, and its renders by column."""

    name: str
    original: Image.Image | None
    cells: dict[Column, Image.Image | str]  # a picture, or why there is none


def make_sheet(farm: Client, campaign: str, target: Path, *, rows: int = 50) -> None:
    """The first *rows* sources, of each the first variant, prompt and size. Writes a PNG."""
    found = farm.campaign(campaign)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="sheet") as pool:
        lines = list(pool.map(lambda source: _row(farm, campaign, source), _sources(farm, found)[:rows]))
    columns = list(dict.fromkeys(column for line in lines for column in line.cells))
    target.parent.mkdir(parents=True, exist_ok=True)
    draw_sheet(found.name, lines, columns).save(target, "PNG")


def draw_sheet(title: str, rows: Sequence[Row], columns: Sequence[Column]) -> Image.Image:
    """(rows x (CELL + CAPTION), (1 + columns) x CELL) pixels with gaps, RGB."""
    width = GAP + (1 + len(columns)) * (CELL + GAP)
    height = TITLE + HEADER + len(rows) * (CELL + CAPTION + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    _text(pen, (GAP, GAP), title, 28, INK, width - 2 * GAP)
    for index, heading in enumerate([("original", ""), *((style, f"strength {s:g}") for style, s in columns)]):
        left = GAP + index * (CELL + GAP)
        _text(pen, (left, TITLE), heading[0], 22, INK, CELL)
        _text(pen, (left, TITLE + 28), heading[1], TEXT, FAINT, CELL)
    for index, row in enumerate(rows):
        top = TITLE + HEADER + index * (CELL + CAPTION + GAP)
        for column, cell in enumerate([row.original or "no picture", *(row.cells.get(c, "") for c in columns)]):
            _cell(sheet, pen, (GAP + column * (CELL + GAP), top), cell)
        _text(pen, (GAP, top + CELL + 2), row.name, TEXT, INK, CELL)
    return sheet


def _cell(sheet: Image.Image, pen: ImageDraw.ImageDraw, at: tuple[int, int], cell: Image.Image | str) -> None:
    left, top = at
    if isinstance(cell, str):
        pen.rectangle((left, top, left + CELL - 1, top + CELL - 1), fill=EMPTY)
        _text(pen, (left + 10, top + CELL // 2 - 10), cell, TEXT, FAINT, CELL - 20)
        return
    small = ImageOps.contain(cell, (CELL, CELL), Image.Resampling.LANCZOS)
    sheet.paste(small, (left + (CELL - small.width) // 2, top + (CELL - small.height) // 2))


def _text(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, points: int, ink: str, width: int) -> None:
    """One line, cut off with dots where it would leave its place."""
    font = ImageFont.load_default(points)
    if pen.textlength(text, font) > width:
        while text and pen.textlength(text + "...", font) > width:
            text = text[:-1]
        text += "..."
    pen.text(at, text, ink, font)


def _sources(farm: Client, campaign: CampaignDetail) -> list[str]:
    """Of a proof only those of which there is a picture: it takes few sources, from all over the campaign."""
    if campaign.state in (CampaignState.PROOFING, CampaignState.AWAITING_APPROVAL):
        return list(dict.fromkeys(one.source for one in farm.renders(campaign.id, state=RenderState.SUCCEEDED)))
    return list(dict.fromkeys(entry.source for block in campaign.spec.blocks for entry in block.sources))


def _row(farm: Client, campaign: str, source: str) -> Row:
    cells: dict[Column, Image.Image | str] = {}
    for render in farm.renders(campaign, source=source):
        column = (render.style, render.strength)
        if column not in cells:  # the first of several variants, prompts and sizes
            cells[column] = _picture(farm, render)
    return Row(farm.source(source).name, _fetched(farm, farm.source_link(source)), cells)


def _picture(farm: Client, render: Render) -> Image.Image | str:
    if render.state is not RenderState.SUCCEEDED or render.links is None:
        return f"{render.state}: {render.code}" if render.code else render.state.value
    return _fetched(farm, render.links.thumbnail) or _fetched(farm, render.links.picture) or "not in the depot"


def _fetched(farm: Client, link: str) -> Image.Image | None:
    target = io.BytesIO()
    try:
        farm.fetch(link, target)
        image = ImageOps.exif_transpose(Image.open(target))
    except (ApiError, OSError):
        return None
    return ImageOps.contain(image.convert("RGB"), (CELL, CELL), Image.Resampling.LANCZOS)
