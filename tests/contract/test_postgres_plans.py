"""Which indexes PostgreSQL uses for the hot statements, on a crowded table."""

import json
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from farm.store import campaign_sql, queue_sql, renderer_sql, sql
from farm.store.postgres import connect
from tests.support.store_farm import Farm

CROWD = """
INSERT INTO team (team_id, name) SELECT n, 'team ' || n FROM generate_series(3, 10) n;
-- 20 open campaigns, of which one is a proof, and 200 that have ended
INSERT INTO campaign (campaign_id, team_id, name, submit_key, submit_hash, spec, resolved, renders, priority, state,
                      finished_at)
SELECT n, 1 + n % 10, 'c', 'k' || n, 'h', '{}', '{}', 50000, 50,
       CASE WHEN n > 20 THEN 'done' WHEN n = 20 THEN 'proofing' ELSE 'active' END,
       CASE WHEN n > 20 THEN now() END
  FROM generate_series(1, 220) n;
INSERT INTO renderer (session, name, state, expires_at)
SELECT gen_random_uuid(), 'farm/a/1/' || n, 'idle', now() + interval '1 hour' FROM generate_series(1, 1000) n;
-- 100,000 ready shards in 500 queues
INSERT INTO shard (team_id, campaign_id, engine_key, checkpoint, priority, todo, place, renders, seconds)
SELECT 1 + (1 + n % 20) % 10, 1 + n % 20, md5((n / 20 % 25)::text), 'c', 50,
       int8multirange(int8range(n * 50, n * 50 + 50)), n * 50, 50, 0.5
  FROM generate_series(0, 99999) n;
-- 2,000 leases, 2,000 held shards, 50,000 that are done
INSERT INTO shard (team_id, campaign_id, engine_key, checkpoint, priority, todo, place, renders, seconds, state,
                   session, fence, leased_at)
SELECT 1 + (1 + n % 20) % 10, 1 + n % 20, md5((n / 20 % 25)::text), 'c', 50,
       int8multirange(int8range(n * 50, n * 50 + 50)), n * 50, 50, 0.5, 'leased', session, gen_random_uuid(), now()
  FROM (SELECT row_number() OVER () AS n, session FROM renderer CROSS JOIN generate_series(1, 2)) AS r;
INSERT INTO shard (team_id, campaign_id, engine_key, checkpoint, priority, todo, place, renders, seconds, state)
SELECT 1 + 20 % 10, 20, 'held', 'c', 50, int8multirange(int8range(n * 50, n * 50 + 50)), n * 50, 50, 0.5, 'held'
  FROM generate_series(1, 2000) n;
INSERT INTO shard (team_id, campaign_id, engine_key, checkpoint, priority, todo, renders, seconds, state, succeeded)
SELECT 1 + c % 10, c, 'e', 'c', 50, '{}', 0, 0.5, 'done', 50
  FROM (SELECT 1 + n % 220 AS c FROM generate_series(1, 50000) n) AS d;
-- failed tries, few of them recent
INSERT INTO attempt (team_id, campaign_id, shard_id, ordinal, renderer, kind, code, detail, at, forgiven)
SELECT 1, 1 + n % 220, 1, n, 'farm/a/1/' || n % 1000, 'engine', 'x', 'X.', now() - n * interval '1 minute', n % 2 = 0
  FROM generate_series(1, 20000) n;
"""


