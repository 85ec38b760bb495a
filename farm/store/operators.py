"""What an operator does as the owner of the tables: teams and keys, limits, prices, renderers held by hand.

Every function raises `StoreDown` when the database does not answer.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from farm.core.errors import NotFound
from farm.core.ids import KeyId, RendererName, TeamId, show
from farm.core.records import SpentRow, TeamRow
from farm.store import operator_sql, queue_sql, rows
from farm.store.health_tx import Health
from farm.store.migrating import migrate
from farm.store.postgres import as_owner
from schemas.team import TeamLimits

__all__ = [
    "TeamKey",
    "add_key",
    "hold_renderer",
    "keys",
    "migrate",
    "prices",
    "release_renderer",
    "revoke_key",
    "set_limits",
    "set_price",
    "teams",
]


def add_key(owner_url: str, *, team: str, name: str, mint: Callable[[], int], secret: str) -> str:
    """A new API key for *team*, which is made when there is none. Only the key's sha256 is kept."""
    key = KeyId(mint())
    text = f"farm_{show('key', key).removeprefix('key_')}_{secret}"
    with as_owner(owner_url) as connection:
        owner = TeamId(connection.execute(operator_sql.ADD_TEAM, {"team": mint(), "name": team}).scalar_one())
        digest = hashlib.sha256(text.encode()).digest()
        connection.execute(operator_sql.ADD_KEY, {"key": key, "team": owner, "name": name, "digest": digest})
    return text


@dataclass(frozen=True, slots=True)
class TeamKey:
    """An API key, of which the farm keeps no secret."""

    id: KeyId
    team: str
    name: str
    created_at: datetime
    revoked_at: datetime | None


def keys(owner_url: str, team: str) -> list[TeamKey]:
    """Every key that the team ever had, oldest first. Raises `NotFound`."""
    with as_owner(owner_url) as connection:
        found = connection.execute(operator_sql.KEYS, {"team": team}).all()
        if not found and connection.execute(operator_sql.KNOWN_TEAM, {"team": team}).first() is None:
            raise NotFound(f"There is no team {team!r}. `farm team list` shows those there are.")
    return [TeamKey(KeyId(row[0]), *row[1:]) for row in found]


def revoke_key(owner_url: str, key: KeyId) -> TeamKey:
    """From now on nobody comes in with it; when it was revoked already, that time stays. Raises `NotFound`."""
    with as_owner(owner_url) as connection:
        row = connection.execute(operator_sql.REVOKE, {"key": key}).first()
    if row is None:
        raise NotFound(f"There is no key {show('key', key)}. `farm team keys TEAM` shows a team's.")
    return TeamKey(KeyId(row[0]), *row[1:])


def teams(owner_url: str) -> list[tuple[TeamRow, SpentRow]]:
    """Every team by name, and what it has spent this month (UTC)."""
    with as_owner(owner_url) as connection:
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
    with as_owner(owner_url) as connection:
        if connection.execute(operator_sql.SET_LIMITS, values).first() is None:
            raise NotFound(f"There is no team {team!r}.")


def prices(owner_url: str) -> dict[str, float]:
    """Money an hour by type of GPU; ``*`` is for every type that has none of its own."""
    with as_owner(owner_url) as connection:
        return {row[0]: row[1] for row in connection.execute(queue_sql.PRICES)}


def set_price(owner_url: str, gpu: str, per_hour: float | None) -> None:
    """What an hour of this type of GPU costs, or of every type that has no price of its own (``*``).

    None takes the price away. Renders that are settled keep the price that they were charged.
    """
    with as_owner(owner_url) as connection:
        if per_hour is None:
            connection.execute(operator_sql.DROP_PRICE, {"gpu": gpu})
        else:
            connection.execute(operator_sql.SET_PRICE, {"gpu": gpu, "per_hour": per_hour})


def hold_renderer(owner_url: str, name: str, why: str) -> None:
    """Quarantines a renderer until `release_renderer`; its failed tries are forgiven, as with any quarantine.

    Raises `NotFound` when no renderer of that name has ever spoken.
    """
    with as_owner(owner_url) as connection:
        if connection.execute(operator_sql.KNOWN_RENDERER, {"name": name}).first() is None:
            raise NotFound(f"There is no renderer {name!r}. `farm renderer list` shows their names.")
        Health(connection).forgive(RendererName(name))
        connection.execute(operator_sql.HOLD, {"name": name, "why": why})


def release_renderer(owner_url: str, name: str) -> None:
    """Ends a quarantine, whoever began it, and forgets what stood against the renderer before.

    Raises `NotFound` when it is not in quarantine.
    """
    with as_owner(owner_url) as connection:
        if connection.execute(operator_sql.RELEASE, {"name": name}).first() is None:
            raise NotFound(f"The renderer {name!r} is not in quarantine.")
