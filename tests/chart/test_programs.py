"""Commands in pods are verbs and flags that `farm` and `ray` have; their environment is what they read."""

import copy
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic_settings import BaseSettings

from farm.bootstrap import services
from farm.config import ApiSettings, MigrateSettings, RoleSettings, SchedulerSettings
from farm.core.errors import BadRequest
from tests.chart.environ import data_of, env_of, given_env, settings_of, unknown
from tests.chart.images import image_of
from tests.chart.pods import Pod, pods_of, ray_pods
from tests.chart.programs import Call, calls_of, faults_of
from tests.chart.references import addresses
from tests.chart.rendering import Object, Release, project_version
from tests.chart.variants import rendered

READS: dict[str, tuple[type[BaseSettings], ...]] = {
    "farm api": (ApiSettings,),
    "farm scheduler": (SchedulerSettings,),
    "farm migrate": (MigrateSettings,),
    "farm ready": (),
}
BESIDES = frozenset(services._NOT_SETTINGS)


def calls(release: Release) -> list[Call]:
    return [call for pod in pods_of(release) for call in calls_of(pod)]


def test_every_command_is_one_that_the_program_has(release: Release) -> None:
    assert [fault for call in calls(release) for fault in faults_of(call)] == []


def test_the_parts_of_the_farm_are_started(release: Release) -> None:
    verbs = {call.verb for call in calls(release)}
    migrates = {"farm migrate"} if release.values["migrations"]["enabled"] else set()
    assert verbs >= {"farm api", "farm scheduler", "ray start"} | migrates


def pod_with(words: list[str]) -> Pod:
    return Pod("Job/x", "Job", "halftone", {}, {}, {"containers": [{"name": "c", "image": "x", "command": words}]})


@pytest.mark.parametrize(
    "words",
    [
        ["farm", "shedule"],
        ["farm", "api", "--prot", "8080"],
        ["farm", "migrate", "--only", "shrink"],
        ["ray", "start", "--adress=head:6379"],
        ["ray", "start", "--num-cpus=few"],
        ["sh", "-c", "set -e; ray start --block --unknown=1"],
        ["farm", "ready", "--wait=$(NOBODY)"],
        ["farm"],
    ],
)
def test_a_command_that_the_program_has_not_would_show(words: list[str]) -> None:
    assert [fault for call in calls_of(pod_with(words)) for fault in faults_of(call)]


def test_each_container_of_ours_has_only_settings_that_its_verb_reads(release: Release) -> None:
    assert [fault for call in calls(release) for fault in unread(release, call)] == []


def unread(release: Release, call: Call) -> list[str]:
    if call.words[0] != "farm":
        return []
    kinds = reads(call)
    return [f"{call.where}: {name}" for name in unknown(kinds, given_env(release, call.container), BESIDES)]


def reads(call: Call) -> tuple[type[BaseSettings], ...]:
    """What a verb reads; `farm migrate --roles` also the passwords that it sets."""
    return (*READS[call.verb], *([RoleSettings] if "--roles" in call.words else []))


def test_a_setting_that_its_verb_does_not_read_would_show() -> None:
    release = rendered("production")
    call = next(call for call in calls(release) if call.verb == "farm api")
    container = copy.deepcopy(call.container)
    container["env"].append({"name": "FARM_LEASE_TTL", "value": "PT20S"})
    assert unread(release, Call(call.where, call.words, container)) == [f"{call.where}: FARM_LEASE_TTL"]


@pytest.mark.parametrize("verb", ["farm api", "farm scheduler", "farm migrate"])
def test_settings_are_whole_and_right(release: Release, verb: str) -> None:
    for call in calls(release):
        if call.verb == verb:
            for kind in reads(call):
                assert settings_of(kind, env_of(release, call.container)).model_fields_set


def test_a_missing_or_wrong_setting_would_show() -> None:
    release = rendered("production")
    call = next(call for call in calls(release) if call.verb == "farm scheduler")
    env = env_of(release, call.container)
    for change in ({"FARM_TICK": "soon"}, {"FARM_RAY_ADRESS": "x"}):
        with pytest.raises(BadRequest):
            settings_of(SchedulerSettings, {**env, **change})
    with pytest.raises(BadRequest):
        settings_of(SchedulerSettings, {name: value for name, value in env.items() if name != "FARM_RAY_ADDRESS"})


def test_ray_pods_have_no_settings_and_no_credentials_of_ours(release: Release) -> None:
    """A renderer holds neither database nor depot credentials: whoever breaks into one gets a few signed links."""
    for pod in pods_of(release):
        if pod.kind == "RayCluster":
            for container in pod.containers:
                assert [name for name in env_of(release, container) if "DATABASE" in name or "DEPOT" in name] == []


def test_the_api_and_the_scheduler_do_not_get_the_owner_s_password(release: Release) -> None:
    for call in calls(release):
        if call.verb in {"farm api", "farm scheduler"}:
            assert "FARM_OWNER_DATABASE_URL" not in env_of(release, call.container)


def test_servers_listen_on_the_ports_that_their_containers_name(release: Release) -> None:
    for call in calls(release):
        env = env_of(release, call.container)
        ports = {port["containerPort"] for port in call.container.get("ports", [])}
        if call.verb == "farm api":
            settings = settings_of(ApiSettings, env)
            assert (settings.api_host, {settings.api_port}) == ("0.0.0.0", ports)
        if call.verb == "farm scheduler":
            own = settings_of(SchedulerSettings, env)
            assert own.metrics_host == "0.0.0.0"
            assert own.metrics_port in ports


def test_addresses_inside_lead_somewhere(release: Release) -> None:
    assert lost(release) == []


