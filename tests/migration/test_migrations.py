"""Migrations on a real PostgreSQL: up, down, up again, with rows in the tables."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

import migrations
from tests.support.parts import Database

SCHEMA = """
SELECT 'column', c.relname, a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' ||
       coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' ' || coalesce(a.attacl::text, '')
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
UNION ALL
SELECT 'table', relname, coalesce(relacl::text, '') || coalesce(reloptions::text, '') FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
UNION ALL
SELECT 'index', tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
 WHERE connamespace = 'public'::regnamespace
 ORDER BY 1, 2, 3
"""

OLD_ROWS = """
INSERT INTO team (team_id, name) VALUES (1, 'ours');
INSERT INTO campaign (campaign_id, team_id, name, submit_key, submit_hash, spec, resolved, renders, priority, state,
                      created_at)
VALUES (1, 1, 'a', 'k1', 'h', '{}', '{}', 10, 50, 'active', '2026-11-01T00:00:00Z'),
       (2, 1, 'b', 'k2', 'h', '{}', '{}', 10, 50, 'paused', '2026-11-02T00:00:00Z');
INSERT INTO shard (team_id, campaign_id, engine_key, checkpoint, priority, todo, renders, seconds, state)
VALUES (1, 1, 'e', 'c', 50, '{[3,5)}', 2, 0.5, 'ready'), (1, 1, 'e', 'c', 50, '{}', 0, 0.5, 'done');
INSERT INTO outcome (team_id, campaign_id, ordinal, outcome, tries) VALUES (1, 1, 0, 'failed', 1);
INSERT INTO attempt (team_id, campaign_id, shard_id, ordinal, kind, code, detail)
VALUES (1, 1, 1, 0, 'engine', 'x', 'X.');
"""

NEW_ROWS = """
UPDATE campaign SET state = 'awaiting_approval', deadline = now(), budget = '{}', quote = '{}' WHERE campaign_id = 1;
UPDATE shard SET state = 'held', avoid = '{farm/a/1/0}' WHERE state = 'ready';
INSERT INTO spend VALUES (1, '2026-11-01', 1, 1, 1);
INSERT INTO tombstone (key, reason) VALUES ('k', 'orphan');
"""


class Migrated:
    def __init__(self, database: Database) -> None:
        self.url = database.superuser
        self._owner = database.owner.replace("postgresql://", "postgresql+psycopg://")

    def to(self, revision: str) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        engine = create_engine(self._owner)
        try:
            with engine.begin() as connection:
                config.attributes["connection"] = connection
                (command.downgrade if revision.startswith("-") else command.upgrade)(config, revision.removeprefix("-"))
        finally:
            engine.dispose()

    def run(self, statements: str) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statements.encode())

    def all(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode()).fetchall()


@pytest.fixture
def migrated(database: Database) -> Migrated:
    found = Migrated(database)
    found.to("0001")
    return found


def test_a_farm_with_rows_in_it_goes_up_and_down_again(migrated: Migrated) -> None:
    migrated.run(OLD_ROWS)
    before = migrated.all(SCHEMA)
    migrated.to("0002")
    after = migrated.all(SCHEMA)
    assert migrated.all("SELECT state, place FROM shard ORDER BY shard_id") == [("ready", 3), ("done", 0)]
    (active, paused) = migrated.all(
        "SELECT position = extract(epoch FROM created_at), paused_by FROM campaign ORDER BY campaign_id"
    )
    assert (active, paused) == ((True, None), (True, "user"))
    migrated.run(NEW_ROWS)
    migrated.to("-0001")
    assert migrated.all(SCHEMA) == before, "columns, indexes, constraints and rights are what they were"
    assert migrated.all("SELECT state FROM campaign ORDER BY campaign_id") == [("paused",), ("paused",)]
    assert migrated.all("SELECT state FROM shard ORDER BY shard_id") == [("ready",), ("done",)]
    migrated.to("0002")
    assert migrated.all(SCHEMA) == after


OLD_PICTURE = """
INSERT INTO picture (team_id, fingerprint, key, sha256, bytes, width, height, format)
VALUES (1, '\\x01', 'k1', '\\x02', 1, 1, 1, 'png')
"""


def test_a_picture_of_the_release_before_has_no_renditions_and_no_measures(migrated: Migrated) -> None:
    migrated.to("0002")
    migrated.run("INSERT INTO team (team_id, name) VALUES (1, 'ours');" + OLD_PICTURE)
    before = migrated.all(SCHEMA)
    migrated.to("0003")
    assert migrated.all("SELECT renditions, measured FROM picture") == [([], None)]
    migrated.run(OLD_PICTURE.replace("01'", "03'").replace("k1", "k2"))  # that release, while the farm is rolled over
    assert migrated.all("SELECT renditions, measured FROM picture WHERE key = 'k2'") == [([], None)]
    migrated.to("-0002")
    assert migrated.all(SCHEMA) == before


def test_everything_goes_down_to_nothing(migrated: Migrated) -> None:
    migrated.to("head")
    migrated.to("-base")
    assert {row[1] for row in migrated.all(SCHEMA)} == {"alembic_version"}
