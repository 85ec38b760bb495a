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


@dataclass(frozen=True, slots=True)
class FakeNodes:
    """``env`` is for whatever joins the cluster."""

    address: str
    env: Mapping[str, str]
    mark: str

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

    def kinds(self) -> list[str]:
        """The label ``kind`` of each node beside the head."""
        labels = [_labels(process) for process in self.processes() if _name(process) == "raylet"]
        return sorted(label["kind"] for label in labels if label)


@contextmanager
def fake_nodes(kinds: Mapping[str, Mapping[str, Any]], *, idle_seconds: float = 2.0) -> Iterator[FakeNodes]:
    """*kinds*: node types as the autoscaler knows them (``resources``, ``labels``, ``max_workers``), by name."""
    folder = Path(tempfile.mkdtemp(prefix="nodes-", dir="/tmp"))
    mark, port = secrets.token_hex(8), free_port(())
    address = f"{get_node_ip_address()}:{port}"  # type: ignore[no-untyped-call]
    env = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(20),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # nodes beyond the loopback address
    }
    cluster = FakeNodes(address, env, mark)
    config = folder / "autoscaler.json"
    config.write_text(json.dumps(_config(mark, address, kinds, idle_seconds)))
    try:
        _start_head(port, folder, {**env, _MARK: mark})
        yield cluster
    finally:
        _end(cluster)
        shutil.rmtree(folder, ignore_errors=True)


def _config(mark: str, address: str, kinds: Mapping[str, Mapping[str, Any]], idle_seconds: float) -> dict[str, Any]:
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
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FARM_"))}
    subprocess.run(argv, env={**inherited, **own, **env}, check=True, stdout=subprocess.DEVNULL)


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


def _labels(raylet: psutil.Process) -> dict[str, str]:
    """Empty for the head, and for one that has just ended."""
    try:
        words = raylet.cmdline()
    except psutil.Error:
        return {}
    text = next((word.removeprefix("--labels=") for word in words if word.startswith("--labels=")), "")
    return dict(json.loads(text)) if text else {}
