"""`farm refine` and `farm preview`: one picture at a time, while somebody looks."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ValidationError

from farm.cli.companions import PICTURES
from farm.cli.connect import client
from farm.cli.exits import FAILED, USAGE, Stop, spec_sent
from farm.cli.faults import sentences
from farm.cli.output import Json, say, show_json
from farm.cli.submitting import check_styles
from farm.cli.uploading import upload_all
from farm.cli.watching import Timeout, Watch, watch_and_show
from farm.core.words import many
from farm.sdk import Client
from schemas.campaign import CampaignSpec, MaskEntry, Render, SourceEntry
from schemas.order import Lane
from schemas.picture import PictureFormat
from schemas.refine import MAX_VARIANTS, Refine, RefineStart

_FORMATS = {
    ".png": PictureFormat.PNG,
    ".webp": PictureFormat.WEBP,
    ".jpg": PictureFormat.JPEG,
    ".jpeg": PictureFormat.JPEG,
}
StrengthOption = Annotated[float | None, typer.Option(min=0, max=1, help="0 to 1; as it was, or the style's own.")]
PromptOption = Annotated[str | None, typer.Option(help="What goes into {prompt} of the style.")]


def refine(
    ctx: typer.Context,
    render: Annotated[str, typer.Argument(metavar="RENDER", help="Such as rnd_06yd2k7h00004_12.")],
    start: Annotated[
        RefineStart, typer.Option(help="From the render's own picture, or again from its source.")
    ] = RefineStart.PICTURE,
    strength: StrengthOption = None,
    prompt: PromptOption = None,
    style: Annotated[str | None, typer.Option(help="Another style, or style@version.")] = None,
    size: Annotated[str | None, typer.Option(help="Width x height, such as 1024x1024.")] = None,
    variants: Annotated[int, typer.Option(min=1, max=MAX_VARIANTS, help="So many, each with other noise.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help="Another one gives another picture.")] = None,
    mask: Annotated[
        str | None, typer.Option(metavar="FILE", help="Only where it is white is anything painted; or its id.")
    ] = None,
    feather: Annotated[int, typer.Option(min=0, max=256, help="Pixels over which the mask's two sides mix.")] = 8,
    name: Annotated[str | None, typer.Option(help="What the new campaign is called.")] = None,
    watch: Watch = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Render a finished render once more, with changes. What is not named stays: style, prompt, strength, size, seed.

    Examples:

        farm refine rnd_06yd2k7h00004_12 --strength 0.3 --prompt "softer light" --watch

        farm refine rnd_06yd2k7h00004_12 --mask sky.png --strength 0.8 --variants 4

        farm refine rnd_06yd2k7h00004_12 --start source --style cinematic
    """
    farm = client(ctx)
    painted = None if mask is None else MaskEntry(picture=_picture(farm, mask), feather=feather)
    given = {"strength": strength, "prompt": prompt, "style": style, "size": size, "seed": seed, "name": name}
    with _understood(Refine):
        changes = Refine.model_validate({"start": start, "variants": variants, "mask": painted, **given})
    with spec_sent():
        campaign = farm.refine(render, changes)
    say(f"Submitted {campaign.id}: {many(campaign.counts.total, 'render')}.")
    if watch:
        watch_and_show(farm, campaign.id, timeout, as_json=as_json)
    elif as_json:
        show_json(campaign.model_dump(mode="json"))
    else:
        typer.echo(campaign.id)


def preview(
    ctx: typer.Context,
    photo: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JPEG, PNG or WebP.")],
    style: Annotated[str, typer.Option(help="Best one of few steps, for LCM, Lightning or Turbo.")],
    strength: StrengthOption = None,
    prompt: PromptOption = None,
    target: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT", help="PNG, WebP or JPEG; PHOTO_STYLE.png else.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Give up waiting after this long.")] = 300,
) -> None:
    """One photo in one style, ahead of all bulk work, and how long that took.

    Example:

        farm preview photos/mug.jpg --style anime --strength 0.5 -o mug.png
    """
    farm = client(ctx)
    path = target or Path(f"{photo.stem}_{style.replace('@', '-')}.png")
    if path.suffix.lower() not in _FORMATS:
        raise Stop(f"{path} is to be a picture: {', '.join(_FORMATS)}.", USAGE)
    with _understood(CampaignSpec):
        spec = _spec(photo.name, style, strength, prompt, path)
    check_styles(farm, [style])
    began = time.monotonic()
    source = _picture(farm, str(photo))
    uploaded = time.monotonic()
    render = _rendered(farm, _with_source(spec, source), timeout)
    rendered = time.monotonic()
    _save(farm, render, path)
    ended = time.monotonic()
    parts = f"upload {uploaded - began:.2f}, render {rendered - uploaded:.2f}, download {ended - rendered:.2f}"
    again = " It was rendered before, so it was taken over." if render.reused else ""
    say(f"{ended - began:.2f} s: {parts}.{again}")
    typer.echo(str(path))


def _spec(name: str, style: str, strength: float | None, prompt: str | None, path: Path) -> CampaignSpec:
    """Of a source that is not uploaded yet."""
    block = {"sources": [{"source": "src_" + "0" * 64}], "styles": [style], "prompts": [prompt or ""]}
    value = {
        "name": f"Preview of {name}"[:200],
        "blocks": [block if strength is None else {**block, "strengths": [strength]}],
        "output": {"format": _FORMATS[path.suffix.lower()]},
        "lane": Lane.INTERACTIVE,
    }
    return CampaignSpec.model_validate(value)


def _with_source(spec: CampaignSpec, source: str) -> CampaignSpec:
    (block,) = spec.blocks
    return spec.model_copy(update={"blocks": (block.model_copy(update={"sources": (SourceEntry(source=source),)}),)})


@contextmanager
def _understood(kind: type[BaseModel]) -> Iterator[None]:
    """What is wrong with an option, as a sentence."""
    try:
        yield
    except ValidationError as fault:
        raise Stop("\n".join(["This is not right:", *sentences(fault, kind, inline=("blocks", 0))]), USAGE) from fault


def _rendered(farm: Client, spec: CampaignSpec, timeout: float) -> Render:
    with spec_sent():
        campaign = farm.submit(spec, idempotency_key=str(uuid.uuid4()))
    farm.wait(campaign.id, timedelta(seconds=timeout))
    (render,) = farm.renders(campaign.id)
    if render.links is None:
        raise Stop(f"It was not rendered: {render.detail or render.state} [{render.code or render.state}]", FAILED)
    return render


def _save(farm: Client, render: Render, path: Path) -> None:
    """Never half a file under its name."""
    if render.links is None:
        raise ValueError(f"{render.id} has no picture")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        farm.fetch(render.links.picture, file)
    part.replace(path)


def _picture(farm: Client, name: str) -> str:
    """The id of a picture: of this machine, which is uploaded, or already the farm's. Raises `Stop`."""
    path = Path(name).expanduser()
    if name.startswith("src_") and not path.exists():
        return name
    if not path.is_file() or path.suffix.lower() not in PICTURES:
        raise Stop(f"{path} is no picture ({', '.join(sorted(PICTURES))}), nor the id of one.", USAGE)
    uploads = upload_all(farm, [path])
    if uploads.refused:
        raise Stop("The picture was refused.", FAILED)
    return uploads.ids[path]
