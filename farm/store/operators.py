"""What an operator does as the owner of the tables: migrate, make teams and keys."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config

import migrations
from farm.core.ids import KeyId, TeamId, show
from farm.store import team_sql
from farm.store.postgres import connect, store_errors


def migrate(owner_url: str, revision: str = "head") -> None:
    """Brings the tables to *revision*. Two at once wait for one another. Raises `StoreDown`."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = connect(owner_url, pool=1)
    try:
        with store_errors(), engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    finally:
        engine.dispose()


def add_key(owner_url: str, *, team: str, name: str, mint: Callable[[], int], secret: str) -> str:
    """A new API key for *team*, which is made when there is none. Only the key's sha256 is kept."""
    key = KeyId(mint())
    text = f"farm_{show('key', key).removeprefix('key_')}_{secret}"
    engine = connect(owner_url, pool=1)
    try:
        with store_errors(), engine.begin() as connection:
            owner = TeamId(connection.execute(team_sql.ADD_TEAM, {"team": mint(), "name": team}).scalar_one())
            digest = hashlib.sha256(text.encode()).digest()
            connection.execute(team_sql.ADD_KEY, {"key": key, "team": owner, "name": name, "digest": digest})
    finally:
        engine.dispose()
    return text
