"""The verbs of `farm campaign` that decide about a campaign under way: approve, edit, set, move, pause, cancel."""

from typing import Annotated, Any

import typer

from farm.cli.connect import client
from farm.cli.editing import edited
from farm.cli.exits import USAGE, Stop
from farm.cli.output import Json, show_json, show_list, show_one
from farm.cli.showing import Id, cells, facts, show_row, warnings_in_full
from farm.cli.submitting import quote_and_send
from farm.cli.watching import Timeout, Watch, watch_and_show
from farm.cli.wishes import Deadline, Priority, new_budget
from farm.cli.words import clock, moment_of
from farm.sdk import Client
from schemas.campaign import Budget, CampaignAmend, CampaignMove

QUEUE = ("id", "name", "state", "renders", "succeeded", "failed", "reused", "submitted", "lane", "priority", "deadline")


def approve(
    ctx: typer.Context,
    campaign: Id,
    watch: Watch = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Its proof is good: render the rest."""
    farm = client(ctx)
    found = farm.approve(campaign)
    if watch:
        watch_and_show(farm, campaign, timeout, as_json=as_json)
    else:
        show_row(found, as_json=as_json)


def edit(
    ctx: typer.Context,
    campaign: Id,
    style: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="One style for another; may be given several times.")
    ] = None,
    strength: Annotated[
        list[float] | None, typer.Option(min=0, max=1, help="In place of all strengths; may be given several times.")
    ] = None,
    proof: Annotated[
        bool | None, typer.Option("--proof/--no-proof", help="With a proof of its own; else as the campaign had it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Submit a changed campaign in the place of this one. What did not change is taken over, not rendered again.

    If the proof of the old one was not approved yet, the old one is cancelled.

    Examples:

        farm campaign edit cmp_06yd2k7h00004 --style anime=anime@2

        farm campaign edit cmp_06yd2k7h00004 --style noir=cinematic --strength 0.5
    """
    farm = client(ctx)
    spec = edited(farm, farm.campaign(campaign), styles=style or (), strengths=strength or (), proof=proof)
    found = quote_and_send(farm, spec, None)
    if as_json:
        show_json(found.model_dump(mode="json"))
    else:
        typer.echo(found.id)


def amend(
    ctx: typer.Context,
    campaign: Id,
    priority: Priority = None,
    deadline: Deadline = None,
    budget: Annotated[
        str | None, typer.Option(metavar="MONEY", help="It pauses when this is spent; `none` takes the budget away.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change priority, deadline or budget of a campaign under way.

    Example:

        farm campaign set cmp_06yd2k7h00004 --priority 80 --deadline "in 3h" --budget 25.00
    """
    farm = client(ctx)
    given: dict[str, Any] = {} if priority is None else {"priority": priority}
    if deadline is not None:
        given["deadline"] = moment_of(deadline)
    if budget is not None:
        given["budget"] = _budget(farm, campaign, new_budget(budget))
    if not given:
        raise Stop("Say what changes: --priority, --deadline or --budget.", USAGE)
    found = farm.amend(campaign, CampaignAmend(**given))
    show_one(found, facts(found), as_json=as_json)


def _budget(farm: Client, campaign: str, money: float | None) -> Budget:
    """An amount goes beside a limit in GPU seconds; none takes away both."""
    old = farm.campaign(campaign).budget or Budget()
    return Budget() if money is None else old.model_copy(update={"money": money})


def move(
    ctx: typer.Context,
    campaign: Id,
    front: Annotated[bool, typer.Option("--front", help="Before all others.")] = False,
    back: Annotated[bool, typer.Option("--back", help="Behind all others.")] = False,
    before: Annotated[str | None, typer.Option(metavar="CAMPAIGN", help="Just before that one.")] = None,
    as_json: Json = False,
) -> None:
    """Move a campaign in the team's queue. It takes over the priority of those among whom it then stands.

    Example:

        farm campaign move cmp_06yd2k7h00004 --front
    """
    if front + back + (before is not None) != 1:
        raise Stop("Say one of --front, --back and --before.", USAGE)
    farm = client(ctx)
    farm.move(campaign, CampaignMove(before=before) if before else CampaignMove(to="front" if front else "back"))
    _queue(farm, as_json=as_json)


def queue(ctx: typer.Context, as_json: Json = False) -> None:
    """The team's campaigns that have not ended, in the order in which they are rendered."""
    _queue(client(ctx), as_json=as_json)


def _queue(farm: Client, *, as_json: bool) -> None:
    show_list(
        farm.queue(),
        QUEUE,
        lambda row: (*cells(row), row.lane.value, row.priority, clock(row.deadline) if row.deadline else ""),
        as_json=as_json,
    )


def why(ctx: typer.Context, campaign: Id, as_json: Json = False) -> None:
    """Why it waits, or what it is doing, in one sentence; and one for each thing that people were warned of."""
    farm = client(ctx)
    found = farm.why(campaign)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    typer.echo(found.sentence)
    for sentence in warnings_in_full(farm.campaign(campaign)):
        typer.echo(f"Warning: {sentence}")


def pause(ctx: typer.Context, campaign: Id, as_json: Json = False) -> None:
    """Start no further render; those that a renderer has already are finished."""
    show_row(client(ctx).pause(campaign), as_json=as_json)


def resume(ctx: typer.Context, campaign: Id, as_json: Json = False) -> None:
    """Go on with a campaign that was paused by hand. One that a budget has paused goes on when that is raised."""
    show_row(client(ctx).resume(campaign), as_json=as_json)


def cancel(ctx: typer.Context, campaign: Id, as_json: Json = False) -> None:
    """End it for good. What was rendered stays."""
    show_row(client(ctx).cancel(campaign), as_json=as_json)


def retry(ctx: typer.Context, campaign: Id, as_json: Json = False) -> None:
    """A new campaign that renders again what failed, and takes over what succeeded."""
    show_row(client(ctx).retry(campaign), as_json=as_json)
