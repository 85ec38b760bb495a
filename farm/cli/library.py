"""`farm source|checkpoint|lora|style|renderer ...`"""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from farm.cli.connect import client
from farm.cli.exits import USAGE, Stop, spec_sent
from farm.cli.output import Json, day, show_list, show_one, size
from farm.cli.style_file import style_in
from farm.cli.uploading import upload_all
from schemas.checkpoint import Checkpoint, Lora
from schemas.renderer import RendererView
from schemas.source import Source
from schemas.style import Style

source = typer.Typer(help="Pictures to render from.", no_args_is_help=True)
checkpoint = typer.Typer(help="SDXL checkpoints.", no_args_is_help=True)
lora = typer.Typer(help="LoRAs.", no_args_is_help=True)
style = typer.Typer(help="Saved, versioned looks.", no_args_is_help=True)
renderer = typer.Typer(help="What owns the GPUs.", no_args_is_help=True)

SOURCE = ("id", "name", "size", "bytes", "format", "added")
CHECKPOINT = ("name", "layout", "files", "bytes", "digest", "added")
LORA = ("name", "base", "rank", "targets", "bytes", "licence", "expires", "trigger words")
STYLE = ("name", "version", "checkpoint", "loras", "strength", "steps", "size")
RENDERER = ("name", "state", "doing", "shards", "waiting", "gpu", "node", "seen")

Depot = Annotated[str | None, typer.Option("--key", help="Its place in the depot, below imports/, instead of a file.")]
Weights = Annotated[Path | None, typer.Argument(exists=True)]


@source.command("add")
def add_sources(
    ctx: typer.Context,
    pictures: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="JPEG, PNG or WebP.")],
    as_json: Json = False,
) -> None:
    """Upload pictures; those that the farm has already are not sent again.

    Example:

        farm source add photos/*.jpg
    """
    done = upload_all(client(ctx), pictures)
    show_list(done.sources.values(), SOURCE, _source, as_json=as_json)
    if done.refused:
        raise Stop(f"{len(done.refused)} pictures were refused.")


@source.command("list")
def list_sources(ctx: typer.Context, as_json: Json = False) -> None:
    """Every uploaded picture."""
    show_list(client(ctx).sources(), SOURCE, _source, as_json=as_json)


@checkpoint.command("add")
def add_checkpoint(
    ctx: typer.Context, name: str, weights: Weights = None, key: Depot = None, as_json: Json = False
) -> None:
    """Add a checkpoint: a diffusers folder, a tar of one, or one .safetensors file.

    Examples:

        farm checkpoint add default ~/sdxl-base

        farm checkpoint add photo --key imports/photo.safetensors
    """
    _one_of(weights, key)
    found = client(ctx).add_checkpoint(name, weights, key=key)
    show_list([found], CHECKPOINT, _checkpoint, as_json=as_json)


@checkpoint.command("list")
def list_checkpoints(ctx: typer.Context, as_json: Json = False) -> None:
    """Every checkpoint. The one called default, else the oldest, is what styles use that name none."""
    show_list(client(ctx).checkpoints(), CHECKPOINT, _checkpoint, as_json=as_json)


@lora.command("add")
def add_lora(
    ctx: typer.Context,
    name: str,
    weights: Weights = None,
    key: Depot = None,
    base: Annotated[str | None, typer.Option("--checkpoint", help="It is checked against this one.")] = None,
    trigger_word: Annotated[list[str] | None, typer.Option(help="May be given several times.")] = None,
    licence: str = "",
    expires: Annotated[datetime | None, typer.Option(help="When its licence ends.")] = None,
    as_json: Json = False,
) -> None:
    """Add a LoRA: a .safetensors file that fits the checkpoint.

    Example:

        farm lora add anime anime.safetensors --trigger-word "anime style" --licence "bought, 2026"
    """
    _one_of(weights, key)
    found = client(ctx).add_lora(
        name,
        weights,
        key=key,
        checkpoint=base,
        trigger_words=tuple(trigger_word or ()),
        licence=licence,
        expires_at=expires,
    )
    show_list([found], LORA, _lora, as_json=as_json)


@lora.command("list")
def list_loras(ctx: typer.Context, as_json: Json = False) -> None:
    """Every LoRA."""
    show_list(client(ctx).loras(), LORA, _lora, as_json=as_json)


@style.command("add")
def add_style(
    ctx: typer.Context, file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)], as_json: Json = False
) -> None:
    """Save a style from a YAML file; under a name that is taken it becomes the next version.

    Reference pictures may be paths, relative to the file: they are uploaded.

    Example:

        printf 'name: noir\\nprompt: "{prompt}, film noir"\\nstrength: 0.6\\n' > noir.yaml && farm style add noir.yaml
    """
    spec = style_in(file, farm := client(ctx))
    with spec_sent():
        saved = farm.save_style(spec)
    show_list([saved], STYLE, _style, as_json=as_json)


@style.command("list")
def list_styles(ctx: typer.Context, as_json: Json = False) -> None:
    """The newest version of each style."""
    show_list(client(ctx).styles(), STYLE, _style, as_json=as_json)


@style.command("show")
def show_style(
    ctx: typer.Context,
    name: str,
    versions: Annotated[bool, typer.Option("--versions", help="All versions, newest first.")] = False,
    as_json: Json = False,
) -> None:
    """One style in full."""
    farm = client(ctx)
    if versions:
        show_list(farm.style_versions(name), STYLE, _style, as_json=as_json)
        return
    found = farm.style(name)
    show_one(found, _facts(found), as_json=as_json)


@renderer.command("list")
def list_renderers(ctx: typer.Context, as_json: Json = False) -> None:
    """Every renderer and what it does."""
    show_list(client(ctx).renderers(), RENDERER, _renderer, as_json=as_json)


def _one_of(weights: Path | None, key: str | None) -> None:
    if (weights is None) == (key is None):
        raise Stop("Name a file, or its place in the depot with --key.", USAGE)


def _source(row: Source) -> tuple[object, ...]:
    return (row.id, row.name, f"{row.width}x{row.height}", row.bytes, row.format, day(row.created_at))


def _checkpoint(row: Checkpoint) -> tuple[object, ...]:
    total = size(sum(file.bytes for file in row.files))
    return (row.name, row.layout, len(row.files), total, row.digest[:12], day(row.created_at))


def _lora(row: Lora) -> tuple[object, ...]:
    words = ", ".join(row.trigger_words)
    return (row.name, row.base, row.rank, row.targets, size(row.bytes), row.licence, day(row.expires_at), words)


def _style(row: Style) -> tuple[object, ...]:
    loras = ", ".join(f"{x.lora} {x.scale:g}" for x in row.spec.loras)
    checkpoint_name = row.spec.checkpoint or "(default)"
    return (row.name, row.version, checkpoint_name, loras, row.spec.strength, row.spec.steps, row.spec.size)


def _facts(found: Style) -> list[tuple[str, object]]:
    spec = found.spec.model_dump(mode="json")
    spec["checkpoint"] = found.spec.checkpoint or "(default)"
    spec["loras"] = ", ".join(f"{one.lora} x {one.scale}" for one in found.spec.loras)
    return [("version", found.version), *spec.items()]


def _renderer(row: RendererView) -> tuple[object, ...]:
    doing = row.quarantine or row.doing
    return (row.name, row.state, doing, row.shards, row.waiting, row.gpu, row.node, day(row.seen_at))
