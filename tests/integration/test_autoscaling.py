"""Ray's own autoscaler over fake nodes: renderers that wait bring nodes, renderers that are retired let them go."""

import json
from collections.abc import Iterator

import pytest

from tests.support.crash import Crashes
from tests.support.fake_nodes import FakeNodes, fake_nodes
from tests.support.farm import live_farm
from tests.support.faults import Trial, until
from tests.support.trials import ENV

KINDS = ("reserved", "spot")


@pytest.fixture(scope="module")
def nodes() -> Iterator[FakeNodes]:
    def node(kind: str) -> dict[str, object]:
        return {"resources": {"CPU": 2, "GPU": 1}, "labels": {"kind": kind}, "max_workers": 2}

    with fake_nodes({kind: node(kind) for kind in KINDS}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def running(nodes: FakeNodes) -> Iterator[Trial]:
    settings = {
        "FARM_RAY_ADDRESS": nodes.address,
        "FARM_FLEETS": json.dumps([{"name": kind, "renderers": 1, "labels": {"kind": kind}} for kind in KINDS]),
        "FARM_FLEET_DRAIN_TIME": "PT1S",  # any backlog is worth all renderers
        "FARM_FLEET_IDLE_TIME": "PT3S",
    }
    with live_farm({**ENV, **nodes.env, **settings}) as farm:
        yield Trial(farm, Crashes(farm.data.parent))


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_campaign_brings_a_node_of_each_fleet_and_when_it_is_done_they_go(
    running: Trial, nodes: FakeNodes, time: str
) -> None:
    assert nodes.kinds() == []
    campaign = running.submit(f"autoscaled {time}")
    until(lambda: nodes.kinds() == list(KINDS), "each renderer has brought its node", seconds=120)
    running.end(campaign)
    until(lambda: not nodes.kinds(), "idle renderers were retired, and their nodes with them", seconds=120)
    assert running.query("SELECT count(*) FROM renderer WHERE ended_at IS NULL") == [(0,)]
