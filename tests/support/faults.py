"""A live farm that things are done to, and what must be true of it afterwards."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import psutil
import psycopg

from farm import bootstrap
from farm.core.audit import AuditReport, Promise
from farm.depot.s3 import S3Depot
from farm.sdk import ApiError, Client
from tests.support.crash import Crashes
from tests.support.farm import LiveFarm, wait_for_renders
from tests.support.proxy import HOST, Proxy

PATIENCE = timedelta(seconds=90)

# Ray wants no second node on the loopback address, to which the embedded farm keeps.
_NODE = """
import types, ray.scripts.scripts as scripts
scripts.ray_constants = types.SimpleNamespace(**{**vars(scripts.ray_constants), "ENABLE_RAY_CLUSTER": True})
scripts.main()
"""

VARIANTS = 15
TOTAL = 2 * 2 * VARIANTS


@dataclass(frozen=True, slots=True)
class Trial:
    """A farm, and where its processes can be made to crash."""

    farm: LiveFarm
    crashes: Crashes
    proxies: Mapping[str, Proxy] = field(default_factory=dict)

    def begin(self, name: str) -> str:
        """A campaign of which some renders have ended and most have not."""
        campaign = self.submit(name)
        wait_for_renders(self.farm.client, campaign, 4)
        assert self.farm.client.campaign(campaign).counts.succeeded < TOTAL
        return campaign

    def submit(self, name: str, client: Client | None = None) -> str:
        spec = self.farm.spec(name, variants=VARIANTS)
        return (client or self.farm.client).submit(spec, idempotency_key=name.replace(" ", "-")).id

    def hasty_client(self) -> Client:
        """One that does not wait until the farm is back."""
        known = json.loads((self.farm.data / "client.json").read_text())
        return Client(known["url"], known["key"], patience=timedelta(0))

    def end(self, campaign: str) -> None:
        """It is done, and everything is as it should be."""
        assert self.farm.client.wait(campaign, PATIENCE).state == "done"
        self.check(campaign)

    def check(self, campaign: str) -> None:
        """P1 to P3: each render has one outcome and was told once; its object is there with its sha256."""
        counts = self.farm.client.campaign(campaign).counts
        assert (counts.total, counts.succeeded, counts.failed) == (TOTAL, TOTAL, 0)
        shown = {render.ordinal: render.sha256 for render in self.farm.client.renders(campaign)}
        assert list(shown) == list(range(TOTAL))
        assert self.told(campaign) == list(range(TOTAL)), "an outcome was told twice, or never"
        kept = self.query(
            "SELECT o.ordinal, p.key, encode(p.sha256, 'hex') FROM outcome o JOIN picture p USING (picture_id)"
            " JOIN campaign c USING (campaign_id) WHERE c.name = %s ORDER BY o.ordinal",
            self.farm.client.campaign(campaign).name,
        )
        assert [(ordinal, sha256) for ordinal, _, sha256 in kept] == list(shown.items())
        depot = self.depot()
        for _, key, sha256 in kept:
            assert hashlib.sha256(depot.get(key)).hexdigest() == sha256

    def audit(self) -> None:
        """P1 to P5 of every campaign so far; orphans may take their time to go, all else must be right at once."""

        def report() -> AuditReport:
            return bootstrap.audit(self.farm.data, sample=None, grace=timedelta(0))

        found = report()

        def settled() -> bool:
            """Twice in a row: what a renderer was still uploading at the first look is seen at the second."""
            nonlocal found
            quiet = not found.wrong[Promise.P4]
            found = report()
            return quiet and not found.wrong[Promise.P4]

        # A leader collects nothing for its first five lease times, and then waits for the grace to pass.
        until(settled, "no orphan is left", seconds=200)
        assert found.ok, found.findings

    def told(self, campaign: str) -> list[int]:
        """The ordinals that events have called settled."""
        events = self.query(
            "SELECT e.data FROM event e JOIN campaign c USING (campaign_id)"
            " WHERE c.name = %s AND e.kind = 'renders.settled'",
            self.farm.client.campaign(campaign).name,
        )
        ranges = [between for (data,) in events for part in ("succeeded", "failed") for between in data[part]]
        return sorted(ordinal for lo, hi in ranges for ordinal in range(lo, hi))

    def lost_leases(self, campaign: str) -> int:
        """Leases of its shards that ended with their renderer, not with a report."""
        name = self.farm.client.campaign(campaign).name
        return int(
            self.query("SELECT sum(lost) FROM shard JOIN campaign USING (campaign_id) WHERE name = %s", name)[0][0]
        )

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """As the superuser, and past every proxy."""
        with psycopg.connect(self.farm.parts.postgres.superuser_url("farm"), connect_timeout=5) as connection:
            return connection.execute(statement, values).fetchall()

    def depot(self) -> S3Depot:
        env = self.farm.parts.settings_env()
        return S3Depot(
            endpoint=env["FARM_DEPOT_ENDPOINT"],
            access_key=env["FARM_DEPOT_ACCESS_KEY"],
            secret_key=env["FARM_DEPOT_SECRET_KEY"],
            bucket=env["FARM_DEPOT_BUCKET"],
            region=env["FARM_DEPOT_REGION"],
            secure=False,
        )

    def epoch(self) -> int:
        return int(self.query("SELECT epoch FROM leader")[0][0])

    def holders(self, campaign: str) -> set[str]:
        """The nodes whose renderers hold shards of it."""
        return {
            node
            for (node,) in self.query(
                "SELECT DISTINCT node FROM shard s JOIN renderer USING (session) JOIN campaign c USING (campaign_id)"
                " WHERE c.name = %s AND s.state = 'leased'",
                self.farm.client.campaign(campaign).name,
            )
        }

    def complaints(self) -> set[str]:
        """What readyz says is down, as soon as it does."""
        while True:
            try:
                self.farm.client.ready()
            except ApiError as error:
                return {fault.code for fault in error.problem.errors}

    # who runs

    def ray_process(self, name: str) -> psutil.Process:
        """``raylet`` or ``gcs_server``."""
        tree = psutil.Process(self.farm.pid("ray")).children(recursive=True)
        return next(process for process in tree if process.name().startswith(name))

    def processes(self, what: str) -> list[psutil.Process]:
        """The process that has this name, with those that work for it, itself first."""
        if what == "renderer":
            return [psutil.Process(self.farm.renderer_pids()[0])]
        if what in ("raylet", "gcs_server"):
            return [self.ray_process(what)]
        main = psutil.Process(self.farm.pid(what))
        return [main, *main.children(recursive=True)] if what == "postgres" else [main]

    def kill(self, what: str) -> psutil.Process:
        """SIGKILL; it is gone when this returns."""
        process = self.processes(what)[0]
        process.kill()
        process.wait(10)
        return process

    @contextmanager
    def frozen(self, what: str) -> Iterator[None]:
        stopped = self.processes(what)
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in stopped:
                process.send_signal(signal.SIGCONT)

    @contextmanager
    def frozen_in_a_transaction(self) -> Iterator[None]:
        """The scheduler, while PostgreSQL waits for its next statement and keeps the locks of the former ones."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with self.frozen("scheduler"):
                let_pass(0.2)  # what has been sent is answered
                waiting = "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND usename = %s"
                if self.query(f"{waiting} AND clock_timestamp() - state_change > interval '0.1 s'", "farm_scheduler"):
                    yield
                    return
        raise AssertionError("it was never stopped within a transaction")

    def mend(self, what: str) -> None:
        """Whatever an operator would do after it was killed; nothing where the farm helps itself."""
        if what in ("raylet", "gcs_server"):
            head = self.farm.parts.ray.child  # it ends by itself when one of its own is gone
            until(lambda: not head.alive(), "Ray's head has ended")
        if what in ("postgres", "s3"):
            part = self.farm.parts.postgres if what == "postgres" else self.farm.parts.s3
            part.stop()  # what the dead server left behind may hold its memory
            part.start()
        elif what != "renderer":
            self.farm.up()

    @contextmanager
    def another_node(
        self, *, gpus: int = 1, labels: str = "", env: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """One more node, as a pod of a cluster runs it; *labels* such as ``kind=spot``."""
        argv = [sys.executable, "-c", _NODE, "start", "--block", f"--num-gpus={gpus}", f"--num-cpus={2 * gpus}"]
        argv += ["--min-worker-port=0", *([f"--labels={labels}"] if labels else [])]
        argv += [f"--address={self.farm.parts.ray.address}", f"--node-ip-address={HOST}", "--max-worker-port=0"]
        argv += ["--dashboard-agent-listen-port=0", "--object-store-memory=80000000"]
        of_ours = self._environment() | {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "25"} | dict(env)
        log = self.farm.data / "log" / "another-node.log"
        with log.open("ab") as file:
            node = subprocess.Popen(argv, env=of_ours, cwd=self.farm.data, stdout=file, stderr=file)
        try:
            yield node
        finally:
            if node.poll() is None:
                main = psutil.Process(node.pid)
                for process in [*main.children(recursive=True), main]:
                    process.kill()
                node.wait(10)

    def _environment(self) -> dict[str, str]:
        """Of whatever joins this farm."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FARM_"))}
        return ours | self.farm.parts.ray.env()

    @contextmanager
    def another_scheduler(self) -> Iterator[None]:
        """Stands by until it may lead."""
        env = self._environment() | self.farm.parts.settings_env() | {**self.farm.env, "FARM_METRICS_PORT": "0"}
        log = self.farm.data / "log" / "another-scheduler.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "farm", "scheduler"],
                env=env,
                cwd=self.farm.data,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            yield
            assert process.poll() is None, log.read_text()
        finally:
            process.terminate()
            process.wait(30)


def until(holds: Callable[[], object], what: str, *, seconds: float = 60) -> None:
    """Asks until it holds; what happens in another process tells us nothing by itself."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        pause.wait(0.05)


def let_pass(seconds: float) -> None:
    """For as long as a fault is to last: its duration is what is tried."""
    threading.Event().wait(seconds)
