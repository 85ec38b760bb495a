"""Ray's own autoscaler over fake nodes: renderers that wait bring nodes, renderers that are retired let them go."""

from collections.abc import Iterator

import pytest

from tests.support.crash import Crashes
from tests.support.fake_nodes import FakeNodes, fake_nodes
from tests.support.farm import live_farm
from tests.support.faults import ENV, Trial, until

KINDS = {"gpu": {"resources": {"CPU": 2, "GPU": 1}, "labels": {"kind": "spot"}, "max_workers": 2}}


@pytest.fixture(scope="module")
def nodes() -> Iterator[FakeNodes]:
    with fake_nodes(KINDS) as cluster:
        yield cluster


def test_a_campaign_brings_nodes_and_when_it_is_done_they_go(nodes: FakeNodes) -> None:
    settings = {"FARM_RAY_ADDRESS": nodes.address, "FARM_FLEET_RENDERERS": "2", "FARM_FLEET_IDLE_TIME": "PT3S"}
    with live_farm({**ENV, **nodes.env, **settings}) as farm:
        running = Trial(farm, Crashes(farm.data.parent))
        assert nodes.count() == 0
        campaign = running.submit("autoscaled")
        until(lambda: nodes.count() == 2, "each renderer has brought a node", seconds=120)
        running.end(campaign)
        assert running.query("SELECT count(DISTINCT node) FROM renderer") == [(2,)]
        until(lambda: nodes.count() == 0, "idle renderers are retired, and their nodes with them", seconds=120)
        assert nodes.count() == 0
