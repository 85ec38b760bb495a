"""The processes of a farm that is set up by hand: `farm api|scheduler|migrate`, and `farm ready`."""

from datetime import timedelta
from typing import Annotated

import typer

from farm.cli.connect import connection
from farm.cli.exits import Stop
from farm.cli.output import say
from farm.core.migration import Phase
from farm.sdk import ApiError


def api() -> None:
    """Serve the API until SIGTERM. Settings come from the environment.

    It waits up to FARM_SCHEMA_WAIT for `farm migrate`, and answers /healthz meanwhile.
    """
    from farm import bootstrap

    bootstrap.run_api()


def scheduler() -> None:
    """Run a scheduler until SIGTERM; one leads, others stand by.

    It waits up to FARM_SCHEMA_WAIT for `farm migrate`, and ends with 1 when Ray has not answered for
    FARM_FLEET_PATIENCE: start it anew then.
    """
    from farm import bootstrap

    bootstrap.run_scheduler()


def migrate(
    only: Annotated[
        Phase | None,
        typer.Option(help="expand: before processes of this release start; contract: when those of the former ended."),
    ] = None,
    roles: Annotated[
        bool,
        typer.Option(
            "--roles",
            help="Also make the roles farm_api and farm_scheduler, or give them the passwords that "
            "FARM_API_DATABASE_URL and FARM_SCHEDULER_DATABASE_URL hold now.",
        ),
    ] = False,
) -> None:
    """Bring the tables to this release, as their owner. Run again, it finds nothing to do.

    Without --only everything is run at once, which is for a farm that stands still.

    Examples:

        farm migrate --roles --only expand

        farm migrate --only contract
    """
    from farm import bootstrap

    done = bootstrap.migrate(only, roles=roles)
    for role in done.made:
        typer.echo(f"{role} may log in now")
    for role in done.changed:
        typer.echo(f"{role} has its password anew")
    for name in done.run:
        typer.echo(f"{name} was run")
    if not (done.run or done.made or done.changed):
        typer.echo("nothing to do")


def ready(
    ctx: typer.Context,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Ask again for so long.")] = 0,
) -> None:
    """Whether the API, its database and its depot answer; ends with 1 when they do not. Needs no key.

    Example:

        farm --url http://127.0.0.1:8080 ready --wait 60
    """
    farm = ctx.with_resource(connection(ctx).keyless())
    try:
        farm.ready(timedelta(seconds=wait))
    except ApiError as error:
        faults = [fault.detail for fault in error.problem.errors] or [error.problem.detail]
        raise Stop("\n".join(faults)) from error
    say("The farm is ready.")
