"""What an operator does as the owner of the tables: migrate, teams and keys, limits, prices, renderers held by hand.

Every function raises `StoreDown` when the database does not answer.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

import migrations
from farm.core.errors import NotFound
from farm.core.ids import KeyId, RendererName, TeamId, show
from farm.core.records import SpentRow, TeamRow
from farm.store import operator_sql, queue_sql, rows
from farm.store.health_tx import Health
from farm.store.postgres import connect, store_errors
from schemas.team import TeamLimits


@contextmanager
def _as_owner(owner_url: str) -> Iterator[Connection]:
    engine = connect(owner_url, pool=1)
    try:
        with store_errors(), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def migrate(owner_url: str, revision: str = "head") -> None:
    """Brings the tables to *revision*. Two at once wait for one another."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with _as_owner(owner_url) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def add_key(owner_url: str, *, team: str, name: str, mint: Callable[[], int], secret: str) -> str:
    """A new API key for *team*, which is made when there is none. Only the key's sha256 is kept."""
    key = KeyId(mint())
    text = f"farm_{show('key', key).removeprefix('key_')}_{secret}"
    with _as_owner(owner_url) as connection:
        owner = TeamId(connection.execute(operator_sql.ADD_TEAM, {"team": mint(), "name": team}).scalar_one())
        digest = hashlib.sha256(text.encode()).digest()
        connection.execute(operator_sql.ADD_KEY, {"key": key, "team": owner, "name": name, "digest": digest})
    return text


def teams(owner_url: str) -> list[tuple[TeamRow, SpentRow]]:
    """Every team by name, and what it has spent this month (UTC)."""
    with _as_owner(owner_url) as connection:
        found = connection.execute(operator_sql.TEAMS).all()
    return [(rows.team(row), SpentRow(row.gpu_seconds, row.money)) for row in found]


def set_limits(owner_url: str, team: str, limits: TeamLimits) -> None:
    """What *limits* leaves out stays as it is; 0, and a budget that limits nothing, take a limit away.

    Raises `NotFound`.
    """
    budget = limits.budget
    unlimited = budget is not None and budget.gpu_seconds is None and budget.money is None
    values = limits.model_dump(exclude={"budget"}) | {
        "name": team,
        "new_budget": budget is not None,
        "budget": None if budget is None or unlimited else budget.model_dump_json(),
    }
    with _as_owner(owner_url) as connection:
        if connection.execute(operator_sql.SET_LIMITS, values).first() is None:
            raise NotFound(f"There is no team {team!r}.")


def prices(owner_url: str) -> dict[str, float]:
    """Money an hour by type of GPU; ``*`` is for every type that has none of its own."""
    with _as_owner(owner_url) as connection:
        return {row[0]: row[1] for row in connection.execute(queue_sql.PRICES)}


def set_price(owner_url: str, gpu: str, per_hour: float | None) -> None:
    """What an hour of this type of GPU costs, or of every type that has no price of its own (``*``).

    None takes the price away. Renders that are settled keep the price that they were charged.
    """
    with _as_owner(owner_url) as connection:
        if per_hour is None:
            connection.execute(operator_sql.DROP_PRICE, {"gpu": gpu})
        else:
            connection.execute(operator_sql.SET_PRICE, {"gpu": gpu, "per_hour": per_hour})


def hold_renderer(owner_url: str, name: str, why: str) -> None:
    """Quarantines a renderer until `release_renderer`; its failed tries are forgiven, as with any quarantine.

    Raises `NotFound` when no renderer of that name has ever spoken.
    """
    with _as_owner(owner_url) as connection:
        if connection.execute(operator_sql.KNOWN_RENDERER, {"name": name}).first() is None:
            raise NotFound(f"There is no renderer {name!r}. `farm renderer list` shows their names.")
        Health(connection).forgive(RendererName(name))
        connection.execute(operator_sql.HOLD, {"name": name, "why": why})


def release_renderer(owner_url: str, name: str) -> None:
    """Ends a quarantine, whoever began it, and forgets what stood against the renderer before.

    Raises `NotFound` when it is not in quarantine.
    """
    with _as_owner(owner_url) as connection:
        if connection.execute(operator_sql.RELEASE, {"name": name}).first() is None:
            raise NotFound(f"The renderer {name!r} is not in quarantine.")
