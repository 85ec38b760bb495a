"""`farm migrate`, `farm ready`, and the verbs for API keys."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import farm as package
from farm.cli.main import app
from farm.core.ids import KeyId, show
from farm.core.migration import Phase
from farm.store.migrating import Migrated
from farm.store.operators import TeamKey
from tests.unit.api.serving import Farm

AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


@dataclass
class Bootstrap:
    """What the verbs ask of `farm.bootstrap`."""

    done: Migrated = field(default_factory=lambda: Migrated(()))
    asked: list[Any] = field(default_factory=list)

    def migrate(self, only: Phase | None, *, roles: bool) -> Migrated:
        self.asked.append((only, roles))
        return self.done

    def keys(self, team: str, data: Path) -> list[TeamKey]:
        return [TeamKey(KeyId(1), team, "first", AT, None), TeamKey(KeyId(2), team, "shop", AT, AT)]

    def revoke_key(self, key: str, data: Path) -> TeamKey:
        self.asked.append(key)
        return TeamKey(KeyId(1), "ours", "first", AT, AT)

    def add_team(self, name: str, data: Path, *, label: str) -> str:
        self.asked.append((name, label))
        return "farm_x_y"


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch) -> Bootstrap:
    stand_in = Bootstrap()
    monkeypatch.setattr(package, "bootstrap", stand_in, raising=False)
    return stand_in


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_migrate_says_what_was_done_or_that_there_was_nothing(bootstrap: Bootstrap) -> None:
    assert run("migrate").stdout == "nothing to do\n"
    bootstrap.done = Migrated(("0004_expand_a",), ("farm_api",), ("farm_scheduler",))
    found = run("migrate", "--only", "expand", "--roles")
    assert found.stdout.splitlines() == [
        "farm_api may log in now",
        "farm_scheduler has its password anew",
        "0004_expand_a was run",
    ]
    assert bootstrap.asked == [(None, False), (Phase.EXPAND, True)]
    assert run("migrate", "--only", "shrink").exit_code == 2


def test_ready_needs_no_key_and_says_which_part_is_down(
    farm: Farm, bootstrap: Bootstrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FARM_API_KEY")
    assert run("ready").exit_code == 0
    assert run("--url", farm.url, "ready").exit_code == 0
    farm.world.depot.answers = False
    down = run("ready")
    assert down.exit_code == 1
    assert "Start the S3 store" in down.stderr


def test_ready_waits_as_long_as_it_is_told_to(
    farm: Farm, bootstrap: Bootstrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.world.depot.answers = False
    asked: list[float] = []

    def sleep(seconds: float) -> None:
        asked.append(seconds)
        farm.world.depot.answers = len(asked) == 3

    monkeypatch.setattr("farm.sdk.transport.time.sleep", sleep)
    assert run("ready").exit_code == 1
    assert asked == []
    assert run("ready", "--wait", "60").exit_code == 0
    assert len(asked) == 3


def test_ready_without_an_api_ends_with_1(bootstrap: Bootstrap, tmp_path: Path) -> None:
    assert run("--url", "http://127.0.0.1:1", "ready").exit_code == 1
    nowhere = run("--data", str(tmp_path), "ready")
    assert nowhere.exit_code == 1
    assert "There is no farm" in nowhere.stderr


def test_keys_are_listed_with_what_became_of_them(bootstrap: Bootstrap) -> None:
    assert run("team", "keys", "ours").stdout == (
        f"{show('key', 1)}\tfirst\t2026-11-24 09:30\t\n{show('key', 2)}\tshop\t2026-11-24 09:30\t2026-11-24 09:30\n"
    )
    (first, _) = json.loads(run("team", "keys", "ours", "--json").stdout)
    assert first == {"id": show("key", 1), "label": "first", "created_at": AT.isoformat(), "revoked_at": None}


def test_a_key_is_revoked_by_its_id_and_another_may_have_a_label(bootstrap: Bootstrap) -> None:
    assert "of ours is revoked" in run("team", "revoke", show("key", 1)).stderr
    assert run("team", "add", "ours", "--label", "shop").stdout == "farm_x_y\n"
    assert bootstrap.asked == [show("key", 1), ("ours", "shop")]
