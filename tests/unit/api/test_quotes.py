"""What a campaign is foretold to cost, and what is refused before it costs anything."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from farm.api import examples
from farm.core.ids import CampaignId, read
from schemas.campaign import CampaignAmend, CampaignMove, CampaignSpec
from tests.unit.api.scheduling import GPU, Scheduler
from tests.unit.api.test_campaigns import spec_of
from tests.unit.api.test_steering import submitted
from tests.unit.api.world import OURS, THEIR_KEY, World

Http = TestClient


def quoted(http: Http, sources: list[str], **more: Any) -> dict[str, Any]:
    block = more.pop("block", {})
    response = http.post("/v1/quotes", json=spec_of(sources, **block) | more)
    assert response.status_code == 200, response.text
    return dict(response.json())


def learned(world: World, scheduler: Scheduler, campaign: str, step_seconds: float) -> None:
    """As if 200 renders with its weights had been measured."""
    number = CampaignId(read("cmp", campaign))
    with scheduler.tx() as tx:
        keys = {queue.engine_key for queue in tx.queues(1) if queue.campaign == number}
        for key in keys:
            tx.learn(OURS, key, GPU, step_seconds=step_seconds, squares=step_seconds**2, renders=200)
        tx.learn_load(GPU, "checkpoint", seconds=1.0, loads=1)
        tx.learn_load(GPU, "lora", seconds=0.5, loads=1)


def test_a_quote_stores_nothing_and_the_campaign_keeps_the_one_it_was_given(http: Http, stocked: list[str]) -> None:
    found = quoted(http, stocked)
    assert (found["renders"], found["reused"], found["currency"]) == (4, 0, "EUR")
    assert http.get("/v1/campaigns").json()["data"] == []
    campaign = submitted(http, stocked)
    kept = http.get(f"/v1/campaigns/{campaign}").json()["quote"]
    assert kept["gpu_seconds"] == found["gpu_seconds"]


def test_ranges_are_wide_for_a_guess_and_narrow_once_measured(
    world: World, http: Http, stocked: list[str], scheduler: Scheduler
) -> None:
    scheduler.shows()
    guess = quoted(http, stocked)
    assert guess["measured"] == 0
    learned(world, scheduler, submitted(http, stocked), 0.5)
    found = quoted(http, stocked)
    assert found["measured"] == 1
    for quote in (guess, found):
        seconds = quote["gpu_seconds"]
        assert 0 < seconds["low"] <= seconds["expected"] <= seconds["high"]
    # Both styles take 10 steps in two renders each: 40 in all; one checkpoint and one LoRA are loaded.
    assert found["gpu_seconds"]["expected"] == pytest.approx(40 * 0.5 + 1.5, rel=0.1)
    assert guess["notes"] != found["notes"] == []

    def width(quote: dict[str, Any]) -> float:
        seconds = quote["gpu_seconds"]
        return float((seconds["high"] - seconds["low"]) / seconds["expected"])

    assert width(found) < width(guess) / 2


def test_money_comes_from_the_price_of_the_gpu(
    world: World, http: Http, stocked: list[str], scheduler: Scheduler
) -> None:
    scheduler.shows()
    assert quoted(http, stocked)["money"] is None
    world.store.set_price("*", 36.0)
    found = quoted(http, stocked)
    assert found["money"]["expected"] == pytest.approx(found["gpu_seconds"]["expected"] * 0.01, rel=0.01)
    assert found["gpus"] == {GPU: 1.0}


def test_without_a_renderer_there_is_no_finish_time(http: Http, stocked: list[str], scheduler: Scheduler) -> None:
    assert quoted(http, stocked)["finish_at"] is None
    scheduler.shows()
    low, expected, high = quoted(http, stocked)["finish_at"]
    assert low <= expected <= high
    assert quoted(http, stocked, gpu="A100")["finish_at"] is None, "no GPU of that type"
    assert quoted(http, stocked, gpu=GPU)["finish_at"] is not None


def test_a_farm_that_sleeps_takes_longer_and_still_says_when(
    http: Http, stocked: list[str], scheduler: Scheduler
) -> None:
    def wait(**more: Any) -> float:
        quote = quoted(http, stocked, **more)
        assert quote["finish_at"] is not None
        return float(quote["wait_seconds"]["expected"])

    scheduler.shows(renderers=2)
    awake = wait()
    for gpus in ((GPU,), ()):
        scheduler.shows(renderers=0, gpus=gpus)
        assert wait() > awake, "a renderer has to be woken first"
    assert quoted(http, stocked, gpu=GPU)["finish_at"] is None, "nobody knows whether there are any"
    scheduler.shows(renderers=0, gpus=(GPU, "A100"))
    assert wait(gpu="A100") > awake
    scheduler.shows(renderers=0, most=0, gpus=())
    assert quoted(http, stocked)["finish_at"] is None


def test_what_goes_before_makes_it_later_and_what_does_not_does_not(
    http: Http, stocked: list[str], scheduler: Scheduler
) -> None:
    scheduler.shows()

    def wait(**more: Any) -> float:
        return float(quoted(http, stocked, **more)["wait_seconds"]["expected"])

    alone = wait()
    submitted(http, stocked, priority=60, block={"variants": 200})
    assert wait() > 1.5 * alone
    assert wait(priority=70) == pytest.approx(alone)
    assert wait(lane="interactive") == pytest.approx(alone)


def test_what_was_rendered_before_is_reused(http: Http, stocked: list[str], scheduler: Scheduler) -> None:
    scheduler.render(submitted(http, stocked, block={"variants": 3}))
    assert quoted(http, stocked, block={"variants": 3})["reused"] == 12
    found = quoted(http, stocked, block={"variants": 3, "styles": ["anime"], "strengths": [0.5, 0.7]})
    assert (found["renders"], found["reused"]) == (12, 6), "0.5 is what the style has by itself"
    assert quoted(http, stocked, seed=1)["reused"] == 0


def test_of_a_large_campaign_reuse_is_a_lower_bound_from_a_sample(
    http: Http, stocked: list[str], scheduler: Scheduler
) -> None:
    block = {"variants": 2_000}
    scheduler.render(submitted(http, stocked, block=block | {"styles": ["anime"]}))
    assert 3_500 < quoted(http, stocked, block=block)["reused"] <= 4_000


def test_a_deadline_or_a_budget_that_would_break_is_said(
    world: World, http: Http, stocked: list[str], scheduler: Scheduler
) -> None:
    scheduler.shows()
    world.store.set_price("*", 36.0)

    def notes(**more: Any) -> str:
        return " ".join(quoted(http, stocked, block={"variants": 500}, **more)["notes"])

    soon, later = ((world.clock.moment + timedelta(seconds=n)).isoformat() for n in (30, 86_400))
    assert "deadline" in notes(deadline=soon)
    assert "budget" in notes(budget={"money": 0.01})
    kept = notes(deadline=later, budget={"money": 1000})
    assert "deadline" not in kept
    assert "budget" not in kept


# what is refused


def faults(http: Http, sources: list[str], **more: Any) -> dict[str, str]:
    """By pointer; the same when it is quoted and when it is submitted."""
    body = spec_of(sources, **more.pop("block", {})) | more
    answers = [http.post(path, json=body) for path in ("/v1/quotes", "/v1/campaigns")]
    assert [answer.status_code for answer in answers] == [422, 422], [answer.text for answer in answers]
    found = [{fault["pointer"]: fault["code"] for fault in answer.json()["errors"]} for answer in answers]
    assert found[0] == found[1]
    return found[0]


def test_everything_wrong_is_said_at_once_and_in_quotes_too(world: World, http: Http, stocked: list[str]) -> None:
    gone = (world.clock.moment - timedelta(hours=1)).isoformat()
    found = faults(
        http,
        stocked,
        deadline=gone,
        lane="interactive",
        parent="cmp_0000000000001",
        block={"styles": ["nothing"], "variants": 40},
    )
    assert found == {
        "/deadline": "deadline_past",
        "/lane": "too_many_for_lane",
        "/parent": "unknown_parent",
        "/blocks/0/styles/0": "unknown_style",
    }


def test_the_interactive_lane_takes_64_renders(http: Http, stocked: list[str]) -> None:
    submitted(http, stocked, lane="interactive", block={"variants": 16})
    assert faults(http, stocked, lane="interactive", block={"variants": 17}) == {"/lane": "too_many_for_lane"}


def test_another_teams_campaign_is_no_parent(http: Http, stocked: list[str]) -> None:
    campaign = submitted(http, stocked)
    theirs = {"Authorization": f"Bearer {THEIR_KEY}"}
    refused = http.post("/v1/campaigns", json=spec_of(stocked) | {"parent": campaign}, headers=theirs)
    assert "unknown_parent" in {fault["code"] for fault in refused.json()["errors"]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline": "2026-12-01T09:00:00"},
        {"budget": {"money": 0}},
        {"budget": {"money": 1, "warn_at": 2}},
        {"proof": {"renders": 0}},
        {"parent": "cmp_1"},
        {"lane": "fast"},
    ],
    ids=str,
)
def test_what_has_no_right_form_is_refused(http: Http, stocked: list[str], wrong: dict[str, Any]) -> None:
    assert http.post("/v1/campaigns", json=spec_of(stocked) | wrong).status_code == 422


def test_a_key_that_is_left_out_is_the_same_body_as_its_default(http: Http, stocked: list[str]) -> None:
    key = {"Idempotency-Key": "k"}
    first = http.post("/v1/campaigns", json=spec_of(stocked), headers=key)
    spelled = spec_of(stocked) | {"deadline": None, "proof": None, "lane": "bulk", "off_peak": False}
    assert http.post("/v1/campaigns", json=spelled, headers=key).json()["id"] == first.json()["id"]
    other = spec_of(stocked) | {"proof": {}}
    assert http.post("/v1/campaigns", json=other, headers=key).json()["code"] == "idempotency_key_reused"


def test_a_key_of_a_later_release_does_not_change_what_an_earlier_one_has_stored(
    world: World, http: Http, stocked: list[str]
) -> None:
    """So the hash is taken of what was said, not of all that might have been."""
    spec = spec_of(stocked)
    campaign = submitted(http, stocked)
    with world.store.as_team(OURS) as tx:
        kept = tx.campaign(CampaignId(read("cmp", campaign))).submit_hash
    assert kept == hashlib.sha256(json.dumps(spec, separators=(",", ":")).encode()).hexdigest()


def test_openapi_shows_the_new_routes_with_examples(http: Http) -> None:
    spec = http.get("/openapi.json").json()
    for path, method in (
        ("/v1/quotes", "post"),
        ("/v1/campaigns/{campaign}", "patch"),
        ("/v1/campaigns/{campaign}/move", "post"),
    ):
        body = spec["paths"][path][method]["requestBody"]["content"]["application/json"]
        assert body["schema"].get("examples"), path
    assert {"/v1/queue", "/v1/team", "/v1/campaigns/{campaign}/why", "/v1/campaigns/{campaign}/approve"} <= set(
        spec["paths"]
    )


def test_the_examples_are_bodies_that_go(http: Http) -> None:
    for body in (examples.CAMPAIGN, examples.PROOFED, examples.CHILD):
        CampaignSpec.model_validate(body)
    CampaignAmend.model_validate(examples.AMEND)
    for move in examples.MOVES:
        CampaignMove.model_validate(move)


def test_a_proof_of_more_looks_than_people_look_at_must_say_how_many(http: Http, stocked: list[str]) -> None:
    strengths = [0.2 + n / 100 for n in range(50)]
    sizes = [f"{64 + 8 * n}x64" for n in range(11)]
    block = {"strengths": strengths, "sizes": sizes}
    assert faults(http, stocked, proof={}, block=block) == {"/proof": "proof_too_large"}
    submitted(http, stocked, proof={"renders": 8}, block=block)
