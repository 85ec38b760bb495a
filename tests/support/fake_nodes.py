"""A Ray cluster whose autoscaler starts and ends nodes that are processes of this machine.

`ray.cluster_utils.AutoscalingCluster` would do, but the file that it reads is not in Ray's wheel, and its start and end
run ``ray stop``, which ends every Ray of the machine. This one has a port, a folder and a token of its own, and ends
only processes that carry its mark.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ray.util import get_node_ip_address

from farm.embedded.ports import free_port

_HEAD = "f" * 51 + "00000"  # the provider of fake nodes knows its head by this id
_HEAD_TYPE = "ray.head.default"  # so does this
_MARK = "FAKE_NODES"
_EMPTY_LISTS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")


Kinds = Mapping[str, Mapping[str, Any]]
"""Node types by name, as the autoscaler knows them: ``resources``, ``labels``, ``max_workers``."""


@dataclass(frozen=True, slots=True)
class FakeNode:
    """One that the autoscaler has started: its raylet, and what labels it was given."""

    raylet: psutil.Process
    id: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FakeNodes:
    """``env`` is for whatever joins the cluster."""

    address: str
    env: Mapping[str, str]
    mark: str
    config: Path
    idle_seconds: float

    def processes(self) -> list[psutil.Process]:
        """Of the head, its autoscaler, and every node."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(_MARK) == self.mark:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def nodes(self) -> list[FakeNode]:
        """Those beside the head."""
        found = (_node(process) for process in self.processes() if _name(process) == "raylet")
        return [node for node in found if node is not None]

    def reshape(self, kinds: Kinds) -> None:
        """Other node types from now on, as a changed RayCluster brings them: nodes that run stay as they are."""
        draft = self.config.with_suffix(".new")
        draft.write_text(json.dumps(_config(self.mark, self.address, kinds, self.idle_seconds)))
        draft.replace(self.config)

    def drain(self, node: FakeNode, seconds: int) -> None:
        """Tells Ray that the node goes for good in *seconds*, as a pod that is ended does."""
        argv = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", f"--address={self.address}"]
        argv += [f"--node-id={node.id}", "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=its pod ends"]
        argv += [f"--deadline-remaining-seconds={seconds}"]
        done = subprocess.run(argv, env={**_inherited(), **self.env}, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@contextmanager
def fake_nodes(kinds: Kinds, *, idle_seconds: float = 2.0) -> Iterator[FakeNodes]:
    """A head without GPUs, and an autoscaler that starts nodes of these *kinds*."""
    folder = Path(tempfile.mkdtemp(prefix="nodes-", dir="/tmp"))
    mark, port = secrets.token_hex(8), free_port(())
    address = f"{get_node_ip_address()}:{port}"  # type: ignore[no-untyped-call]
    env = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(20),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # nodes beyond the loopback address
    }
    cluster = FakeNodes(address, env, mark, folder / "autoscaler.json", idle_seconds)
    cluster.reshape(kinds)
    try:
        _start_head(port, folder, {**env, _MARK: mark})
        yield cluster
    finally:
        _end(cluster)
        shutil.rmtree(folder, ignore_errors=True)


def _config(mark: str, address: str, kinds: Kinds, idle_seconds: float) -> dict[str, Any]:
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    provider = {
        "type": "external",  # fake_multinode, which Ray has for it, reads the missing file
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": address,
        "head_node_id": _HEAD,
        "launch_multiple": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    }
    return {
        "cluster_name": mark,
        "max_workers": sum(kind["max_workers"] for kind in kinds.values()),
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": idle_seconds / 60,
        "provider": provider,
        "available_node_types": {
            **{name: {"node_config": {}, **kind} for name, kind in kinds.items()},
            _HEAD_TYPE: head,
        },
        "head_node_type": _HEAD_TYPE,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        **{f"{name}_commands": [] for name in _EMPTY_LISTS},
    }


def _start_head(port: int, folder: Path, env: Mapping[str, str]) -> None:
    argv = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}", "--num-cpus=0"]
    argv += [f"--autoscaling-config={folder / 'autoscaler.json'}", "--include-dashboard=false", "--num-gpus=0"]
    argv += ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
    argv += ["--object-store-memory=100000000", "--disable-usage-stats"]
    own = {
        "RAY_TMPDIR": str(folder),
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": _HEAD,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "AUTOSCALER_METRIC_PORT": str(free_port((port,))),
    }
    subprocess.run(argv, env={**_inherited(), **own, **env}, check=True, stdout=subprocess.DEVNULL)


def _end(cluster: FakeNodes) -> None:
    """The autoscaler first: it would start nodes anew."""
    while running := cluster.processes():
        for process in sorted(running, key=lambda each: _name(each) != "python"):
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(running, timeout=5)


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return ""


def _node(raylet: psutil.Process) -> FakeNode | None:
    """None for the head, and for one that has just ended."""
    try:
        words = raylet.cmdline()
    except psutil.Error:
        return None
    given = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
    labels = json.loads(given.get("labels") or "{}")
    return FakeNode(raylet, given["node_id"], labels) if labels else None


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FARM_"))}
