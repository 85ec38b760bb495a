"""A Ray cluster of one node. `ray start`, because a cluster begun by ``ray.init()`` dies with its driver."""

import os
import shutil
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from farm.embedded.ports import HOST
from farm.embedded.processes import Child
from farm.embedded.state import State

_START = timedelta(seconds=120)
_STARTED = "Ray runtime started."
_OBJECT_STORE_BYTES = 100 * 2**20  # pictures go through the depot; Ray carries orders and reports

# Ray appends "/session_<date>_<pid>/sockets/plasma_store" (64 bytes), and a unix socket's path ends at 107.
_LONGEST_FOLDER = 36


class RayCluster:
    """The Ray head of one embedded farm, with *gpus* GPUs that need not exist."""

    name = "ray"
    ports = ("ray", "ray_agent", "ray_monitor")

    def __init__(self, data: Path, state: State, *, cpus: int, gpus: int) -> None:
        self._data = data
        self._state = state
        self._cpus = cpus
        self._gpus = gpus
        # Ray ends its own processes on SIGTERM within two seconds, or now and then, just after its start, not at all.
        # Nothing of it is worth waiting for.
        self.child = Child(self.name, data, state.instance, grace=timedelta(seconds=4))

    @property
    def address(self) -> str:
        return f"{HOST}:{self._state.ports['ray']}"

    def env(self) -> dict[str, str]:
        """What drivers need to join, and what keeps Ray quiet and on the loopback address."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._state.secrets["ray_token"],
            "RAY_USAGE_STATS_ENABLED": "0",
            # Despite its name it works on Linux: 0 makes Ray stay on 127.0.0.1. Otherwise it replaces 127.0.0.1 by the
            # machine's outward address and listens on every interface.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            # A driver whose head is gone hears no signal until it gives up, after a minute. This head never comes back
            # by itself.
            "RAY_gcs_rpc_server_reconnect_timeout_s": "8",
        }

    def start(self) -> None:
        folder = self._fresh_folder()
        ports = self._state.ports
        argv = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        argv += [f"--node-ip-address={HOST}", f"--port={ports['ray']}", f"--temp-dir={folder}"]
        argv += ["--min-worker-port=0", "--max-worker-port=0", f"--dashboard-agent-listen-port={ports['ray_agent']}"]
        argv += ["--include-dashboard=false", "--include-log-monitor=false", "--disable-usage-stats"]
        argv += [f"--num-cpus={self._cpus}", f"--num-gpus={self._gpus}", f"--object-store-memory={_OBJECT_STORE_BYTES}"]
        env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FARM_"))}
        own = {
            "AUTOSCALER_METRIC_PORT": str(ports["ray_monitor"]),
            # On SIGTERM Ray waits this long for actors to leave. Ours are ended with it: their leases lapse.
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        }
        self.child.start(argv, {**env, **self.env(), **own}, cwd=self._data)
        self.child.wait_ready(self._answers, _START)

    def stop(self) -> None:
        self.child.stop()

    def _answers(self) -> bool:
        # Printed once the raylet has registered. Asking Ray itself would mean importing it: two seconds.
        return _STARTED in self.child.log.read_text(errors="replace")

    def _fresh_folder(self) -> Path:
        """Without the logs and sockets of the former run."""
        shutil.rmtree(self._state.folders.get("ray", ""), ignore_errors=True)
        folder = self._data / "ray"
        if len(str(folder)) > _LONGEST_FOLDER:
            folder = Path(tempfile.mkdtemp(prefix="halftone-", dir="/tmp"))
        folder.mkdir(mode=0o700, exist_ok=True)
        session = folder / "ray"  # Ray opens its own folder to everybody; the one around it stays closed
        self._state.folders["ray"] = str(folder)
        return session
