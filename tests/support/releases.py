"""The former release beside this one: its own code from git, on one farm, so that each can take over from the other."""

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import psutil

from farm.embedded import EmbeddedFarm
from farm.embedded.ports import free_port
from farm.sdk import Client
from schemas.style import StyleLora, StyleSpec
from tests.support.crash import Crashes
from tests.support.farm import QUICK, LiveFarm
from tests.support.faults import Trial, until
from tests.support.parts import own_folder
from tests.support.proxy import HOST
from tests.support.trials import ENV, PATIENT

FORMER = ("v0.1.0", "6d2ad6d")
"""Tag of the former release, and its commit: a clone may have been made without tags."""

REPOSITORY = Path(__file__).parents[2]
_UP = """
import json, pathlib, sys
from farm import bootstrap
bootstrap.up(pathlib.Path(sys.argv[1]), renderers=2, on_step=print, env=json.loads(sys.argv[2]))
"""


class NoHistory(Exception):
    """This tree came without git's history, or without so much of it."""


@dataclass(frozen=True, slots=True)
class Release:
    """Code to run. *tree* is None for what is tested here; *name* is the revision of its renderers."""

    name: str
    tree: Path | None = None

    @property
    def path(self) -> dict[str, str]:
        """Before the project that is installed."""
        return {} if self.tree is None else {"PYTHONPATH": str(self.tree)}

    @property
    def settings(self) -> dict[str, str]:
        """A fleet whose renderers run where its code is."""
        fleet = {"name": "local", "renderers": 2, "labels": {"revision": self.name}}
        return {"FARM_FLEETS": json.dumps([fleet]), "FARM_FLEET_REVISION": self.name}


THIS = Release("this")


def former_release(folder: Path) -> Release:
    """Its files as git has them. Raises `NoHistory`."""
    why = ""
    for name in FORMER:
        packed = subprocess.run(["git", "-C", REPOSITORY, "archive", name], capture_output=True, check=False)
        if packed.returncode == 0:
            tree = folder / "former"
            archive = folder / "former.tar"
            archive.write_bytes(packed.stdout)
            with tarfile.open(archive) as files:
                files.extractall(tree, filter="data")
            return Release("former", tree)
        why = packed.stderr.decode()
    raise NoHistory(why)


@dataclass(slots=True)
class Upgrade:
    """One farm, and processes of two releases on it by (release, verb)."""

    trial: Trial
    former: Release
    processes: dict[tuple[str, str], "subprocess.Popen[bytes]"] = field(default_factory=dict)
    ports: dict[tuple[str, str], int] = field(default_factory=dict)
    opened: ExitStack = field(default_factory=ExitStack)

    def start(self, release: Release, verb: str) -> None:
        """``api`` or ``scheduler``; it answers when this returns."""
        port = free_port(())
        known = {"api": "FARM_API_PORT", "scheduler": "FARM_METRICS_PORT"}[verb]
        log = self.trial.farm.data / "log" / f"{release.name}-{verb}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "farm", verb],
                env=self.environment(release) | {known: str(port)},
                cwd=self.trial.farm.data,
                stdout=file,
                stderr=file,
            )
        self.processes[release.name, verb], self.ports[release.name, verb] = process, port
        path = "/readyz" if verb == "api" or release is THIS else "/metrics"  # 0.1.0 opens that port when all is ready

        def answers() -> bool:
            assert process.poll() is None, log.read_text()[-3000:]
            try:
                with urlopen(f"http://{HOST}:{port}{path}", timeout=5) as reply:
                    return bool(reply.status == 200)
            except OSError:
                return False

        until(answers, f"{verb} of the {release.name} release answers")

    def stop(self, release: Release, verb: str) -> None:
        """SIGTERM, and it has ended in good order."""
        process = self.processes.pop((release.name, verb))
        process.terminate()
        assert process.wait(30) in (0, -signal.SIGTERM)  # uvicorn hands over first, and then dies by the signal

    def stop_first(self, verb: str) -> None:
        """The process that the farm was made with."""
        process = psutil.Process(self.trial.farm.pid(verb))
        process.terminate()
        process.wait(30)

    def migrate(self, only: str) -> str:
        argv = [sys.executable, "-m", "farm", "migrate", "--only", only]
        env = self.environment(THIS) | {"FARM_OWNER_DATABASE_URL": self.trial.farm.parts.postgres.url("farm_owner")}
        cwd = self.trial.farm.data
        done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def through(self, release: Release) -> None:
        """From now on users reach the farm through this release's API."""
        url = f"http://{HOST}:{self.ports[release.name, 'api']}"
        known = json.loads((self.trial.farm.data / "client.json").read_text())
        client = self.opened.enter_context(Client(url, known["key"]))
        self.trial = replace(self.trial, farm=replace(self.trial.farm, client=client))

    def environment(self, release: Release) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FARM_"))}
        parts = self.trial.farm.parts.settings_env()
        del parts["FARM_OWNER_DATABASE_URL"]
        return {**ours, **parts, **self.trial.farm.env, **release.settings, **release.path}

    def end(self) -> None:
        self.opened.close()
        for process in self.processes.values():
            process.kill()
            process.wait(10)


@contextmanager
def upgrade(settings: Mapping[str, str]) -> Iterator[Upgrade]:
    """A farm that the former release made and runs, and a node of renderers for each of both. Raises `NoHistory`."""
    with own_folder() as folder:
        former = former_release(folder)
        data = folder / "farm"
        env = {**ENV, **PATIENT, **settings}
        argv = [sys.executable, "-c", _UP, str(data), json.dumps({**env, **former.settings})]
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FARM_"))}
        try:
            subprocess.run(argv, env={**ours, **former.path}, cwd=folder, check=True)
            known = json.loads((data / "client.json").read_text())
            with Client(known["url"], known["key"]) as client:
                for name in QUICK:
                    lora = StyleLora(lora=name.removeprefix("quick-"))
                    client.save_style(StyleSpec(name=name, loras=(lora,), guidance=1.0, steps=4, size="128x128"))
                trial = Trial(LiveFarm(data, client, env), Crashes(folder))
                made = Upgrade(trial, former)
                with ExitStack() as stack:
                    for number, one in enumerate((former, THIS), 1):
                        stack.enter_context(trial.another_node(gpus=2, labels=f"revision={one.name}", env=one.path))
                        # One at a time: two that join one machine at once stand in each other's way.
                        until(partial(_joined, data / "log" / "another-node.log", number), "the node has joined")
                    stack.callback(made.end)
                    yield made
        finally:
            EmbeddedFarm(data).wipe()


def _joined(log: Path, count: int) -> bool:
    return log.read_text(errors="replace").count("Ray runtime started.") == count
