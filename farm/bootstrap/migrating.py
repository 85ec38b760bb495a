"""`farm migrate`: the tables, and on demand the roles."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import SecretStr

from farm.bootstrap.services import read
from farm.config import MigrateSettings, RoleSettings
from farm.core.errors import BadRequest
from farm.core.migration import Phase

if TYPE_CHECKING:
    from farm.store.migrating import Migrated


def migrate(only: Phase | None = None, *, roles: bool = False) -> "Migrated":
    """Raises `BadRequest` when *roles* are asked for and the environment does not say whose passwords they have."""
    from farm.store.migrating import migrate as run

    logins = dict(_logins(read(RoleSettings))) if roles else {}
    return run(read(MigrateSettings).owner_database_url.get_secret_value(), only, logins)


def _logins(settings: RoleSettings) -> Iterator[tuple[str, str]]:
    yield _login("FARM_API_DATABASE_URL", settings.api_database_url, "farm_api")
    yield _login("FARM_SCHEDULER_DATABASE_URL", settings.scheduler_database_url, "farm_scheduler")


def _login(setting: str, url: SecretStr, role: str) -> tuple[str, str]:
    """The migrations grant their rights to roles of these names."""
    from sqlalchemy.engine import make_url  # the processes read it so; other readers differ over odd characters
    from sqlalchemy.exc import ArgumentError

    try:
        parts = make_url(url.get_secret_value())
        user, password = parts.username or "", str(parts.password or "")
    except (ArgumentError, ValueError):  # without the text: it may hold the password
        user, password = "", ""
    if user != role or not password:
        raise BadRequest(f"{setting} has to name the role {role} and its password.", code="bad_settings")
    return role, password
