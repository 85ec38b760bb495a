"""A whole farm on this machine: `farm up`, `farm down`, and what they say."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

import yaml

from farm.bootstrap.services import new_key
from farm.embedded import SHIPPED, EmbeddedFarm, Service, Started
from farm.sdk import ApiError, Client
from schemas.style import StyleSpec

_SHOWN = ("api", "metrics", "postgres", "s3", "ray")
_PARTS = ("postgres", "s3", "ray", "api", "scheduler")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Running:
    """A farm that is up, and how to reach it."""

    url: str
    key: str
    data: Path
    ports: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    state: str  # up, down
    port: int | None


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    ok: bool
    detail: str


def up(data: Path, *, renderers: int | None, on_step: Say, env: Mapping[str, str] | None = None) -> Running:
    """Starts what does not run; then the farm has a team, a key, a checkpoint and four styles. Idempotent.

    *env* goes to the services on top of their settings. Raises `PartFailed`.
    """
    count = renderers or _gpus() or max(1, min(2, os.cpu_count() or 1))
    farm = EmbeddedFarm(data, renderers=count)
    before = farm.running()
    if not all(before.get(name) for name in _PARTS):
        on_step(f"Starting the farm in {farm.data}")
    started = farm.up(_services(farm, {**_engine_env(count), **(env or {})}))
    _say_started(farm, started, renderers, on_step)
    running = Running(farm.api_url, _key(farm), farm.data, {name: farm.state.ports[name] for name in _SHOWN})
    _write_client(running)
    with Client(running.url, running.key) as client:
        _furnish(client, on_step)
    return running


def _say_started(farm: EmbeddedFarm, started: Started, asked: int | None, on_step: Say) -> None:
    count = farm.state.renderers
    with_them = "1 renderer" if count == 1 else f"{count} renderers"
    if started.already:
        on_step(f"The farm in {farm.data} runs already, with {with_them}.")
    else:
        on_step("Started " + ", ".join(f"{name} ({seconds:.1f} s)" for name, seconds in started.seconds.items()))
    if asked not in (None, count):
        on_step(f"It goes on with {with_them}, not {asked}: `farm down` first, then `farm up --renderers {asked}`.")


def down(data: Path, *, on_step: Say) -> bool:
    """Ends the farm in *data*; False when none ran."""
    if not (data / "state.json").exists():
        return False
    farm = EmbeddedFarm(data)
    ran = any(farm.running().values())
    if ran:
        ports = ", ".join(f"{name} {farm.state.ports[name]}" for name in _SHOWN if name in farm.state.ports)
        on_step(f"Ending the farm in {farm.data} (ports: {ports})")
    farm.down()
    return ran


def status(data: Path) -> list[Part]:
    if not (data / "state.json").exists():
        return []
    farm = EmbeddedFarm(data)
    ports = {**farm.state.ports, "scheduler": farm.state.ports.get("metrics")}
    once = {"migrate"}
    return [
        Part(name, "up" if alive else "down", ports.get(name))
        for name, alive in farm.running().items()
        if name not in once
    ]


def doctor(data: Path) -> list[Finding]:
    """What can be seen from outside the API: disk, parts, logs."""
    free = shutil.disk_usage(data if data.exists() else Path.cwd()).free
    enough = free > 2**30
    space = f"{free / 2**30:.1f} GiB free" + ("" if enough else "; pictures may not fit, make room")
    findings = [Finding("disk", enough, space)]
    parts = status(data)
    if not parts:
        return [*findings, Finding("farm", False, f"none in {data}; `farm up` starts one")]
    for part in parts:
        log = EmbeddedFarm(data).log(part.name)
        detail = f"port {part.port}" if part.state == "up" else f"does not run; see {log}, then `farm up`"
        findings.append(Finding(part.name, part.state == "up", detail))
    return findings


def _services(farm: EmbeddedFarm, env: Mapping[str, str]) -> list[Service]:
    def command(verb: str) -> list[str]:
        return [sys.executable, "-m", "farm", verb]

    return [
        Service("migrate", command("migrate"), once=True),
        Service(
            "api",
            command("api"),
            ready=lambda: _listens(farm.state.ports["api"]),
            env=env,
            hidden=("FARM_OWNER_DATABASE_URL", "FARM_SCHEDULER_DATABASE_URL", "RAY_AUTH_TOKEN"),
        ),
        # 60 s and more on a cold disk: it imports Ray and joins the cluster.
        Service(
            "scheduler",
            command("scheduler"),
            ready=lambda: _ready(farm.state.ports["metrics"]),
            env=env,
            hidden=("FARM_OWNER_DATABASE_URL", "FARM_API_DATABASE_URL"),
            timeout=timedelta(seconds=120),
        ),
    ]


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:  # HTTPError is one
        return False


def _engine_env(renderers: int) -> dict[str, str]:
    """Leases are short, since one machine hears itself at once."""
    return {
        **({} if _gpus() else _cpu_env(renderers, os.cpu_count() or 1)),
        "FARM_LEASE_TTL": "PT15S",
        "FARM_LEADER_TTL": "PT6S",
        "FARM_FLEET_DRAIN_TIME": "PT0S",  # the machine is there anyway: every renderer that a shard waits for
        "FARM_FLEET_IDLE_TIME": "PT30M",
    }


def _cpu_env(renderers: int, cores: int) -> dict[str, str]:
    """The renderers share the cores, and what stands for GPU memory is RAM. A process that encodes pictures is of use
    only where a core is left for it."""
    return {
        "FARM_ENGINE_THREADS": str(max(1, cores // renderers)),
        "FARM_ENGINE_ENCODERS": str(int(cores >= 4 * renderers)),
        "FARM_ENGINE_RAM_BYTES": str(2**30),
        "FARM_ENGINE_GPU_BYTES": str(2**30),
    }


def _gpus() -> int:
    """NVIDIA GPUs of this machine, without loading torch."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False, timeout=30)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _key(farm: EmbeddedFarm) -> str:
    key = farm.state.notes.get("api_key")
    if key is None:
        key = new_key(farm.settings_env()["FARM_OWNER_DATABASE_URL"], "default")
        farm.remember("api_key", key)
    return key


def _write_client(running: Running) -> None:
    path = running.data / "client.json"
    draft = path.with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps({"url": running.url, "key": running.key}))
    draft.replace(path)


def _furnish(client: Client, on_step: Say) -> None:
    """The checkpoint, LoRAs and styles that a new farm has. What a former try left out is added."""
    _wait_ready(client)
    styles = [StyleSpec.model_validate(spec) for spec in yaml.safe_load((SHIPPED / "styles.yaml").read_text())]
    if {style.name for style in client.styles()} >= {style.name for style in styles}:
        return
    client.add_checkpoint("halftone-demo", SHIPPED / "checkpoint")
    for style in styles:
        for lora in style.loras:
            file = SHIPPED / "loras" / f"{lora.lora}.safetensors"
            client.add_lora(lora.lora, file, trigger_words=(f"{lora.lora} style",), licence="Apache-2.0")
        client.save_style(style)
    on_step(f"Added the checkpoint halftone-demo and the styles {', '.join(style.name for style in styles)}")


def _wait_ready(client: Client, timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            return client.ready()
        except ApiError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)  # the parts have just begun to listen
