"""What operators do as the owner of the tables: teams and their limits, prices, renderers in quarantine.

The database is FARM_OWNER_DATABASE_URL's; without it, that of the farm which `farm up` keeps in the data folder.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from farm.bootstrap.services import new_key, read
from farm.config import MigrateSettings
from farm.core.errors import NotFound
from farm.core.ids import KeyId, show
from farm.core.ids import read as read_id
from farm.core.records import SpentRow, TeamRow
from schemas.campaign import Spent
from schemas.team import Team, TeamLimits

if TYPE_CHECKING:
    from farm.store.operators import TeamKey


def owner_url(data: Path | None = None) -> str:
    """Raises `BadRequest` when there is neither."""
    if "FARM_OWNER_DATABASE_URL" not in os.environ and data is not None and (data / "state.json").exists():
        from farm.embedded import EmbeddedFarm

        return EmbeddedFarm(data).settings_env()["FARM_OWNER_DATABASE_URL"]
    return read(MigrateSettings).owner_database_url.get_secret_value()


def add_team(name: str, data: Path | None = None, *, label: str = "first") -> str:
    """A new API key for a team, made when it is not there; shown once, kept as a digest."""
    return new_key(owner_url(data), name, label)


def keys(team_name: str, data: Path | None = None) -> "list[TeamKey]":
    """Every key that the team ever had. Raises `NotFound`."""
    from farm.store import operators

    return operators.keys(owner_url(data), team_name)


def revoke_key(key: str, data: Path | None = None) -> "TeamKey":
    """Raises `NotFound`."""
    from farm.store import operators

    return operators.revoke_key(owner_url(data), KeyId(read_id("key", key)))


def teams(data: Path | None = None) -> list[Team]:
    """Each with what it has spent this month."""
    from farm.store import operators

    return [_shown(row, spent) for row, spent in operators.teams(owner_url(data))]


def team(name: str, data: Path | None = None) -> Team:
    """Raises `NotFound`."""
    found = next((one for one in teams(data) if one.name == name), None)
    if found is None:
        raise NotFound(f"There is no team {name}. `farm team list` shows those there are.")
    return found


def set_team(name: str, limits: TeamLimits, data: Path | None = None) -> None:
    """Raises `NotFound`."""
    from farm.store import operators

    operators.set_limits(owner_url(data), name, limits)


def prices(data: Path | None = None) -> dict[str, float]:
    """Money an hour by type of GPU."""
    from farm.store import operators

    return operators.prices(owner_url(data))


def set_price(gpu: str, per_hour: float | None, data: Path | None = None) -> None:
    """None takes the price away."""
    from farm.store import operators

    operators.set_price(owner_url(data), gpu, per_hour)


def quarantine(name: str, why: str, data: Path | None = None) -> None:
    """By hand: it lasts until `release`."""
    from farm.store import operators

    operators.hold_renderer(owner_url(data), name, why)


def release(name: str, data: Path | None = None) -> None:
    """Raises `NotFound` when it is in no quarantine."""
    from farm.store import operators

    operators.release_renderer(owner_url(data), name)


def _shown(row: TeamRow, spent: SpentRow) -> Team:
    return Team(
        id=show("team", row.id),
        name=row.name,
        weight=row.weight,
        quota=row.quota,
        burst=row.burst,
        max_renders=row.max_renders,
        retention_days=row.retention_days,
        budget=row.budget,
        spent=Spent(gpu_seconds=spent.gpu_seconds, money=spent.money),
    )
