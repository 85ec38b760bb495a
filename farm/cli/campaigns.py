"""`farm campaign ...`"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from farm.cli.connect import client
from farm.cli.contact_sheet import make_sheet
from farm.cli.exits import FAILED, SOME_FAILED, USAGE, Stop
from farm.cli.output import Json, day, err, say, show_json, show_list, show_one
from farm.cli.submitting import check_styles, draft_of, send, upload_for
from farm.cli.watch import watch as watch_campaign
from farm.sdk import Client
from farm.sdk.download import NAME, check_template
from schemas.campaign import Campaign, CampaignDetail, CampaignState, RenderState

app = typer.Typer(help="Submit campaigns, watch them, get their pictures.", no_args_is_help=True)


def _campaign_id(given: str) -> str:
    """A render's id holds its campaign's, and is easily taken for it."""
    render = re.fullmatch(r"rnd_([0-9a-z]{13})(_\d+)?", given)
    if render:
        raise Stop(f"{given} is the id of a render. Its campaign is cmp_{render[1]}.", USAGE)
    return given


Id = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Such as cmp_06yd2k7h00004.", callback=_campaign_id)]
Timeout = Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Give up waiting after this long.")]
COLUMNS = ("id", "name", "state", "renders", "succeeded", "failed", "reused", "submitted")


@app.command()
def submit(
    ctx: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(exists=True, help="A campaign file (YAML), or pictures and folders of them.")
    ],
    style: Annotated[list[str] | None, typer.Option(help="With pictures: a style; may be given several times.")] = None,
    strength: Annotated[list[float] | None, typer.Option(min=0, max=1, help="With pictures: 0 to 1; several.")] = None,
    name: Annotated[str | None, typer.Option(help="With pictures: what the campaign is called.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on without pictures that are refused.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "--wait", help="Stay until it has ended.")] = False,
    timeout: Timeout = None,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="Sent again, it makes no second campaign.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Upload the pictures that the farm does not have yet, and submit.

    Examples:

        farm campaign submit autumn.yaml --watch

        farm campaign submit photos/ --style anime --style noir --strength 0.35 --strength 0.7

        farm campaign submit cup.jpg lamp.jpg --style anime
    """
    draft = draft_of(files, {"styles": style, "strengths": strength, "name": name})
    farm = client(ctx)
    check_styles(farm, draft.styles())
    campaign = send(farm, upload_for(farm, draft, skip_bad=skip_bad), key)
    if watch:
        _watch(farm, campaign.id, timeout, as_json=as_json)
    elif as_json:
        show_json(campaign.model_dump(mode="json"))
    else:
        typer.echo(campaign.id)


@app.command("list")
def list_campaigns(ctx: typer.Context, as_json: Json = False) -> None:
    """All campaigns, newest first."""
    show_list(client(ctx).campaigns(), COLUMNS, _cells, as_json=as_json)


@app.command()
def show(ctx: typer.Context, campaign: Id, as_json: Json = False) -> None:
    """One campaign, with its counts and the first renders that failed."""
    farm = client(ctx)
    found = farm.campaign(campaign)
    show_one(found, _facts(found), as_json=as_json)
    if found.counts.failed and not as_json:
        for number, render in enumerate(farm.renders(campaign, state=RenderState.FAILED)):
            if number == 10:
                say("  and more.")
                break
            cell = f"{render.id} {render.source_name} {render.style} {render.strength:g}"
            say(f"  {cell}: {render.detail} [{render.code}]")


@app.command()
def watch(ctx: typer.Context, campaign: Id, timeout: Timeout = None, as_json: Json = False) -> None:
    """Progress until the campaign has ended: renders done, images a second, time left, each renderer's state."""
    _watch(client(ctx), campaign, timeout, as_json=as_json)


