"""Quotes, proofs, changes and the queue through the API, over a real database and under its own roles."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from starlette.testclient import TestClient

from farm.api.app import create_app
from farm.config import ApiSettings
from farm.core.ids import CampaignId, read
from farm.depot.memory import MemoryDepot
from farm.store import operators
from farm.store.postgres import PostgresStore
from schemas.campaign import Budget, PausedBy
from schemas.team import TeamLimits
from tests.support.parts import Database
from tests.unit.api.scheduling import GPU, Scheduler
from tests.unit.api.test_steering import asked, queue, shown, submitted
from tests.unit.api.world import CHECKPOINT, KEY, FakeClock, lora_of, picture, tar_of

SETTINGS = {"depot_endpoint": "-", "depot_access_key": "-", "depot_secret_key": "-", "api_database_url": "-"}
STYLES = ({"name": "anime", "loras": [{"lora": "anime"}]}, {"name": "noir", "prompt": "{prompt}, noir"})


@dataclass
class Farm:
    http: TestClient
    scheduler: Scheduler
    sources: list[str]
    owner: str

    def submit(self, **more: Any) -> str:
        return submitted(self.http, self.sources, **more)

    def quote(self, **more: Any) -> dict[str, Any]:
        block = {"sources": [{"source": one} for one in self.sources], "styles": ["anime", "noir"]}
        answer = self.http.post("/v1/quotes", json={"name": "q", "blocks": [block | more.pop("block", {})]} | more)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@pytest.fixture
def farm(database: Database) -> Iterator[Farm]:
    operators.migrate(database.owner)
    with psycopg.connect(database.superuser) as connection:
        connection.execute("INSERT INTO team (team_id, name) VALUES (1, 'ours')")
        digest = hashlib.sha256(KEY.encode()).digest()
        connection.execute("INSERT INTO api_key (key_id, team_id, name, digest) VALUES (1, 1, 'k', %s)", (digest,))
    api, leading = PostgresStore(database.api, pool=2), PostgresStore(database.scheduler, pool=1)
    app = create_app(ApiSettings.model_validate(SETTINGS), api, MemoryDepot(), FakeClock())
    with TestClient(app, headers={"Authorization": f"Bearer {KEY}"}) as http:
        assert http.post("/v1/checkpoints?name=tiny", content=tar_of(CHECKPOINT)).status_code == 201
        assert http.post("/v1/loras?name=anime", content=lora_of()).status_code == 201
        for style in STYLES:
            assert http.post("/v1/styles", json=style | {"steps": 10, "size": "64x64"}).status_code == 201
        sources = [http.post(f"/v1/sources?name={n}.png", content=picture(n)).json()["id"] for n in (1, 2)]
        yield Farm(http, Scheduler(leading), sources, database.owner)
    leading.close()
    api.close()


def test_from_a_quote_over_a_proof_to_an_edit_that_renders_only_what_changed(farm: Farm) -> None:
    operators.set_price(farm.owner, GPU, 36.0)
    farm.scheduler.shows()
    block = {"strengths": [0.3, 0.6], "variants": 5}
    quoted = farm.quote(block=block)
    assert (quoted["renders"], quoted["reused"], quoted["gpus"]) == (40, 0, {GPU: 1.0})
    assert quoted["money"]["expected"] == pytest.approx(quoted["gpu_seconds"]["expected"] / 100, rel=0.01)

    parent = farm.submit(block=block, proof={}, budget={"money": 5.0})
    assert farm.scheduler.render(parent, seconds=2.0, price=36.0) == 4
    waiting = shown(farm.http, parent)
    assert (waiting["state"], waiting["counts"]["queued"]) == ("awaiting_approval", 36)
    assert waiting["spent"] == {"gpu_seconds": 8.0, "money": pytest.approx(0.08)}
    assert waiting["quote"]["gpu_seconds"] == quoted["gpu_seconds"]

    child = farm.submit(block=block | {"styles": ["noir"]}, proof={}, parent=parent)
    assert shown(farm.http, parent)["state"] == "cancelling"
    assert shown(farm.http, child)["quote"]["reused"] == 2
    assert asked(farm.http, child, "approve") == (200, "active")
    assert asked(farm.http, child, "approve") == (200, "active")
    assert farm.scheduler.render(child) == 20
    assert shown(farm.http, child)["state"] == "done"


def test_campaigns_are_steered(farm: Farm) -> None:
    first, second = farm.submit(), farm.submit()
    assert queue(farm.http) == [first, second]
    assert asked(farm.http, second, "move", before=first) == (200, "active")
    assert queue(farm.http) == [second, first]
    proof = farm.submit(proof={})
    assert queue(farm.http) == [proof, second, first], "proofs go ahead"
    changed = farm.http.patch(f"/v1/campaigns/{first}", json={"priority": 80, "budget": {"money": 3.0}})
    assert (changed.status_code, changed.json()["budget"]["money"]) == (200, 3.0)
    assert queue(farm.http) == [proof, first, second]
    assert asked(farm.http, proof, "move", to="back") == (200, "proofing")
    assert asked(farm.http, proof, "approve") == (200, "active")
    assert queue(farm.http) == [first, second, proof]
    assert asked(farm.http, second, "pause") == (200, "paused")
    assert asked(farm.http, second, "resume") == (200, "active")
    number = CampaignId(read("cmp", first))
    with farm.scheduler.tx() as tx:
        tx.warn(number, "budget_near", "80% is spent.", {})
        tx.pause(number, PausedBy.BUDGET, "All of it is spent.")
    found = shown(farm.http, first)
    assert (found["state"], found["paused_by"], found["warnings"]) == ("paused", "budget", ["budget_near"])
    assert asked(farm.http, first, "resume") == (409, "budget_spent")
    assert asked(farm.http, first, "pause") == (200, "paused")
    assert asked(farm.http, first, "resume") == (200, "active")
    assert asked(farm.http, first, "cancel") == (200, "cancelling")


def test_why_and_the_team_are_answered(farm: Farm) -> None:
    campaign = farm.submit()
    farm.scheduler.shows()
    why = farm.http.get(f"/v1/campaigns/{campaign}/why").json()
    assert (why["campaign"], why["code"]) == (campaign, "queued")
    farm.scheduler.render(campaign, seconds=9.0, price=100.0)
    assert farm.http.get(f"/v1/campaigns/{campaign}/why").json()["code"] == "ended"
    operators.set_limits(farm.owner, "ours", TeamLimits(weight=2, quota=3, budget=Budget(money=10)))
    team = farm.http.get("/v1/team").json()
    assert (team["weight"], team["quota"], team["budget"]["money"]) == (2.0, 3, 10.0)
    assert team["spent"] == {"gpu_seconds": 36.0, "money": pytest.approx(1.0)}


def test_a_million_renders_are_quoted_and_submitted_with_a_proof(farm: Farm) -> None:
    block = {"variants": 10_000, "prompts": [str(n) for n in range(25)]}
    assert farm.quote(block=block)["renders"] == 1_000_000
    campaign = farm.submit(block=block, proof={"renders": 10})
    assert farm.scheduler.render(campaign) == 10
    assert shown(farm.http, campaign)["state"] == "awaiting_approval"