@pytest.fixture
def crowded(postgres_farm: Farm) -> Farm:
    with psycopg.connect(postgres_farm.superuser) as connection:
        connection.execute(CROWD.encode())
    with psycopg.connect(postgres_farm.superuser, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return postgres_farm


def scans(farm: Farm, statement: str, values: dict[str, Any], *, of: str = "shard") -> set[tuple[str, str]]:
    """(kind of scan, index) of every scan of a table or of its indexes, as PostgreSQL plans it."""
    engine = connect(farm.superuser, pool=1)
    try:
        with engine.begin() as connection:
            plan = connection.execute(text(f"EXPLAIN (FORMAT JSON) {statement}"), values).scalar_one()
    finally:
        engine.dispose()
    found, left = set(), [(plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]]
    while left:
        node = left.pop()
        left += node.get("Plans", [])
        index = node.get("Index Name", "")
        if node.get("Relation Name") == of or (node["Node Type"] == "Bitmap Index Scan" and index.startswith(of)):
            found.add((node["Node Type"], index))
    return {scan for scan in found if scan[0] not in ("Bitmap Heap Scan", "ModifyTable")}


def test_hot_statements_use_their_indexes_on_a_crowded_table(crowded: Farm) -> None:
    with psycopg.connect(crowded.superuser) as connection:
        (session,) = connection.execute("SELECT session::text FROM renderer LIMIT 1").fetchone() or ("",)
    statements: list[tuple[Any, dict[str, Any], set[str]]] = [
        (sql.TAKE, {"shards": [7, 12_000, 19_999], "sessions": [session] * 3}, {"shard_pkey"}),
        (sql.LOCK, {"shards": [7, 12_000, 19_999]}, {"shard_pkey"}),
        (
            sql.PUT_BACK,
            {"shard": 7, "lost": 1, "delay": timedelta(seconds=1), "avoid": "r", "fence": session},
            {"shard_pkey"},
        ),
        (sql.HELD, {}, {"shard_leased"}),
        (sql.FINISH, {"campaigns": [3, 4]}, {"shard_queue", "shard_aside"}),
        (sql.CANCEL_OPEN, {"campaigns": [3]}, {"shard_campaign"}),
        (queue_sql.QUEUES, {"per_queue": 4, "per_campaign": 64}, {"shard_queue"}),
        (queue_sql.TEAMS, {}, {"shard_queue", "shard_leased"}),
        (queue_sql.HELD_BACK, {}, {"shard_aside"}),
        (queue_sql.RESUME, {"campaign": 20}, {"shard_aside"}),
        (campaign_sql.COUNTS, {"team": 1, "campaigns": [3, 4]}, {"shard_campaign"}),
        (campaign_sql.OPEN_RANGES, {"team": 1, "campaign": 3, "lo": 100, "hi": 200}, {"shard_campaign"}),
        (campaign_sql.HAS_HELD, {"team": 1, "campaign": 20}, {"shard_aside"}),
        (campaign_sql.OTHERS_WAITING, {"team": 1}, {"shard_queue"}),
    ]
    for statement, values, wanted in statements:
        found = scans(crowded, str(statement), values)
        assert {index for _, index in found} == wanted, (str(statement), found)


def test_evidence_is_looked_for_among_recent_tries_only(crowded: Farm) -> None:
    values = {"window": timedelta(hours=1), "most": 2000, "outage": timedelta(minutes=1)}
    found = {index for _, index in scans(crowded, str(renderer_sql.ACCUSATIONS), values, of="attempt")}
    assert found == {"attempt_recent", "attempt_campaign"}
    found = {index for _, index in scans(crowded, str(renderer_sql.FORGIVE), {"name": "farm/a/1/7"}, of="attempt")}
    assert found == {"attempt_renderer"}


def test_what_was_warned_of_is_not_looked_for_among_all_that_happened(crowded: Farm) -> None:
    with psycopg.connect(crowded.superuser) as connection:
        connection.execute("""
            INSERT INTO event (team_id, event_id, campaign_id, kind, data)
            SELECT 1 + n % 10, n, 1 + n % 20, 'renders.settled', '{}' FROM generate_series(1, 20000) n""")
    found = {index for _, index in scans(crowded, str(campaign_sql.WARNINGS), {"team": 1, "campaign": 9}, of="event")}
    assert found == {"event_warning"}


def test_what_changes_while_a_shard_is_rendered_is_in_no_index(postgres_farm: Farm) -> None:
    """Else every report would write to every index of the shard, and no update would be heap-only."""
    with psycopg.connect(postgres_farm.superuser) as connection:
        found = connection.execute("""
            SELECT DISTINCT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid
             WHERE i.indrelid = 'shard'::regclass AND a.attnum = ANY(i.indkey)""").fetchall()
    changing = {"todo", "renders", "succeeded", "failed", "reused", "ready_at", "tries", "lost", "avoid", "depot_tries"}
    assert {name for (name,) in found} & changing == set()
