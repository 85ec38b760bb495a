"""`farm audit` and `farm garbage`: whether the farm keeps its promises, and what belongs to nobody."""

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from farm.cli.connect import connection
from farm.cli.exits import USAGE, Stop
from farm.cli.output import Json, say, show_json, show_table
from farm.core.audit import COUNTED, PROMISES

if TYPE_CHECKING:
    from farm.core.audit import AuditReport


def audit(
    ctx: typer.Context,
    sample: Annotated[int | None, typer.Option(min=1, help="Read so many pictures, drawn at random; else all.")] = None,
    grace: Annotated[
        str, typer.Option(help="How long an object without a picture may lie in the depot, as in PT12H.")
    ] = "PT12H",
    forget_lost: Annotated[
        bool,
        typer.Option(
            "--forget-lost", help="No render takes over a picture again whose objects are gone or damaged. For good."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Forget them even when they are more than a twentieth of all.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check promises P1 to P5 on the farm while it works: every outcome, every campaign, every object.

    Ends with 1 when anything is wrong. Reads FARM_OWNER_DATABASE_URL and the settings of the depot; without them it
    looks at the farm that `farm up` started here. --grace must be longer than FARM_GARBAGE_GRACE and twice
    FARM_GARBAGE_EVERY together.

    When the depot has lost objects, look first, and then run it with --forget-lost: a campaign that is submitted again
    takes over what is there and renders the rest anew. Outcomes never change: those of the old campaigns stay.

    Examples:

        farm audit --sample 1000

        farm audit --forget-lost
    """
    from farm import bootstrap

    report = bootstrap.audit(
        connection(ctx).data, sample=sample, grace=_duration(grace), forget=forget_lost, force=force
    )
    if as_json:
        show_json({**asdict(report), "ok": report.ok})
    else:
        _show(report)
    if not report.ok:
        raise Stop(f"The audit found {sum(report.wrong.values())} things that should not be.")


def _show(report: "AuditReport") -> None:
    rows = [
        (promise, says, f"{report.checked[promise]} {COUNTED[promise]}", report.wrong[promise] or "none")
        for promise, says in PROMISES.items()
    ]
    show_table(("promise", "", "checked", "wrong"), rows)
    if report.findings:
        found = [(f.promise, f.code, f.subject, f.detail) for f in report.findings]
        show_table(("promise", "what", "where", "detail"), found, title="Examples of what is wrong")
    for warning in report.warnings:
        say(f"Warning: {warning}")


def garbage(
    ctx: typer.Context,
    force: Annotated[
        bool, typer.Option("--force", help="Delete even when so much would go that the farm itself refuses.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete objects that no picture refers to and that have lain there for FARM_GARBAGE_GRACE.

    The scheduler does so by itself. It stops, and so does this, when more than 5 % of all objects (and more than 1,000)
    would go at once: then the database is rather to be doubted than the depot. Look first; --force deletes them.
    Reads FARM_OWNER_DATABASE_URL and the settings of the depot, as `farm audit` does.

    Example:

        farm garbage
    """
    from farm import bootstrap

    counts = bootstrap.collect_garbage(connection(ctx).data, force=force)
    if as_json:
        show_json(asdict(counts))
    else:
        rows = [("objects", counts.seen), ("belong to no picture", counts.orphans), ("deleted", counts.deleted)]
        show_table(("", "objects"), [*rows, ("in use after all", counts.spared)])
    if counts.why:
        raise Stop(f"{counts.why} Nothing was deleted. Compare with a backup; `farm garbage --force` deletes them.")


def _duration(text: str) -> timedelta:
    try:
        return TypeAdapter(timedelta).validate_python(text)
    except ValidationError as error:
        raise Stop(f"--grace {text} is no duration; write PT12H for twelve hours.", USAGE) from error
