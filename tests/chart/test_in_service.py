"""What only shows once a release lives: large numbers, changed passwords, a head that is away, a shared Redis."""

import json

import pytest

from farm.config import ApiSettings
from tests.chart.environ import env_of, settings_of
from tests.chart.pods import pods_of
from tests.chart.rendering import Object, Release, laid_over, render
from tests.chart.variants import REDIS, rendered, values_of


def pod_template(release: Release, part: str) -> Object:
    made: Object = release.named("Deployment", f"farm-halftone-{part}")["spec"]["template"]
    return made


def test_large_numbers_are_written_out() -> None:
    """Helm reads numbers as floats: 20000000 would become 2e+07, which neither pydantic nor the API server takes."""
    release = render(
        {
            "api": {"settings": {"FARM_MAX_CAMPAIGN_RENDERS": 20_000_000, "FARM_SHARD_SECONDS": 22.5}},
            "migrations": {
                "useHelmHooks": False,
                "ttlSecondsAfterFinished": 1_000_000,
                "activeDeadlineSeconds": 1_000_000,
            },
        }
    )
    pod = next(pod for pod in pods_of(release) if pod.component == "api")
    settings = settings_of(ApiSettings, env_of(release, pod.container("api")))
    assert (settings.max_campaign_renders, settings.shard_seconds) == (20_000_000, 22.5)
    (job,) = release.of("Job")
    assert {job["spec"][key] for key in ("ttlSecondsAfterFinished", "activeDeadlineSeconds")} == {1_000_000}
    assert [type(job["spec"]["ttlSecondsAfterFinished"])] == [int]


@pytest.mark.parametrize("part", ["api", "scheduler"])
def test_a_changed_password_in_the_values_starts_pods_anew(part: str) -> None:
    change = {"secrets": {"values": {"apiDatabaseUrl": "postgresql://farm_api:new@db.example:5432/halftone"}}}
    before = rendered("secrets in the values")
    after = render(laid_over(values_of("secrets in the values"), change))
    assert pod_template(before, part) != pod_template(after, part)
    assert "new" not in str(pod_template(after, part)["metadata"])


def test_without_rendered_secrets_pods_have_no_sum_of_them() -> None:
    assert "annotations" not in pod_template(rendered("defaults"), "api")["metadata"]


@pytest.mark.parametrize("variant", ["defaults", "redis"])
def test_a_scheduler_is_not_killed_while_it_waits_for_a_head_that_comes_back(variant: str) -> None:
    pod = next(pod for pod in pods_of(rendered(variant)) if pod.component == "scheduler")
    container = pod.container("scheduler")
    probe = container["livenessProbe"]
    (waits,) = (one["value"] for one in container["env"] if one["name"] == "RAY_gcs_rpc_server_reconnect_timeout_s")
    assert probe["periodSeconds"] * probe["failureThreshold"] > int(waits)


def test_two_farms_may_share_a_redis() -> None:
    """Without a namespace of the chart's, KubeRay takes the cluster's UID: unlike its name, nobody else has that."""
    assert "externalStorageNamespace" not in rendered("redis").only("RayCluster")["spec"]["gcsFaultToleranceOptions"]


@pytest.mark.parametrize(
    ("address", "given", "port"),
    [("redis:6379", None, 6379), ("rediss://redis:6380", None, 6380), ("redis:1", 6390, 6390)],
)
def test_the_way_to_redis_is_open_at_its_port(address: str, given: int | None, port: int) -> None:
    release = render(
        {
            "ray": {"redis": {**REDIS, "address": address}},
            "networkPolicy": {"redis": {"port": given}},
        }
    )
    (rule,) = release.named("NetworkPolicy", "farm-halftone-to-redis")["spec"]["egress"]
    assert [one["port"] for one in rule["ports"]] == [port]


def test_the_first_command_of_the_notes_passes_a_restricted_namespace_and_shows_no_password() -> None:
    notes = next(text for path, text in rendered("defaults").files.items() if path.endswith("NOTES.txt"))
    assert "--override-type strategic" in notes
    text = notes.partition("--overrides '")[2].partition("'")[0]
    spec = json.loads(text)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    (container,) = spec["containers"]
    assert container["name"] == notes.partition(" run ")[2].split()[0]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "halftone", "key": "owner-database-url"}
