"""What operators do from the command line, against a real database."""

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from farm.cli.main import app
from farm.core.ids import Session
from farm.store.operators import migrate
from farm.store.postgres import PostgresStore
from schemas.report import Hello
from tests.support.parts import Database

RENDERER, SESSION = "farm/local/1/0", Session("00000000-0000-4000-8000-000000000001")


@pytest.fixture
def tables(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    migrate(database.owner)
    monkeypatch.setenv("FARM_OWNER_DATABASE_URL", database.owner)
    monkeypatch.setenv("FARM_DATA", str(tmp_path))
    return database


@pytest.fixture
def store(tables: Database) -> Iterator[PostgresStore]:
    found = PostgresStore(tables.scheduler, pool=1)
    yield found
    found.close()


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert "Traceback" not in result.output
    assert result.exit_code == code, result.output
    return result


def team() -> dict[str, Any]:
    (found,) = json.loads(run("team", "list", "--json").stdout)
    return dict(found)


@pytest.mark.usefixtures("tables")
def test_a_teams_limits_are_set_one_by_one_and_taken_away_with_0() -> None:
    assert run("team", "add", "spring").stdout.startswith("farm_")
    assert (team()["weight"], team()["quota"], team()["budget"]) == (1.0, None, None)
    run("team", "set", "spring", "--weight", "2.5", "--quota", "4", "--burst", "8", "--retention-days", "30")
    run("team", "set", "spring", "--budget-money", "500")
    shown = run("team", "set", "spring", "--budget-gpu-hours", "20").stdout
    assert "budget of a month\t500.00 and 20 GPU hours" in shown
    found = team()
    assert [found[key] for key in ("weight", "quota", "burst", "retention_days")] == [2.5, 4, 8, 30]
    assert (found["budget"]["money"], found["budget"]["gpu_seconds"]) == (500.0, 72_000.0)
    run("team", "set", "spring", "--quota", "0", "--burst", "0", "--retention-days", "0", "--budget-money", "0")
    found = team()
    assert [found[key] for key in ("quota", "burst", "retention_days")] == [None, None, None]
    assert (found["budget"]["money"], found["budget"]["gpu_seconds"]) == (None, 72_000.0)
    run("team", "set", "spring", "--budget-gpu-hours", "0")
    assert team()["budget"] is None
    assert run("team", "list").stdout.startswith("spring\t2.5\tnone\tnone\t")


@pytest.mark.usefixtures("tables")
def test_limits_that_say_nothing_or_of_nobody_are_refused() -> None:
    run("team", "add", "spring")
    assert "Say what changes" in run("team", "set", "spring", code=2).stderr
    for words in (("--quota", "3"), ("--budget-money", "3")):
        assert "There is no team" in run("team", "set", "autumn", *words, code=1).stderr


@pytest.mark.usefixtures("tables")
def test_prices_are_set_and_listed() -> None:
    run("price", "set", "H100", "2.49")
    run("price", "set", "*", "1")
    assert "An hour of H100 costs 3.00" in run("price", "set", "H100", "3").stderr
    assert run("price", "list").stdout == "*\t1.00\nH100\t3.00\n"
    assert json.loads(run("price", "list", "--json").stdout) == {"*": 1.0, "H100": 3.0}


def test_a_renderer_is_put_into_quarantine_and_released_by_hand(store: PostgresStore) -> None:
    leadership = store.elect("test", timedelta(hours=1))
    assert leadership is not None
    hello = Hello(
        name=RENDERER, session=SESSION, node="n", pid=1, gpu="g", numerics="n", epoch=leadership.epoch, holds=()
    )
    with store.as_scheduler(leadership) as tx:
        tx.greet(hello, timedelta(hours=1))
    assert "There is no renderer" in run("renderer", "quarantine", "nobody", code=1).stderr
    assert "farm renderer release" in run("renderer", "quarantine", RENDERER, "--why", "its fan rattles").stderr
    with store.as_scheduler(leadership) as tx:
        (held,) = tx.quarantined()
        tx.release(held.name)
        assert tx.quarantined() == [held], "what was done by hand is undone by hand"
    assert (held.name, held.why, held.by_hand) == (RENDERER, "its fan rattles", True)
    run("renderer", "release", RENDERER)
    with store.as_scheduler(leadership) as tx:
        assert tx.quarantined() == []
        tx.end_sessions([SESSION])
    assert "not in quarantine" in run("renderer", "release", RENDERER, code=1).stderr


def test_a_key_is_replaced_by_another_and_revoked_at_once(tables: Database) -> None:
    store = PostgresStore(tables.api, pool=1)

    def comes_in(key: str) -> bool:
        return store.key_owner(hashlib.sha256(key.encode()).digest()) is not None

    try:
        old, new = (run("team", "add", "spring", *words).stdout.strip() for words in ((), ("--label", "shop")))
        assert comes_in(old)
        assert comes_in(new)
        first, second = json.loads(run("team", "keys", "spring", "--json").stdout)
        assert (first["label"], second["label"], second["revoked_at"]) == ("first", "shop", None)
        assert old.split("_")[1] == first["id"].removeprefix("key_"), "a key tells its id, and never the other way"
        assert "of spring is revoked" in run("team", "revoke", first["id"]).stderr
        assert (comes_in(old), comes_in(new)) == (False, True)
        revoked_at = json.loads(run("team", "keys", "spring", "--json").stdout)[0]["revoked_at"]
        run("team", "revoke", first["id"])
        assert json.loads(run("team", "keys", "spring", "--json").stdout)[0]["revoked_at"] == revoked_at is not None
        assert old.split("_")[2] not in run("team", "keys", "spring").stdout
    finally:
        store.close()


@pytest.mark.usefixtures("tables")
def test_keys_of_nobody_are_refused() -> None:
    assert "There is no team 'autumn'" in run("team", "keys", "autumn", code=1).stderr
    assert "There is no key key_0000000000005" in run("team", "revoke", "key_0000000000005", code=1).stderr
    run("team", "revoke", "cmp_0000000000005", code=1)


def test_without_a_database_it_says_which_variable_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FARM_OWNER_DATABASE_URL", raising=False)
    result = run("--data", str(tmp_path), "price", "list", code=1)
    assert "FARM_OWNER_DATABASE_URL" in result.stderr
