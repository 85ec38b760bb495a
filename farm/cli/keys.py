"""`farm team keys` and `farm team revoke`: API keys, for operators."""

from typing import Annotated

import typer

from farm.cli.connect import connection
from farm.cli.output import Json, day, say, show_json, show_table
from farm.core.ids import show


def team_keys(
    ctx: typer.Context, name: Annotated[str, typer.Argument(help="The team.")], as_json: Json = False
) -> None:
    """Every API key of a team: its id, its label, since when it is good, and when it was revoked. Never the key itself.

    For operators: reads FARM_OWNER_DATABASE_URL, or uses the farm that `farm up` has started here.
    """
    from farm import bootstrap

    found = [
        {
            "id": show("key", key.id),
            "label": key.name,
            "created_at": key.created_at.isoformat(),
            "revoked_at": None if key.revoked_at is None else key.revoked_at.isoformat(),
        }
        for key in bootstrap.keys(name, connection(ctx).data)
    ]
    if as_json:
        show_json(found)
    else:
        rows = [(key["id"], key["label"], day(key["created_at"]), day(key["revoked_at"])) for key in found]
        show_table(("key", "label", "created", "revoked"), rows)


def team_revoke(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(help="Its id, as `farm team keys` shows it.")],
) -> None:
    """End an API key at once: the next request with it is refused. For good; `farm team add` makes another.

    Event streams that were opened with it end within half a minute.

    For operators: reads FARM_OWNER_DATABASE_URL, or uses the farm that `farm up` has started here.

    Example:

        farm team revoke key_06yd2k7h00004
    """
    from farm import bootstrap

    revoked = bootstrap.revoke_key(key, connection(ctx).data)
    say(f"The key {key} of {revoked.team} is revoked.")
