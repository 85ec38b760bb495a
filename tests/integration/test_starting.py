"""Processes, migrations and databases may be started together, in any order: real processes, a real PostgreSQL."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from farm.embedded import ports
from tests.support.parts import Database, StoreServer


@pytest.fixture
def env(database: Database, s3: StoreServer, tmp_path: Path) -> dict[str, str]:
    """Settings of every process; Ray is nowhere."""
    chosen = ports.settle(["api", "metrics", "ray"], {})
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FARM_", "RAY_"))}
    return kept | {
        "FARM_DATA": str(tmp_path / "none"),
        "FARM_DEPOT_ENDPOINT": s3.endpoint,
        "FARM_DEPOT_ACCESS_KEY": s3.access_key,
        "FARM_DEPOT_SECRET_KEY": s3.secret_key,
        "FARM_DEPOT_SECURE": "false",
        "FARM_OWNER_DATABASE_URL": database.owner,
        "FARM_API_DATABASE_URL": database.api,
        "FARM_SCHEDULER_DATABASE_URL": database.scheduler,
        "FARM_API_PORT": str(chosen["api"]),
        "FARM_METRICS_PORT": str(chosen["metrics"]),
        "FARM_RAY_ADDRESS": f"127.0.0.1:{chosen['ray']}",
        "FARM_FLEET_PATIENCE": "PT0S",
    }


def farm(env: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "farm", *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=120)


@contextmanager
def running(env: Mapping[str, str], verb: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "farm", verb], env=env, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def ask(port: str, path: str) -> tuple[int, str]:
    """0 while nobody listens."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def until(process: "subprocess.Popen[bytes]", log: Path, found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def test_the_api_waits_for_its_tables_and_then_serves(env: dict[str, str], tmp_path: Path) -> None:
    port, log = env["FARM_API_PORT"], tmp_path / "log"
    with running(env, "api", log) as process:
        until(process, log, lambda: ask(port, "/healthz")[0] == 200)
        status, said = ask(port, "/readyz")
        assert status == 503
        assert "this release needs 0004_expand_lost_pictures. Run `farm migrate --only expand`." in said
        assert farm(env, "--url", f"http://127.0.0.1:{port}", "ready").returncode == 1
        migrated = farm(env, "migrate", "--only", "expand")
        assert migrated.stdout.splitlines()[-1] == "0004_expand_lost_pictures was run", migrated.stderr
        ready = farm(env, "--url", f"http://127.0.0.1:{port}", "ready", "--wait", "30")
        assert (ready.returncode, ready.stderr) == (0, "The farm is ready.\n")
        assert ask(port, "/v1/team")[0] == 401, "it is the API itself now"
        assert farm(env, "migrate", "--only", "contract").stdout == "0005_contract_unused was run\n"
        assert farm(env, "migrate").stdout == "nothing to do\n"
        assert ask(port, "/readyz")[0] == 200
    assert process.returncode == -signal.SIGTERM, "uvicorn ends as if it had not caught the signal"
    assert len(re.findall("waiting_for_migration", log.read_text())) == 1


def test_the_api_ends_when_it_is_told_to_while_it_waits(env: dict[str, str], tmp_path: Path) -> None:
    port, log = env["FARM_API_PORT"], tmp_path / "log"
    with running(env, "api", log) as process:
        until(process, log, lambda: ask(port, "/healthz")[0] == 200)
    assert process.returncode == 0, log.read_text()


@pytest.mark.parametrize("verb", ["api", "scheduler"])
def test_a_service_that_waits_in_vain_ends_with_1_and_says_what_is_missing(verb: str, env: dict[str, str]) -> None:
    ended = farm(env | {"FARM_SCHEMA_WAIT": "PT0S"}, verb)
    assert ended.returncode == 1
    assert "this release needs 0004_expand_lost_pictures" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_scheduler_is_alive_but_not_ready_while_it_waits_for_its_tables(
    env: dict[str, str], tmp_path: Path
) -> None:
    port, log = env["FARM_METRICS_PORT"], tmp_path / "log"
    with running(env, "scheduler", log) as process:
        until(process, log, lambda: ask(port, "/healzth")[0] == 404)
        assert ask(port, "/healthz") == (200, "ok\n")
        status, said = ask(port, "/readyz")
        assert status == 503
        assert "0004_expand_lost_pictures" in said
        assert "Ray is not joined yet." in said
        assert 'farm_store_connections{state="most"} 8.0' in ask(port, "/metrics")[1]


def test_a_scheduler_without_a_cluster_ends_with_1_and_says_so(env: dict[str, str]) -> None:
    assert farm(env, "migrate").returncode == 0
    ended = farm(env, "scheduler")
    assert ended.returncode == 1
    assert "Ray does not answer" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_said_in_a_sentence(env: dict[str, str], s3: StoreServer) -> None:
    taken = s3.endpoint.rpartition(":")[2]
    ended = farm(env | {"FARM_METRICS_PORT": taken}, "scheduler")
    assert ended.returncode == 1
    assert f"Nothing can listen on 127.0.0.1 port {taken}" in ended.stderr


def test_passwords_of_the_roles_are_asked_of_the_right_settings(env: dict[str, str], database: Database) -> None:
    wrong = env | {"FARM_API_DATABASE_URL": database.scheduler}
    refused = farm(wrong, "migrate", "--roles")
    assert refused.returncode == 1
    assert "FARM_API_DATABASE_URL has to name the role farm_api and its password." in refused.stderr
