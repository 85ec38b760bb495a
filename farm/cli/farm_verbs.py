"""`farm up|down|status|doctor|demo` and `farm schema`."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Protocol

import typer
from pydantic import BaseModel

from farm.cli.connect import client, connection
from farm.cli.contact_sheet import make_sheet
from farm.cli.exits import SOME_FAILED, Stop
from farm.cli.output import Json, err, say, show_json, show_table
from farm.cli.watch import watch
from farm.sdk import ApiError, Client
from schemas.campaign import CampaignAmend, CampaignDetail, CampaignMove, CampaignSpec
from schemas.event import Event
from schemas.order import ShardOrder
from schemas.problem import Problem
from schemas.quote import Quote
from schemas.refine import Refine
from schemas.report import RenderReport
from schemas.style import Style, StyleSpec
from schemas.team import Team
from schemas.why import Why


class Running(Protocol):
    """What `farm up` tells of the farm that it started or found."""

    @property
    def url(self) -> str: ...

    @property
    def data(self) -> Path: ...

    @property
    def ports(self) -> Mapping[str, int]: ...


CONTRACTS: dict[str, type[BaseModel]] = {
    kind.__name__: kind
    for kind in (
        CampaignSpec,
        CampaignAmend,
        CampaignMove,
        Refine,
        Quote,
        Why,
        Team,
        StyleSpec,
        Style,
        ShardOrder,
        RenderReport,
        Event,
        Problem,
    )
}

SERVICES = ("api", "scheduler")
"""Of a farm that was ended the bootstrap knows only the parts below them."""

# Starting a farm takes libraries that the other verbs do without, so they are imported where they are used.


def up(
    ctx: typer.Context,
    renderers: Annotated[
        int | None, typer.Option(min=1, help="How many; without it, one for each GPU, at least one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a whole farm on this machine: PostgreSQL, S3 store, Ray, renderers, scheduler, API.

    Run again, it says where the farm is that runs already. To change how many renderers it has, end it first.
    """
    from farm import bootstrap

    running = bootstrap.up(connection(ctx).data, renderers=renderers, on_step=say)
    _show_running(running, as_json=as_json)


def down(ctx: typer.Context) -> None:
    """End the farm on this machine. What it holds stays in its data folder."""
    from farm import bootstrap

    data = connection(ctx).data
    ended = bootstrap.down(data, on_step=say)
    say(f"The farm in {data} has ended." if ended else f"No farm runs in {data}.")


def status(ctx: typer.Context, as_json: Json = False) -> None:
    """What runs, on which ports, with which data folder. Ends with 1 when a part is down."""
    from farm import bootstrap

    data = connection(ctx).data
    parts = [(part.name, part.state, part.port) for part in bootstrap.status(data)]
    if parts:
        known = {name for name, _, _ in parts}
        parts += [(name, "down", None) for name in SERVICES if name not in known]
    if as_json:
        shown = [{"name": name, "state": state, "port": port} for name, state, port in parts]
        show_json({"data": str(data), "parts": shown})
    else:
        say(f"Data folder: {data}")
        show_table(("part", "state", "port"), [(name, state, port or "") for name, state, port in parts])
    if not parts or any(state != "up" for _, state, _ in parts):
        raise Stop("The farm is not up. `farm up` starts it, `farm doctor` says what is wrong.")


def doctor(ctx: typer.Context, as_json: Json = False) -> None:
    """Look for what is wrong, and say what to do about it."""
    from farm import bootstrap

    findings = [(found.what, found.ok, found.detail) for found in bootstrap.doctor(connection(ctx).data)]
    findings += _ask_api(ctx)
    if as_json:
        show_json([{"what": what, "ok": ok, "detail": detail} for what, ok, detail in findings])
    else:
        show_table(("", "what", "finding"), [("ok" if ok else "WRONG", what, detail) for what, ok, detail in findings])
    wrong = sum(not ok for _, ok, _ in findings)
    if wrong:
        raise Stop(f"{wrong} of {len(findings)} checks found something.")


def _ask_api(ctx: typer.Context) -> list[tuple[str, bool, str]]:
    try:
        farm = client(ctx)
        farm.ready()
        renderers = list(farm.renderers())
    except Stop as stop:
        return [("api", False, str(stop))]
    except ApiError as error:
        return [("api", False, fault.detail) for fault in error.problem.errors] or [("api", False, str(error))]
    lost = [renderer.name for renderer in renderers if renderer.state == "lost"]
    seen = f"{len(renderers)} known" + (f", lost: {', '.join(lost)}" if lost else "")
    return [("api", True, "it answers, and so do its database and its depot"), ("renderers", not lost, seen)]


def demo(ctx: typer.Context) -> None:
    """Start a farm, render a real campaign, show it, end the farm. The last line is the path of a contact sheet."""
    from farm import bootstrap

    data = connection(ctx).data
    running = bootstrap.up(data, renderers=None, on_step=say)
    _show_running(running, as_json=False, to_stderr=True)
    try:
        with Client(running.url, running.key) as farm:
            found = _render_demo(farm, data, bootstrap.demo_campaign(farm))
            renderers = sum(renderer.state != "lost" for renderer in farm.renderers())
    finally:
        bootstrap.down(data, on_step=say)
    show_table((found.name, ""), [("pictures", data / "demo" / "pictures"), *_summary(found), ("renderers", renderers)])
    typer.echo(str(data / "demo" / "contact-sheet.png"))
    if found.counts.failed:
        raise Stop(f"{found.counts.failed} renders failed.", SOME_FAILED)


def _summary(found: CampaignDetail) -> list[tuple[str, object]]:
    counts = found.counts
    ended = datetime.fromisoformat(found.finished_at or found.created_at)
    seconds = (ended - datetime.fromisoformat(found.created_at)).total_seconds()
    rendered = counts.succeeded - counts.reused
    return [
        ("renders", counts.total),
        ("succeeded", counts.succeeded),
        ("failed", counts.failed),
        ("reused", counts.reused),
        ("seconds taken", f"{seconds:.1f}"),
        ("images/s", f"{rendered / seconds:.1f}" if rendered and seconds else "none rendered anew"),
    ]


def _render_demo(farm: Client, data: Path, spec: CampaignSpec) -> CampaignDetail:
    found = watch(farm, farm.submit(spec).id, err)
    done = farm.download(found.id, data / "demo" / "pictures")
    say(f"{len(done.saved)} pictures saved, {len(done.kept)} were there already.")
    make_sheet(farm, found.id, data / "demo" / "contact-sheet.png")
    return found


def _show_running(running: Running, *, as_json: bool, to_stderr: bool = False) -> None:
    if as_json:
        show_json({"url": running.url, "data": str(running.data), "ports": dict(running.ports)})
        return
    rows = [("data folder", str(running.data)), *((name, str(port)) for name, port in running.ports.items())]
    if to_stderr:
        for name, value in rows:
            say(f"{name}: {value}")
    else:
        show_table(("part", "port"), rows)
        say(f"The farm is up at {running.url}. `farm down` ends it.")


def schema(name: Annotated[str | None, typer.Argument(help="One of them; without it, all.")] = None) -> None:
    """JSON Schema of the wire contracts.

    Example:

        farm schema CampaignSpec
    """
    if name is None:
        show_json({known: kind.model_json_schema() for known, kind in CONTRACTS.items()})
    elif name in CONTRACTS:
        show_json(CONTRACTS[name].model_json_schema())
    else:
        raise Stop(f"There is no contract {name}. There are {', '.join(CONTRACTS)}.", 2)