def lost(release: Release) -> list[str]:
    """Addresses of this release's own services whose name or port is not there."""
    known, found = addresses(release), []
    for call in calls(release):
        env = env_of(release, call.container)
        flags = [word.partition("=")[2] for word in call.words if word.startswith("--address=")]
        for address in [
            env.get("FARM_RAY_ADDRESS"),
            env.get("FARM_DEPOT_ENDPOINT"),
            env.get("FARM_URL"),
            *flags,
            *urls(env),
        ]:
            host, port = parted(address or "")
            if host.startswith(release.name) and port not in known.get(host, set()):
                found.append(f"{call.where}: {host}:{port}")
    return found


def urls(env: dict[str, str]) -> list[str]:
    return [value for name, value in env.items() if name.endswith("DATABASE_URL")]


def parted(address: str) -> tuple[str, int]:
    split = urlsplit(address if "://" in address else f"tcp://{address}")
    standard = {"http": 80, "https": 443, "postgresql": 5432}.get(split.scheme, 0)
    return split.hostname or "", (split.port or standard) if "$" not in address else 0


def test_the_scheduler_and_its_raylet_know_the_head_s_address(release: Release) -> None:
    heads = [(host, port) for host, ports in addresses(release).items() if "head-svc" in host for port in ports]
    pod = next(pod for pod in pods_of(release) if pod.component == "scheduler")
    assert parted(env_of(release, pod.container("scheduler"))["FARM_RAY_ADDRESS"]) in heads
    joined = [call for call in calls_of(pod) if call.verb == "ray start"]
    assert len(joined) == 1
    assert {"--block", "--num-cpus=0", "--num-gpus=0"} <= set(joined[0].words)


def test_the_scheduler_finds_its_raylet_s_process_and_session(release: Release) -> None:
    """A Ray driver looks for its raylet among the processes, and for its socket below /tmp."""
    pod = next(pod for pod in pods_of(release) if pod.component == "scheduler")
    assert pod.spec["shareProcessNamespace"] is True
    raylet, own = pod.container("raylet"), pod.container("scheduler")
    folders = [{one["mountPath"]: one["name"] for one in each["volumeMounts"]}.get("/tmp") for each in (raylet, own)]
    assert folders[0] == folders[1] is not None
    users = {
        (one.get("securityContext") or {}).get("runAsUser", pod.spec["securityContext"].get("runAsUser"))
        for one in (raylet, own)
    }
    assert len(users) == 1
    volume = next(one for one in pod.spec["volumes"] if one["name"] == folders[0])
    assert "emptyDir" in volume


def test_everybody_who_speaks_to_ray_has_its_token(release: Release) -> None:
    pod = next(pod for pod in pods_of(release) if pod.component == "scheduler")
    secret = release.only("RayCluster")["spec"]["authOptions"]["secretName"]
    for name in ("raylet", "scheduler"):
        env = {one["name"]: one for one in pod.container(name)["env"]}
        assert env["RAY_AUTH_MODE"]["value"] == "token"
        assert env["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": secret, "key": "auth_token"}


def test_secrets_are_never_written_into_a_pod(release: Release) -> None:
    held = [data_of(release, "Secret", one["metadata"]["name"]) for one in release.of("Secret")]
    hidden = {value for each in held for key, value in each.items() if key != "depot-access-key"}
    ours = [each for pod in pods_of(release) for each in pod.containers if image_of(each)]  # a trial's stores are not
    plain = {str(one.get("value")) for each in ours for one in each.get("env", [])}
    assert sorted(hidden & plain) == []


def test_where_programs_write_a_volume_is_mounted(release: Release) -> None:
    for pod in pods_of(release):
        for container in pod.containers:
            if container["name"] == "wait-gcs-ready":
                continue
            assert unwritable(pod, container) == [], (pod.owner, container["name"])


def test_probes_of_ray_pods_ask_what_the_image_has(release: Release) -> None:
    """KubeRay would ask port 52365, which only the dashboard's agent of ray[default] opens; ours has none."""
    for pod in ray_pods(release):
        container = pod.spec["containers"][0]
        for key in ("livenessProbe", "readinessProbe"):
            assert {"exec", "tcpSocket"} & set(container[key]), (pod.owner, key)


def test_containers_run_as_the_user_of_their_image(release: Release) -> None:
    """Files in the image, its cache volume and Ray's sessions belong to that user."""
    for pod in pods_of(release):
        for container in pod.containers:
            if image := image_of(container):
                merged = {**pod.spec.get("securityContext", {}), **(container.get("securityContext") or {})}
                assert f"{merged['runAsUser']}:{merged['runAsGroup']}" == image.user, (pod.owner, container["name"])


def test_images_of_ours_have_the_chart_s_version(release: Release) -> None:
    for pod in pods_of(release):
        for container in pod.containers:
            name = image_of(container) and container["image"].partition("@")[0]
            assert not name or name.endswith(f":{project_version()}"), (pod.owner, container["image"])


def test_renderers_run_the_gpu_image_and_all_else_the_small_one(release: Release) -> None:
    for pod in pods_of(release):
        wanted = "renderer" if pod.component == "renderer" else "control"
        ours = {container["image"].partition(":")[0] for container in pod.containers if image_of(container)}
        assert all(name.endswith(f"/{wanted}") for name in ours), (pod.owner, ours)


def unwritable(pod: Pod, container: Object) -> list[str]:
    """Folders that a program writes to: Ray's sessions and everybody's temporary files, and its home."""
    mounts = {Path(one["mountPath"]) for one in container.get("volumeMounts", []) if not one.get("readOnly")}
    wanted = {Path("/tmp")} if pod.kind != "StatefulSet" else set()
    return [str(path) for path in wanted if not any(path.is_relative_to(mount) for mount in mounts)]
