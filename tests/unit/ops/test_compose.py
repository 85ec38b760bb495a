"""compose.yaml: Docker Compose itself reads it; settings, verbs, Prometheus and Grafana are held against the code."""

import importlib.resources
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from farm.bootstrap.services import read
from farm.config import ApiSettings, DepotSettings, MigrateSettings, RoleSettings, SchedulerSettings
from tests.support.images import DOCKER, DOCKERFILES, ROOT, environment, merged, new_env, parses
from tests.unit.docs.pages import command_lines

PINNED = re.compile(r"^[a-z0-9./-]+:[A-Za-z0-9._-]+@sha256:[0-9a-f]{64}$")
COMPOSE = DOCKER / "compose.yaml"
ONCE = {"migrate", "operator"}
READS: dict[str, tuple[type[BaseSettings], ...]] = {
    "api": (ApiSettings,),
    "scheduler": (SchedulerSettings,),
    "migrate": (MigrateSettings, RoleSettings),
    "operator": (MigrateSettings, DepotSettings),
}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file: Path = tmp_path_factory.mktemp("compose") / "env"
    new_env(file)
    return file


def composed(secrets: Path, *profiles: str) -> subprocess.CompletedProcess[str]:
    program = str(importlib.resources.files("compose") / "docker-compose")
    words = [word for profile in profiles for word in ("--profile", profile)]
    argv = [program, "--file", str(COMPOSE), "--env-file", str(secrets), *words, "config", "--format", "json"]
    return subprocess.run(argv, env={"HOME": str(secrets.parent)}, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def services(secrets: Path) -> dict[str, Any]:
    """Every service of every profile."""
    found = composed(secrets, "gpu", "cpu", "operator")
    assert found.returncode == 0, found.stderr
    return dict(json.loads(found.stdout)["services"])


def test_compose_takes_the_file_without_a_warning(secrets: Path) -> None:
    for profile in ("gpu", "cpu"):
        found = composed(secrets, profile)
        assert (found.returncode, found.stderr) == (0, "")


def test_without_passwords_compose_starts_nothing_and_says_what_makes_them(tmp_path: Path) -> None:
    empty = tmp_path / "env"
    empty.touch()
    found = composed(empty, "gpu")
    assert found.returncode != 0
    assert "make-env.sh" in found.stderr


def test_passwords_are_long_and_of_this_farm_alone(tmp_path: Path) -> None:
    named = [new_env(tmp_path / name) for name in ("one", "other")]
    kept = {name for name in named[0] if re.search(r"PASSWORD|_KEY|TOKEN", name)}
    assert len(kept) == 11
    values = [one[name] for one in named for name in sorted(kept)]
    assert all(re.fullmatch(r"[0-9a-f]{40}", value) for value in values)
    assert len(set(values)) == 2 * len(kept)


def test_passwords_are_for_their_owner_to_read_and_never_written_over(secrets: Path) -> None:
    assert secrets.stat().st_mode & 0o777 == 0o600
    before = secrets.read_text()
    with pytest.raises(subprocess.CalledProcessError):
        new_env(secrets)
    assert secrets.read_text() == before


def test_every_image_of_others_is_pinned_by_digest(services: Mapping[str, Any]) -> None:
    for service in services.values():
        assert "build" in service or PINNED.match(service["image"]), service["image"]


def test_every_port_is_open_on_this_machine_only(services: Mapping[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_every_service_that_stays_is_looked_after(services: Mapping[str, Any]) -> None:
    for name in set(services) - ONCE:
        assert services[name]["restart"] == "unless-stopped"
        assert name in {"node", "api"} or services[name]["healthcheck"]["test"][0] == "CMD"  # api: its image has it
        assert services[name]["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", sorted(READS))
def test_a_service_is_given_every_setting_that_it_needs_and_none_that_there_is_not(
    name: str, services: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = merged(environment(DOCKERFILES["control"]), services[name]["environment"])
    with monkeypatch.context() as patch:
        for variable, value in env.items():
            if variable.startswith("FARM_"):
                patch.setenv(variable, value)
        for kind in READS[name]:
            read(kind)


def test_passwords_go_to_those_alone_who_need_them(services: Mapping[str, Any]) -> None:
    holders = {
        name: {other for other, service in services.items() if name in (service.get("environment") or {})}
        for name in ("FARM_OWNER_DATABASE_URL", "FARM_SCHEDULER_DATABASE_URL", "FARM_DEPOT_SECRET_KEY")
    }
    assert holders["FARM_OWNER_DATABASE_URL"] == {"migrate", "operator"}
    assert holders["FARM_SCHEDULER_DATABASE_URL"] == {"migrate", "scheduler"}
    assert holders["FARM_DEPOT_SECRET_KEY"] == {"api", "scheduler", "operator"}


def test_commands_are_verbs_and_options_that_there_are(services: Mapping[str, Any]) -> None:
    from ray.scripts.scripts import cli as ray

    for name in ("api", "scheduler", "migrate"):
        parses(services[name]["command"])
    for name in ("ray", "ray-cpu"):
        words = services[name]["command"]
        assert words[:2] == ["ray", "start"]
        ray.commands["start"].make_context("start", words[2:])
        ray.commands["health-check"].make_context("health-check", services[name]["healthcheck"]["test"][3:])
    with pytest.raises(Exception, match="No such option"):  # of a click that typer keeps to itself
        parses(["migrate", "--rolls"])


def test_ray_and_the_scheduler_share_what_a_pod_shares(services: Mapping[str, Any]) -> None:
    for name in ("ray", "ray-cpu", "scheduler"):
        for space in ("pid", "ipc", "network_mode"):
            assert services[name][space] == "service:node"
        folders = {(volume["source"], volume["target"]) for volume in services[name]["volumes"]}
        assert ("scratch", "/tmp") in folders
    assert services["node"]["init"] is True


def test_a_renderer_has_time_to_hand_back_its_work(services: Mapping[str, Any]) -> None:
    drain = SchedulerSettings.model_fields["drain_time"].default.total_seconds()
    waits = float(services["ray"]["environment"]["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    assert drain < waits < seconds(services["ray"]["stop_grace_period"])


def seconds(text: str) -> float:
    parts = re.findall(r"(\d+)([ms])", text)
    return float(sum(int(number) * {"m": 60, "s": 1}[unit] for number, unit in parts))


# Prometheus and Grafana.


def test_prometheus_takes_its_configuration_and_the_rules(services: Mapping[str, Any], tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool of Debian's package prometheus is not there")
    for source, target in mounts(services["prometheus"]):
        assert source.exists()
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / target.relative_to("/etc/prometheus"))
    argv = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    found = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert len(re.findall(r"SUCCESS: \d+ rules found", found.stdout)) == len([*(ROOT / "ops/alerts/rules").iterdir()])


def test_prometheus_asks_services_on_its_network_at_their_ports(services: Mapping[str, Any]) -> None:
    config = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets["api"] == [f"api:{ApiSettings.model_fields['api_port'].default}"]
    assert targets["scheduler"] == [f"node:{SchedulerSettings.model_fields['metrics_port'].default}"]
    for name in ("api", "node"):
        assert set(services[name]["networks"]) & set(services["prometheus"]["networks"])


def test_grafana_finds_its_source_and_the_dashboards(services: Mapping[str, Any]) -> None:
    inside = {str(target): source for source, target in mounts(services["grafana"])}
    (source,) = yaml.safe_load((DOCKER / "grafana/datasources/prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((DOCKER / "grafana/dashboards/halftone.yaml").read_text())["providers"]
    boards = inside[provider["options"]["path"]]
    assert boards == ROOT / "ops/dashboards/json"
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (boards / home.relative_to(provider["options"]["path"])).is_file()


def mounts(service: Mapping[str, Any]) -> Iterator[tuple[Path, Path]]:
    for volume in service["volumes"]:
        if volume["type"] == "bind":
            assert volume["read_only"]
            yield Path(volume["source"]), Path(volume["target"])


# The page that says how.


def test_docker_commands_on_the_page_name_files_and_services_that_there_are(services: Mapping[str, Any]) -> None:
    lines = [words for page, words in command_lines() if page == "docs/deploying.md" and words[0] == "docker"]
    assert {words[1] for words in lines} == {"build", "compose", "push"}
    for words in lines:
        if "--file" in words:
            assert (ROOT / words[words.index("--file") + 1]).is_file()
        if words[1] == "compose":
            assert words[4] in {"build", "run", "stop", "up"}
            named, _, verb = " ".join(word for word in words[5:] if word not in {"--rm", "--detach"}).partition(
                "operator "
            )
            assert set(named.split()) <= set(services)
            if verb:
                parses(verb.split())
