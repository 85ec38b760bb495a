"""The chart's cluster, read by Ray's own autoscaler: nodes come for a campaign, are drained in it, change, and go."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.chart.environ import env_of
from tests.chart.kuberay import node_types
from tests.chart.rendering import Object, render
from tests.support.crash import Crashes
from tests.support.fake_nodes import FakeNode, FakeNodes, Kinds, fake_nodes
from tests.support.farm import live_farm
from tests.support.faults import Trial, until
from tests.support.trials import ENV

FLEETS = ("reserved", "spot")
NOTICE = 8
"""Seconds from the notice to the end of a pod; the chart's own times are in `tests/chart/test_times.py`."""

VALUES: Object = {
    "engine": {"kind": "fake", "fakeSeconds": 0.15, "batch": 2, "device": "cpu"},
    "renderers": {"drain": {"rowsSeconds": 5, "raySeconds": NOTICE, "graceSeconds": NOTICE + 5}},
    "scheduler": {
        "settings": {
            "FARM_LEASE_TTL": "PT15S",  # nobody may lose a lease by a drain
            "FARM_GARBAGE_GRACE": "PT31S",
            "FARM_FLEET_DRAIN_TIME": "PT1S",  # any backlog is worth all renderers
            "FARM_FLEET_IDLE_TIME": "PT3S",
        }
    },
    "fleets": [{"name": name, "renderers": 1, "cpu": "2", "memory": "16Gi"} for name in FLEETS],
}
_ELSEWHERE = ("DATABASE_URL", "FARM_DEPOT_", "FARM_METRICS_", "FARM_RAY_", "FARM_ENGINE_CACHE")
"""Addresses and paths are those of this machine."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What the chart tells the autoscaler, and what it tells the scheduler."""

    kinds: Kinds
    idle_seconds: float
    settings: Mapping[str, str]

    @property
    def nodes(self) -> list[tuple[str, str]]:
        """(fleet, revision) of one node each."""
        return sorted((fleet["name"], fleet["revision"]) for fleet in json.loads(self.settings["FARM_FLEETS"]))


def installed(tag: str) -> Installed:
    """The chart with an image of this *tag*; times of the autoscaler are a hundredth of what they are there."""
    release = render({**VALUES, "images": {"renderer": {"tag": tag}}})
    config, found = node_types(release.only("RayCluster"), release.namespace)
    scheduler = release.named("Deployment", "farm-halftone-scheduler")["spec"]["template"]["spec"]["containers"]
    env = env_of(release, next(one for one in scheduler if one["name"] == "scheduler"))
    return Installed(
        kinds={name: _small(kind) for name, kind in found.items()},
        idle_seconds=config["idle_timeout_minutes"] * 60 / 100,
        settings={
            name: value
            for name, value in env.items()
            if name.startswith("FARM_") and not any(part in name for part in _ELSEWHERE)
        },
    )


def _small(kind: Mapping[str, Any]) -> dict[str, Any]:
    """CPUs and GPUs are only counted; memory is really there, or not."""
    resources = {name: amount for name, amount in kind["resources"].items() if name != "memory"}
    return {**kind, "resources": {**resources, "object_store_memory": 80_000_000}}


@pytest.fixture(scope="module")
def chart() -> Installed:
    return installed("0.2.0")


@pytest.fixture(scope="module")
def nodes(chart: Installed) -> Iterator[FakeNodes]:
    with fake_nodes(chart.kinds, idle_seconds=chart.idle_seconds) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def running(nodes: FakeNodes, chart: Installed) -> Iterator[Trial]:
    with live_farm({**ENV, **chart.settings, **nodes.env, "FARM_RAY_ADDRESS": nodes.address}) as farm:
        yield Trial(farm, Crashes(farm.data.parent))


def standing(nodes: FakeNodes) -> list[tuple[str, str]]:
    """(fleet, revision) of each node."""
    return sorted((node.labels["fleet"], node.labels["revision"]) for node in nodes.nodes())


def gone(running: Trial, nodes: FakeNodes) -> None:
    until(lambda: not nodes.nodes(), "idle renderers were retired, and their nodes with them", seconds=120)
    assert running.query("SELECT count(*) FROM renderer WHERE ended_at IS NULL") == [(0,)]


def test_a_campaign_brings_a_node_of_each_fleet_and_when_it_is_done_they_go(
    running: Trial, nodes: FakeNodes, chart: Installed
) -> None:
    assert nodes.nodes() == []
    campaign = running.submit("autoscaled")
    until(lambda: standing(nodes) == chart.nodes, "each renderer has brought its node", seconds=120)
    ids = {node.id for node in nodes.nodes()}
    until(lambda: running.holders(campaign) == ids, "both render")
    running.end(campaign)
    gone(running, nodes)


def test_a_node_that_is_drained_in_a_campaign_loses_nothing(running: Trial, nodes: FakeNodes) -> None:
    campaign = running.begin("drained")
    until(lambda: len(running.holders(campaign)) == len(FLEETS), "both render", seconds=120)
    leaving = holder(running, nodes, campaign)
    nodes.drain(leaving, NOTICE)
    until(lambda: leaving.id not in running.holders(campaign), "it has handed back its work", seconds=NOTICE)
    leaving.raylet.kill()
    running.end(campaign)
    assert running.lost_leases(campaign) == 0
    gone(running, nodes)


def test_another_image_brings_nodes_of_its_own_in_the_middle_of_a_campaign_and_the_old_ones_go(
    running: Trial, nodes: FakeNodes, chart: Installed
) -> None:
    upgraded = installed("0.2.1")
    assert not set(upgraded.nodes) & set(chart.nodes)
    campaign = running.begin("new image")
    until(lambda: standing(nodes) == chart.nodes, "it renders on the old ones", seconds=120)
    nodes.reshape(upgraded.kinds)
    running.kill("scheduler")
    replace(running.farm, env={**running.farm.env, **upgraded.settings}).up()
    until(lambda: standing(nodes) == upgraded.nodes, "new nodes stand and the old ones are gone", seconds=120)
    running.end(campaign)
    gone(running, nodes)


def test_afterwards_every_promise_is_kept_and_no_orphan_is_left(running: Trial) -> None:
    running.audit()


def holder(running: Trial, nodes: FakeNodes, campaign: str) -> FakeNode:
    """A spot node: those are what a cloud takes back."""
    holders = running.holders(campaign)
    return next(node for node in nodes.nodes() if node.labels["fleet"] == "spot" and node.id in holders)
