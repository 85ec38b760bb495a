"""`farm campaign ...`: quote, submit, look at them, get their pictures. What steers them is in `farm.cli.steering`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from farm.cli import steering
from farm.cli.connect import client
from farm.cli.contact_sheet import make_sheet
from farm.cli.exits import FAILED, USAGE, Stop, spec_sent
from farm.cli.output import Json, err, say, show_json, show_list, show_one, show_table
from farm.cli.quoting import quote_facts
from farm.cli.showing import COLUMNS, Id, cells, check_facts, facts, say_proof
from farm.cli.submitting import check_styles, draft_of, quote_and_send, upload_for
from farm.cli.watching import Timeout, Watch, watch_and_show
from farm.cli.wishes import Budget, Deadline, Gpu, OffPeak, Priority, Proof, ProofRenders, wishes
from farm.core.words import many
from farm.sdk import Client
from farm.sdk.download import NAME, check_template
from schemas.campaign import RenderState

app = typer.Typer(help="Quote and submit campaigns, watch and steer them, get their pictures.", no_args_is_help=True)

Files = Annotated[
    list[Path], typer.Argument(exists=True, help="A campaign file (YAML), or pictures and folders of them.")
]
Styles = Annotated[list[str] | None, typer.Option(help="With pictures: a style; may be given several times.")]
Strengths = Annotated[list[float] | None, typer.Option(min=0, max=1, help="With pictures: 0 to 1; several.")]
Name = Annotated[str | None, typer.Option(help="With pictures: what the campaign is called.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on without pictures that are refused.")]
Key = Annotated[str | None, typer.Option("--idempotency-key", help="Sent again, it makes no second campaign.")]


@app.command()
def submit(
    ctx: typer.Context,
    files: Files,
    style: Styles = None,
    strength: Strengths = None,
    name: Name = None,
    deadline: Deadline = None,
    budget: Budget = None,
    proof: Proof = False,
    proof_renders: ProofRenders = None,
    priority: Priority = None,
    off_peak: OffPeak = False,
    gpu: Gpu = None,
    skip_bad: SkipBad = False,
    watch: Watch = False,
    timeout: Timeout = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Upload the pictures that the farm does not have yet, say what the campaign will cost, and submit it.

    Examples:

        farm campaign submit autumn.yaml --watch

        farm campaign submit photos/ --style anime --style noir --strength 0.35 --strength 0.7

        farm campaign submit autumn.yaml --proof --deadline "2026-12-01 09:00" --budget 25.00
    """
    given = wishes(
        deadline=deadline,
        budget=budget,
        proof=proof,
        proof_renders=proof_renders,
        priority=priority,
        off_peak=off_peak,
        gpu=gpu,
    )
    draft = draft_of(files, {"styles": style, "strengths": strength, "name": name}, given)
    farm = client(ctx)
    check_styles(farm, draft.styles())
    campaign = quote_and_send(farm, upload_for(farm, draft, skip_bad=skip_bad), key)
    if watch:
        watch_and_show(farm, campaign.id, timeout, as_json=as_json)
    elif as_json:
        show_json(campaign.model_dump(mode="json"))
    else:
        typer.echo(campaign.id)


@app.command()
def quote(
    ctx: typer.Context,
    files: Files,
    style: Styles = None,
    strength: Strengths = None,
    deadline: Deadline = None,
    budget: Budget = None,
    priority: Priority = None,
    off_peak: OffPeak = False,
    gpu: Gpu = None,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """What a campaign would cost and when it would be done. Nothing is submitted; pictures that are new are uploaded.

    Each figure comes with a range that it lies in nine times in ten, once costs were measured.

    Example:

        farm campaign quote autumn.yaml --deadline "in 3h"
    """
    given = wishes(deadline=deadline, budget=budget, priority=priority, off_peak=off_peak, gpu=gpu)
    draft = draft_of(files, {"styles": style, "strengths": strength}, given)
    farm = client(ctx)
    check_styles(farm, draft.styles())
    with spec_sent():
        found = farm.quote(upload_for(farm, draft, skip_bad=skip_bad))
    show_one(found, quote_facts(found), as_json=as_json)
    for note in found.notes:
        say(note)


@app.command("list")
def list_campaigns(ctx: typer.Context, as_json: Json = False) -> None:
    """All campaigns, newest first."""
    show_list(client(ctx).campaigns(), COLUMNS, cells, as_json=as_json)


@app.command()
def show(ctx: typer.Context, campaign: Id, as_json: Json = False) -> None:
    """One campaign: its counts, what it has cost beside what was quoted, and the first renders that failed."""
    farm = client(ctx)
    found = farm.campaign(campaign)
    checks = [] if as_json else check_facts(farm.checks(campaign))
    show_one(found, [*facts(found), *checks], as_json=as_json)
    if not as_json:
        say_proof(found)
        if found.counts.failed:
            _say_failed(farm, campaign)


def _say_failed(farm: Client, campaign: str) -> None:
    for number, render in enumerate(farm.renders(campaign, state=RenderState.FAILED)):
        if number == 10:
            say("  and more.")
            break
        cell = f"{render.id} {render.source_name} {render.style} {render.strength:g}"
        say(f"  {cell}: {render.detail} [{render.code}]")


@app.command()
def watch(ctx: typer.Context, campaign: Id, timeout: Timeout = None, as_json: Json = False) -> None:
    """Progress until the campaign has ended or its proof waits for approval: renders done, images a second, time left,
    each renderer's state.
    """
    watch_and_show(client(ctx), campaign, timeout, as_json=as_json)


app.command()(steering.why)
app.command()(steering.approve)
app.command()(steering.edit)
app.command("set")(steering.amend)
app.command()(steering.queue)
app.command()(steering.move)
app.command()(steering.pause)
app.command()(steering.resume)
app.command()(steering.cancel)
app.command()(steering.retry)


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
    """Every picture into a folder, renditions into folders in it; what is there already is not fetched again.

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
def duplicates(
    ctx: typer.Context,
    campaign: Id,
    distance: Annotated[int, typer.Option(min=0, max=10, help="Of 64 bits in which two may differ; 0 is equal.")] = 6,
    as_json: Json = False,
) -> None:
    """Finished renders that look alike, by source: a line for each, with the group, and the distance to its first."""
    found = client(ctx).duplicates(campaign, distance=distance)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    rows = [
        (number, group.source_name, one.render, one.style, f"{one.strength:g}", one.variant, one.distance)
        for number, group in enumerate(found.groups, 1)
        for one in group.renders
    ]
    show_table(("group", "source", "render", "style", "strength", "variant", "distance"), rows)
    say(f"{len(rows)} of {many(found.compared, 'render')} look alike, in {many(len(found.groups), 'group')}.")
    if found.unmeasured:
        say(f"{many(found.unmeasured, 'render')} could not be compared: nothing was measured of them.")


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
