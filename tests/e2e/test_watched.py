"""A farm at work is scraped as the chart says, and every panel and every alert finds what it asks for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import promql_parser as pql
import pytest

from farm.bootstrap import operating
from farm.core.ids import TeamId
from farm.core.ids import read as read_id
from farm.core.keys import source_key
from farm.embedded import SHIPPED
from farm.sdk import Client
from schemas.campaign import Budget, CampaignState, ProofSpec
from schemas.order import Lane
from schemas.style import Checks, StyleLora, StyleSpec
from schemas.team import TeamLimits
from tests.chart.variants import rendered
from tests.support.crash import Crashes
from tests.support.exposition import exposed
from tests.support.farm import QUICK, LiveFarm, live_farm
from tests.support.faults import Trial, until
from tests.support.prometheus import (
    PROMETHEUS,
    Prometheus,
    Target,
    now,
    prometheus,
    rule_groups,
    scrape_jobs,
    waited,
)
from tests.support.promql import filled_in, operands, panels, rules, selectors, without_offset

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (apt-get install prometheus)")

SETTINGS = {
    "FARM_SHARD_SECONDS": "2",
    "FARM_LEASE_TTL": "PT5S",  # garbage is looked for after five of them
    "FARM_LEADER_TTL": "PT3S",
    "FARM_LINK_TTL": "PT60S",
    "FARM_GARBAGE_GRACE": "PT70S",
    "FARM_GARBAGE_EVERY": "PT2S",
}

NOT_HERE = {
    "farm_gpu_power_watts": "a figure of NVIDIA's driver",
    "farm_gpu_power_limit_watts": "a figure of NVIDIA's driver",
    "farm_gpu_temperature_celsius": "a figure of NVIDIA's driver",
    "farm_gpu_throttled": "a figure of NVIDIA's driver",
    "farm_gpu_energy_joules_total": "a figure of NVIDIA's driver",
    "farm_gpu_ecc_errors_total": "a figure of NVIDIA's driver",
    'status=~"5.."': "no request of this farm breaks",
}
"""What a farm on processors that does well has not. It is asked of the same metrics filled by hand instead."""

ALWAYS = {
    "name": "always",
    "rules": [{"alert": "HalftoneOfTests", "expr": "vector(1)", "labels": {"severity": "info"}}],
}
"""One alert that fires, so that ALERTS has something."""


@dataclass(frozen=True, slots=True)
class Watched:
    prometheus: Prometheus
    start: float
    end: float

    def data(self, expr: str) -> bool:
        """Subqueries are asked by the second: within the half minute that this takes no full one may begin."""
        asked = re.sub(r":\w+\]", ":1s]", filled_in(expr))
        return bool(self.prometheus.series(asked, start=self.start, end=self.end))


def _absent(expr: str) -> bool:
    return any(what in expr for what in NOT_HERE)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    release, folder = rendered("everything"), tmp_path_factory.mktemp("prometheus")
    with live_farm(SETTINGS) as farm:
        ports = farm.parts.state.ports
        targets = [Target("api", ports["api"]), Target("scheduler", ports["metrics"])]
        jobs = scrape_jobs(release, targets, interval="1s")
        with prometheus(folder, jobs, [*rule_groups(release), ALWAYS]) as server:
            start = now()
            until(lambda: [health for _, health in server.up()] == ["up", "up"], "both are scraped")
            _work(farm)
            waited(server, "farm_garbage_last_success_timestamp_seconds", seconds=60)
            waited(server, 'ALERTS{alertstate="firing"}')
            yield Watched(server, start, now() + 1)  # what was seen just now, too


def _work(farm: LiveFarm) -> None:
    """Two teams, a price, budgets, a proof, checks that are missed, a spoiled source, and a preview."""
    operating.set_price("*", 1.2, farm.data)
    key = operating.add_team("second", farm.data)
    operating.set_team("second", TeamLimits(weight=2, budget=Budget(money=50)), farm.data)
    with Client(farm.parts.api_url, key) as second:
        style = StyleSpec(
            name="strict",
            loras=(StyleLora(lora="anime"),),
            guidance=1.0,
            steps=4,
            size="128x128",
            checks=Checks(structure=1.0, rerolls=1),
        )
        farm.client.save_style(style)
        proven = _proven(farm)
        strict = farm.spec("strict", variants=2)
        others = _of(second, farm, variants=8)
        block = strict.blocks[0].model_copy(update={"styles": ("strict",)})
        missed = farm.client.submit(strict.model_copy(update={"blocks": (block,)}), idempotency_key="strict").id
        look = farm.spec("a look", variants=1, photos=("rocket.jpg",)).model_copy(update={"lane": Lane.INTERACTIVE})
        farm.client.submit(look, idempotency_key="look")
        spoiled = _spoiled(farm)
        for client, campaign in ((farm.client, proven), (farm.client, missed), (second, others)):
            assert client.wait(campaign, timedelta(seconds=120)).state == CampaignState.DONE
        again = farm.spec("proven", variants=4)
        reused = farm.client.submit(again, idempotency_key="again").id
        assert farm.client.wait(reused, timedelta(seconds=60)).counts.reused > 0
        assert farm.client.wait(spoiled, timedelta(seconds=60)).counts.failed > 0


def _proven(farm: LiveFarm) -> str:
    spec = farm.spec("proven", variants=4).model_copy(
        update={"proof": ProofSpec(renders=2), "budget": Budget(money=5, warn_at=0.0001)}
    )
    campaign = farm.client.submit(spec, idempotency_key="proven").id
    asked = CampaignState.AWAITING_APPROVAL
    until(lambda: farm.client.campaign(campaign).state == asked, "the proof is there", seconds=90)
    farm.client.approve(campaign)
    return campaign


def _of(client: Client, farm: LiveFarm, *, variants: int) -> str:
    """Another team has a checkpoint, LoRAs, styles and sources of its own."""
    client.add_checkpoint("halftone-demo", SHIPPED / "checkpoint")
    for name in QUICK:
        lora = StyleLora(lora=name.removeprefix("quick-"))
        client.add_lora(lora.lora, SHIPPED / "loras" / f"{lora.lora}.safetensors")
        client.save_style(StyleSpec(name=name, loras=(lora,), guidance=1.0, steps=4, size="128x128"))
    own = LiveFarm(farm.data, client, farm.env)
    return client.submit(own.spec("the others", variants=variants), idempotency_key="others").id


def _spoiled(farm: LiveFarm) -> str:
    """Its source is not what was uploaded."""
    spec = farm.spec("spoiled", variants=1, photos=("astronaut.png",))
    source = spec.blocks[0].sources[0].source
    key = source_key(TeamId(read_id("team", farm.client.team().id)), source.removeprefix("src_"))
    Trial(farm, Crashes(farm.data.parent)).depot().put(key, b"no photo any more", "image/png")
    return farm.client.submit(spec, idempotency_key="spoiled").id


def test_prometheus_reaches_both_processes(watched: Watched) -> None:
    assert [health for _, health in watched.prometheus.up()] == ["up", "up"]


def test_every_rule_of_the_chart_is_loaded_without_an_error(watched: Watched) -> None:
    groups = watched.prometheus.ask("rules")["groups"]
    loaded = [rule for group in groups for rule in group["rules"] if rule["name"] != "HalftoneOfTests"]
    assert sorted(rule["name"] for rule in loaded) == sorted(name for name, _ in rules())
    assert [(rule["name"], rule.get("lastError")) for rule in loaded if rule["health"] != "ok"] == []


def test_every_panel_has_data_while_a_farm_works(watched: Watched) -> None:
    empty = [str(one) + ": " + one.expr for one in panels() if not _absent(one.expr) and not watched.data(one.expr)]
    assert empty == []


def test_every_series_that_a_panel_asks_for_was_there(watched: Watched) -> None:
    """An expression may end in `or vector(0)`: its parts are asked alone."""
    asked = {without_offset(one) for panel in panels() for one in selectors(pql.parse(filled_in(panel.expr)))}
    assert [one for one in sorted(asked) if not _absent(one) and not watched.data(one)] == []


def test_every_alert_sees_what_it_watches(watched: Watched) -> None:
    """Whether it fires or not: that nothing is wrong is told from that nothing is seen."""
    asked = {(name, part) for name, expr in rules() for part in operands(pql.parse(expr))}
    assert [one for one in sorted(asked) if not _absent(one[1]) and not watched.data(one[1])] == []


def test_what_a_farm_without_gpus_has_not_is_asked_of_the_same_metrics_filled(tmp_path: Path) -> None:
    with (
        exposed() as targets,
        prometheus(tmp_path, scrape_jobs(rendered("everything"), targets, interval="1s")) as server,
    ):
        start = now()
        for counter in ("farm_gpu_energy_joules_total", 'farm_api_requests_total{status=~"5.."}'):
            waited(server, f"rate({counter}[5s])")
        asked = [one.expr for one in panels()] + [part for _, e in rules() for part in operands(pql.parse(e))]
        filled = Watched(server, start, now() + 1)
        assert [one for one in asked if _absent(one) and not filled.data(one.replace("[15s]", "[5s]"))] == []


def test_nothing_is_left_out_without_a_need(watched: Watched) -> None:
    """What is named as not here is not here."""
    there = [what for what in NOT_HERE if "=" not in what and watched.data(what)]
    assert there == []