def _watch(farm: Client, campaign: str, timeout: float | None, *, as_json: bool) -> None:
    limit = None if timeout is None else timedelta(seconds=timeout)
    found = watch_campaign(farm, campaign, err, timeout=limit)
    show_one(found, _facts(found), as_json=as_json)
    if found.counts.failed:
        raise Stop(f"{found.counts.failed} renders failed. `farm campaign retry {campaign}` tries again.", SOME_FAILED)
    if found.state is CampaignState.CANCELLED:
        raise Stop("The campaign was cancelled.", FAILED)


@app.command()
def pause(ctx: typer.Context, campaign: Id, as_json: Json = False) -> None:
    """Start no further render; those that a renderer has already are finished."""
    _show(client(ctx).pause(campaign), as_json=as_json)


@app.command()
def resume(ctx: typer.Context, campaign: Id, as_json: Json = False) -> None:
    """Go on with a paused campaign."""
    _show(client(ctx).resume(campaign), as_json=as_json)


@app.command()
def cancel(ctx: typer.Context, campaign: Id, as_json: Json = False) -> None:
    """End it for good. What was rendered stays."""
    _show(client(ctx).cancel(campaign), as_json=as_json)


@app.command()
def retry(ctx: typer.Context, campaign: Id, as_json: Json = False) -> None:
    """A new campaign that renders again what failed, and takes over what succeeded."""
    _show(client(ctx).retry(campaign), as_json=as_json)


@app.command()
def download(
    ctx: typer.Context,
    campaign: Id,
    folder: Annotated[Path, typer.Argument(help="Made when it is missing.")],
    name: Annotated[
        str, typer.Option(help="How files are called; a character that does not suit a file name becomes a dash.")
    ] = NAME,
    as_json: Json = False,
) -> None:
    """Every picture into a folder; what is there already is not fetched again.

    Example:

        farm campaign download cmp_06yd2k7h00004 pictures/ --name "{style}-{source}"
    """
    try:
        check_template(name)
    except ValueError as fault:
        raise Stop(str(fault), USAGE) from fault
    farm = client(ctx)
    total = farm.campaign(campaign).counts.succeeded
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("Downloading", total=total)
        done = farm.download(campaign, folder, name, on_file=lambda _: progress.advance(task))
    say(f"{len(done.saved)} pictures saved in {folder}, {len(done.kept)} were there already.")
    if as_json:
        show_json({"saved": [str(p) for p in done.saved], "kept": [str(p) for p in done.kept], "failed": done.failed})
    for render, why in done.failed:
        say(f"{render}: {why}")
    if done.failed:
        raise Stop(f"{len(done.failed)} pictures could not be had. Run it again: it goes on where it stopped.", FAILED)


@app.command()
def sheet(
    ctx: typer.Context,
    campaign: Id,
    target: Annotated[Path, typer.Argument(metavar="OUT.png")],
    rows: Annotated[int, typer.Option(min=1, max=500, help="How many sources at most.")] = 50,
) -> None:
    """A contact sheet: a row for each source, a column for each style and strength."""
    make_sheet(client(ctx), campaign, target, rows=rows)
    typer.echo(str(target))


def _show(campaign: Campaign, *, as_json: bool) -> None:
    if as_json:
        show_json(campaign.model_dump(mode="json"))
    else:
        show_list([campaign], COLUMNS, _cells, as_json=False)


def _cells(row: Campaign) -> tuple[object, ...]:
    c = row.counts
    return (row.id, row.name, row.state.value, c.total, c.succeeded, c.failed, c.reused, day(row.created_at))


def _facts(found: CampaignDetail) -> list[tuple[str, object]]:
    counts = found.counts
    facts: list[tuple[str, object]] = [("id", found.id), ("name", found.name), ("state", found.state.value)]
    facts += [(label, value) for label, value in counts.model_dump().items()]
    facts += [("submitted", day(found.created_at)), ("ended", day(found.finished_at) or "not yet")]
    return facts if found.parent is None else [*facts, ("parent", found.parent)]
