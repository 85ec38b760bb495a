"""The control image without Docker: its steps carried out in a clean environment, then its commands against real parts.

What a real build adds and this cannot show: the base image itself, its layers, its user.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import urllib3
import yaml

from farm.embedded import EmbeddedFarm
from farm.embedded.ports import free_port
from tests.support.images import DOCKER, DOCKERFILES, ROOT, Step, context, environment, last, steps
from tests.support.parts import own_folder

CONTROL = DOCKERFILES["control"]
OF_THE_IMAGE = re.compile(r"(?<![\w./-])/(?=(opt|build)\b)")
"""Beginnings of the paths that an image has and this machine must not."""

INSTALLERS = ("PIP_", "SSL_", "HTTP", "http", "NO_PROXY", "no_proxy")
"""How this machine reaches a package index. Docker, too, gives a build its proxies."""


@dataclass
class Built:
    """What would be the image's file system, below *root*; all stages share it."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"

    def inside(self, text: str) -> str:
        return OF_THE_IMAGE.sub(f"{self.root}/", text)

    def carry_out(self, step: Step) -> None:
        match step.what:
            case "FROM":
                self.env, self.workdir = {}, "/"
            case "ENV":
                self.env |= dict(word.split("=", 1) for word in step.words())
            case "WORKDIR":
                self.workdir = step.text
                if OF_THE_IMAGE.match(step.text):
                    Path(self.inside(step.text)).mkdir(parents=True, exist_ok=True)
            case "COPY":
                self.copy(*step.words())
            case "RUN":
                self.run(step.text)
            case "ARG" | "LABEL" | "USER" | "EXPOSE" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD":
                pass
            case _:
                raise NotImplementedError(step)

    def copy(self, *words: str) -> None:
        *sources, target = words
        if sources[0].startswith("--from="):
            assert sources[1:] == [target], "an environment cannot be moved"
            assert Path(self.inside(target)).is_dir()
            return
        folder = Path(self.inside(self.workdir)) / target
        for source in sources:
            for file in (path for path in context() if path.is_relative_to(source)):
                there = folder / (file.relative_to(source) if (ROOT / source).is_dir() else file.name)
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / file, there)

    def run(self, text: str) -> None:
        """With this Python as the base's; users are made in files below the root."""
        machine = {name: value for name, value in os.environ.items() if name.startswith(INSTALLERS)}
        clean = {"PATH": f"{self.root}/base:/usr/sbin:/usr/bin:/bin", "HOME": f"{self.root}/home"}
        line = re.sub(r"\b(groupadd|useradd)\b", rf"\1 --prefix {self.root}", self.inside(text))
        workdir = self.inside(self.workdir) if OF_THE_IMAGE.match(self.workdir) else self.root
        argv = ["bash", "-euo", "pipefail", "-c", line]
        done = subprocess.run(
            argv, cwd=workdir, env={**machine, **clean, **self.env}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"

    def image_env(self) -> dict[str, str]:
        """As a container's process has it, with a home of its own."""
        env = {name: self.inside(value) for name, value in environment(CONTROL).items()}
        return {**env, "HOME": f"{self.root}/home"}


@pytest.fixture(scope="module")
def built() -> Iterator[Built]:
    with own_folder() as root:
        for folder in ("base", "home", "etc"):
            (root / folder).mkdir()
        # A link would not do: Python finds its environment by where it was called.
        (root / "base" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (root / "base" / "python").chmod(0o755)
        for name in ("passwd", "group"):
            (root / "etc" / name).write_text(f"root:x:0:{'0:root:/root:/bin/bash' if name == 'passwd' else ''}\n")
        image = Built(root)
        for step in steps(CONTROL):
            image.carry_out(step)
        yield image


def test_the_environment_holds_exactly_what_is_locked_and_the_project(built: Built) -> None:
    code = "import importlib.metadata as m, json; print(json.dumps([d.name for d in m.distributions()]))"
    listed = json.loads(python(built, code))
    locked = [line.partition("==")[0] for line in (DOCKER / "control.lock").read_text().splitlines()[1:]]
    assert {plain(name) for name in listed} == {plain(name) for name in locked} | {"halftone"}


def test_nobody_in_the_image_is_root(built: Built) -> None:
    accounts = dict(line.split(":", 1) for line in (built.root / "etc/passwd").read_text().splitlines())
    assert accounts["halftone"].partition(":")[2] == "10001:10001::/tmp:/usr/sbin/nologin"


def test_bytecode_is_there_beforehand_and_says_nothing_of_time(built: Built) -> None:
    (compiled,) = (built.root / "opt/halftone/lib").glob("python*/site-packages/farm/__pycache__/config.*.pyc")
    assert int.from_bytes(compiled.read_bytes()[4:8], "little") == 0b01  # PEP 552: by hash, never checked


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def python(built: Built, code: str) -> str:
    argv = ["python", "-c", code]
    return subprocess.run(argv, env=built.image_env(), capture_output=True, text=True, check=True).stdout


# The image's commands, with the environment that compose.yaml gives them.


@dataclass(frozen=True)
class Site:
    """Real parts, and what stands for compose's addresses and passwords."""

    built: Built
    values: Mapping[str, str]
    services: Mapping[str, Any]

    def env(self, service: str) -> dict[str, str]:
        """No variable that compose does not name, but for ports: those of the image may be taken here."""
        named = self.services[service]["environment"]
        fixed = {name: str(value) for name, value in named.items() if "$" not in str(value)}
        ours = {name: self.values[name] for name in named if name in self.values}
        moved = {name: self.values[name] for name in ("FARM_API_PORT", "FARM_METRICS_PORT", "FARM_URL")}
        optional = {name: "false" for name in named if name == "FARM_ENGINE_COMPILE"}
        return {**self.built.image_env(), **optional, **fixed, **ours, **moved}

    def run(self, service: str, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [*json.loads(last(CONTROL, "ENTRYPOINT")), *words]
        return subprocess.run(argv, env=self.env(service), capture_output=True, text=True, check=False, timeout=120)

    @contextmanager
    def running(self, service: str, *around: str) -> Iterator[subprocess.Popen[str]]:
        argv = [*around, *json.loads(last(CONTROL, "ENTRYPOINT")), *self.services[service]["command"]]
        with (self.built.root / f"{service}.log").open("w") as log:
            process = subprocess.Popen(argv, env=self.env(service), stdout=log, stderr=log, text=True)
            try:
                yield process
            finally:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def site(built: Built) -> Iterator[Site]:
    with own_folder() as folder:
        farm = EmbeddedFarm(folder / "farm", renderers=1)
        try:
            farm.up()
            as_compose_has_it(farm)
            port = farm.state.ports["api"]
            values = farm.settings_env() | {"FARM_URL": f"http://127.0.0.1:{port}", "RAY_ADDRESS": farm.ray.address}
            values["FARM_METRICS_PORT"] = str(free_port({port}))
            yield Site(built, values, yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"])
        finally:
            farm.wipe()


def as_compose_has_it(farm: EmbeddedFarm) -> None:
    """The owner may make roles, the others are not there, and the database is open to whoever logs in."""
    with psycopg.connect(farm.postgres.superuser_url("farm"), autocommit=True) as connection:
        connection.execute("REVOKE CONNECT ON DATABASE farm FROM farm_api, farm_scheduler")
        connection.execute("DROP ROLE farm_api, farm_scheduler")
        connection.execute("GRANT CONNECT ON DATABASE farm TO PUBLIC")
        connection.execute("ALTER ROLE farm_owner SUPERUSER")


def test_the_commands_of_the_image_make_a_farm(site: Site) -> None:
    """The API as PID 1, which no signal ends that it has no handler for; the scheduler beside Ray's processes."""
    assert "campaign" in site.run("operator", "--help").stdout
    migrated = site.run("migrate", *site.services["migrate"]["command"])
    assert migrated.returncode == 0, migrated.stderr
    assert "farm_api may log in now" in migrated.stdout
    as_first = ("unshare", "--fork", "--pid", "--kill-child")
    with site.running("api", *as_first) as api, site.running("scheduler") as scheduler:
        check = json.loads(last(CONTROL, "HEALTHCHECK").partition("CMD ")[2])
        ready = site.run("api", *check[1:], "--wait", "60")
        assert ready.returncode == 0, ready.stderr
        port = site.values["FARM_METRICS_PORT"]
        assert answer(f"http://127.0.0.1:{port}/readyz", scheduler) == "ok\n"
        healthy = [
            word.replace(":9090/", f":{port}/") for word in site.services["scheduler"]["healthcheck"]["test"][1:]
        ]
        subprocess.run(healthy, env=site.env("scheduler"), check=True, timeout=60)
        key = site.run("operator", "team", "add", "first")
        assert key.stdout.startswith("farm_"), key.stderr
        for process in (*psutil.Process(api.pid).children(), psutil.Process(scheduler.pid)):
            process.terminate()
        assert (api.wait(30), scheduler.wait(30)) == (0, 0)


def answer(url: str, process: subprocess.Popen[str]) -> str:
    """As soon as it answers with 200; the process has to live until then."""
    retries = urllib3.Retry(total=200, backoff_factor=0.5, backoff_max=0.5, status_forcelist=(503,))
    try:
        return urllib3.request("GET", url, retries=retries, timeout=10).data.decode()
    finally:
        assert process.poll() is None, "it has ended"
