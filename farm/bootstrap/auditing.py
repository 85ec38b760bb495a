"""What operators run by hand: `farm audit` and `farm garbage`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from farm.bootstrap.services import depot_of, read
from farm.config import DepotSettings, MigrateSettings, SchedulerSettings
from farm.core.errors import BadRequest
from farm.ports import Depot

if TYPE_CHECKING:
    from farm.core.audit import AuditReport
    from farm.loops.janitor import Counts
    from farm.store.auditing import AuditStore


def audit(
    data: Path, *, sample: int | None, grace: timedelta, forget: bool = False, force: bool = False
) -> "AuditReport":
    """Of the farm that the environment names, else of the one in *data*. Raises `BadRequest` when there is neither."""
    from farm.usecases.audit_farm import audit as audit_farm

    with _opened(data) as (books, depot):
        kept = _setting("keep_attempts")
        return audit_farm(books, depot, grace=grace, attempts_kept=kept, sample=sample, forget=forget, force=force)


def collect_garbage(data: Path, *, force: bool) -> "Counts":
    """One round, as the janitor does it. The leader's own may run beside it: each looks again before it deletes."""
    from farm.loops.janitor import Counts, counts_of
    from farm.usecases.collect_garbage import collect

    counts = Counts()
    with _opened(data) as (books, depot):
        for bit in collect(books.begin, depot, grace=_setting("garbage_grace"), force=force):
            counts.add(counts_of(bit))
    return counts


@contextmanager
def _opened(data: Path) -> Iterator[tuple["AuditStore", Depot]]:
    from farm.store.auditing import AuditStore

    owner_url, settings = _operated(data)
    books = AuditStore(owner_url)
    try:
        yield books, depot_of(settings)
    finally:
        books.close()


def _operated(data: Path) -> tuple[str, DepotSettings]:
    if "FARM_OWNER_DATABASE_URL" in os.environ or not (data / "state.json").exists():
        return read(MigrateSettings).owner_database_url.get_secret_value(), read(DepotSettings)
    from farm.embedded import EmbeddedFarm

    env = EmbeddedFarm(data).settings_env()
    of_depot = {name: env[f"FARM_{name.upper()}"] for name in DepotSettings.model_fields}
    return env["FARM_OWNER_DATABASE_URL"], DepotSettings.model_validate(of_depot)


def _setting(name: str) -> timedelta:
    """One duration of the scheduler's; an operator's environment need not have the others."""
    variable = f"FARM_{name.upper()}"
    given = os.environ.get(variable, SchedulerSettings.model_fields[name].default)
    try:
        return TypeAdapter(timedelta).validate_python(given)
    except ValidationError as error:
        raise BadRequest(f"{variable} is {given!r}, which is no duration such as PT6H.", code="bad_settings") from error
