"""Ray's head is lost in the middle of a campaign: what it costs without a Redis that keeps its state, and with one."""

from collections.abc import Iterator

import pytest

from tests.support.crash import Crashes
from tests.support.farm import live_farm
from tests.support.faults import Trial, until
from tests.support.ray_pods import joined, ray_pods, without_ray
from tests.support.redis import has_redis, running_redis
from tests.support.trials import ENV, PATIENT

SETTINGS = {"FARM_FLEET_RENDERERS": "2"}


@pytest.fixture(scope="module")
def running() -> Iterator[Trial]:
    with live_farm({**ENV, **SETTINGS}) as farm, without_ray(farm):
        yield Trial(farm, Crashes(farm.data.parent))


def sessions(running: Trial) -> set[str]:
    """Of the renderers that work."""
    return {str(session) for (session,) in running.query("SELECT session FROM renderer WHERE ended_at IS NULL")}


def test_a_head_without_redis_takes_its_renderers_along_and_new_ones_finish_the_campaign(running: Trial) -> None:
    """The pods live on; what Ray ran in them ends and starts anew, a scheduler that had joined too."""
    cluster = ray_pods(RAY_gcs_rpc_server_reconnect_timeout_s="10")
    impatient = {**SETTINGS, "FARM_FLEET_PATIENCE": "PT5S"}
    with cluster.head() as head, cluster.node(2) as node, cluster.scheduler(running.farm, settings=impatient) as pod:
        campaign, before = running.begin("head lost"), sessions(running)
        head.containers["ray-head"].kill()
        until(lambda: joined(head, "ray-head", 2), "a new head is up")
        until(lambda: joined(node, "ray-worker", 2), "the node has joined it", seconds=120)
        until(lambda: pod.containers["scheduler"].ended, "the scheduler has given up", seconds=120)
        until(lambda: sessions(running) - before, "new renderers work", seconds=120)
        running.end(campaign)
        assert 0 not in pod.containers["scheduler"].ended
        assert not sessions(running) & before
        running.audit()


@pytest.mark.skipif(not has_redis(), reason="there is no redis-server: apt-get install redis-server")
def test_a_head_with_redis_comes_back_to_renderers_that_live_on(running: Trial) -> None:
    with running_redis() as redis:
        cluster, patient = ray_pods(redis.head_env), {**SETTINGS, **PATIENT}
        with cluster.head() as head, cluster.node(2) as node, cluster.scheduler(running.farm, settings=patient) as pod:
            campaign, before = running.begin("head back"), sessions(running)
            head.containers["ray-head"].kill()
            until(lambda: joined(head, "ray-head", 2), "the head is back")
            running.end(campaign)
            assert running.lost_leases(campaign) == 0
            running.end(running.submit("after the head was back"))
            assert sessions(running) == before, "the renderers are the same processes"
            ended = [one.ended for made in (node, pod) for one in made.containers.values()]
            assert ended == [[], [], []], "neither the node nor the scheduler was started anew"
            running.audit()
