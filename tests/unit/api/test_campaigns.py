"""Styles and campaigns: what is accepted, what is refused, and what happens twice only once."""

from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from farm.core.ids import CampaignId, read
from farm.core.records import TeamRow
from schemas.style import StrengthMode
from tests.unit.api.world import KEY, OURS, World, lora_of

Spec = dict[str, Any]


def spec_of(sources: list[str], **block: Any) -> Spec:
    inner = {"sources": [{"source": source} for source in sources], "styles": ["anime", "noir"], **block}
    return {"name": "Autumn", "blocks": [inner]}


def codes(http: TestClient, spec: Spec) -> dict[str, str]:
    response = http.post("/v1/campaigns", json=spec)
    assert response.status_code == 422, response.text
    return {fault["pointer"]: fault["code"] for fault in response.json()["errors"]}


# styles


def test_a_style_is_versioned_and_an_equal_one_is_no_new_version(http: TestClient, stocked: list[str]) -> None:
    style = {"name": "noir", "prompt": "{prompt}, film noir", "size": "64x64"}
    assert [http.post("/v1/styles", json=style).json()["version"] for _ in range(2)] == [2, 2]
    assert http.get("/v1/styles/noir").json()["spec"]["prompt"] == "{prompt}, film noir"
    versions = http.get("/v1/styles/noir/versions").json()["data"]
    assert [row["version"] for row in versions] == [2, 1]
    assert len(http.get("/v1/styles").json()["data"]) == 2
    assert http.get("/v1/styles/nothing").status_code == 404


def test_everything_wrong_with_a_style_is_said_at_once(http: TestClient, stocked: list[str]) -> None:
    style = {
        "name": "bad",
        "checkpoint": "nowhere",
        "loras": [{"lora": "anime"}, {"lora": "nobody"}],
        "strength": 0.09,
        "strength_mode": "diffusers",
        "steps": 10,
        "size": "100x64",
        "prompt": "{Prompt}",
    }
    response = http.post("/v1/styles", json=style)
    assert {fault["pointer"]: fault["code"] for fault in response.json()["errors"]} == {
        "/checkpoint": "unknown_checkpoint",
        "/loras/1/lora": "unknown_lora",
        "/strength": "strength_too_low",
        "/size": "size_not_multiple_of_8",
        "/prompt": "bad_template",
    }
    assert "0.1 is the least" in response.text


@pytest.mark.parametrize("steps", range(1, 151))
def test_the_strength_that_is_advised_does_work(steps: int) -> None:
    from farm.usecases.styles import strength_faults

    (fault,) = strength_faults(0, steps, StrengthMode.DIFFUSERS, "x", "")
    least = float(fault.detail.split()[-4])
    assert strength_faults(least, steps, StrengthMode.DIFFUSERS, "x", "") == []


def test_as_noise_any_strength_but_none_at_all_does_something(http: TestClient, stocked: list[str]) -> None:
    style = {"name": "bare", "steps": 1, "size": "64x64"}
    assert http.post("/v1/styles", json=style | {"strength": 0.001}).status_code == 201
    refused = http.post("/v1/styles", json=style | {"strength": 0})
    assert (refused.status_code, refused.json()["code"]) == (422, "strength_too_low")


# submitting


def test_a_campaign_is_accepted_and_listed(http: TestClient, stocked: list[str]) -> None:
    response = http.post("/v1/campaigns", json=spec_of(stocked, strengths=[0.3, 0.6], variants=2))
    assert response.status_code == 201
    campaign = response.json()
    assert campaign["counts"] | {"total": 16, "queued": 16} == campaign["counts"]
    assert response.headers["location"] == f"/v1/campaigns/{campaign['id']}"
    shown = http.get(response.headers["location"]).json()
    assert shown["spec"]["blocks"][0]["styles"] == ["anime", "noir"]
    assert [row["id"] for row in http.get("/v1/campaigns").json()["data"]] == [campaign["id"]]


def test_campaigns_come_newest_first_in_pages(http: TestClient, stocked: list[str]) -> None:
    ids = [http.post("/v1/campaigns", json=spec_of(stocked)).json()["id"] for _ in range(5)]
    first = http.get("/v1/campaigns?limit=3").json()
    rest = http.get(f"/v1/campaigns?limit=3&after={first['next_cursor']}").json()
    assert [row["id"] for row in first["data"] + rest["data"]] == ids[::-1]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)


def test_every_fault_of_a_spec_is_said_at_once(world: World, http: TestClient, stocked: list[str]) -> None:
    http.post("/v1/styles", json={"name": "shop", "prompt": "{prompt} {sku}", "steps": 10, "size": "64x64"})
    gone = "src_" + "f" * 64
    spec = spec_of([stocked[0], gone], strengths=[0.5, 0], sizes=["64x64", "65x64"], prompts=["{colour}"])
    spec["blocks"][0]["styles"] = ["anime", "nothing", "noir@9", "shop"]
    spec["blocks"][0]["sources"][0]["variables"] = {"sku": "A-17"}
    assert codes(http, spec) == {
        "/blocks/0/sources/1/source": "unknown_source",
        "/blocks/0/styles/1": "unknown_style",
        "/blocks/0/styles/2": "unknown_style",
        "/blocks/0/strengths/1": "strength_too_low",
        "/blocks/0/sizes/1": "size_not_multiple_of_8",
        "/blocks/0/sources/0/variables": "unknown_variable",
        "/blocks/0/sources/1/variables": "unknown_variable",
    }
    assert http.get("/v1/campaigns").json()["data"] == []


def test_variables_are_filled_in_and_a_source_may_bring_its_own_prompt(http: TestClient, stocked: list[str]) -> None:
    http.post("/v1/styles", json={"name": "shop", "prompt": "{prompt}, tag {sku}", "steps": 10, "size": "64x64"})
    spec = spec_of([], prompts=["a cup"], styles=["shop"])
    spec["blocks"][0]["sources"] = [
        {"source": stocked[0], "variables": {"sku": "A"}},
        {"source": stocked[1], "prompt": "a {what} {0.__class__}", "variables": {"sku": "B", "what": "jug"}},
    ]
    assert set(codes(http, spec).values()) == {"bad_template"}
    spec["blocks"][0]["sources"][1]["prompt"] = "a {what}"
    campaign = http.post("/v1/campaigns", json=spec).json()["id"]
    prompts = [row["prompt"] for row in http.get(f"/v1/campaigns/{campaign}/renders").json()["data"]]
    assert prompts == ["a cup, tag A", "a jug, tag B"]


def test_a_lora_past_its_licence_is_refused(world: World, http: TestClient, stocked: list[str]) -> None:
    ends = (world.clock.moment + timedelta(hours=1)).isoformat()
    http.post("/v1/loras", params={"name": "rented", "expires_at": ends}, content=lora_of(fill=1))
    http.post("/v1/styles", json={"name": "rented", "loras": [{"lora": "rented"}], "size": "64x64"})
    assert http.post("/v1/campaigns", json=spec_of(stocked, styles=["rented"])).status_code == 201
    world.clock.moment += timedelta(hours=2)
    assert codes(http, spec_of(stocked, styles=["rented"])) == {"/blocks/0/styles/0": "lora_expired"}


def test_too_many_renders_are_refused_before_they_are_written_out(http: TestClient, stocked: list[str]) -> None:
    # More than a campaign may have, then more than the team may have waiting at once.
    assert codes(http, spec_of(stocked, variants=10_000, prompts=[""] * 1000))["/blocks"] == "too_many_renders"
    million = spec_of(stocked, variants=10_000, prompts=[str(n) for n in range(25)])
    assert http.post("/v1/campaigns", json=million).status_code == 201
    assert codes(http, million) == {"/blocks": "too_many_renders"}


def test_more_looks_than_the_scheduler_should_keep_apart_are_refused(http: TestClient, stocked: list[str]) -> None:
    def sizes(first: int, count: int) -> list[str]:
        return [f"{8 * (8 + n)}x64" for n in range(first, first + count)]

    spec = spec_of(stocked[:1], sizes=sizes(0, 50), styles=["anime"])
    block = spec["blocks"][0]
    spec["blocks"] = [{**block, "sizes": sizes(50 * n, 50)} for n in range(100)]
    spec["blocks"] += [block] * 10
    assert http.post("/v1/campaigns", json=spec).status_code == 201, "5,000 are not too many, and each counts once"
    spec["blocks"].append({**block, "sizes": ["64x128"]})
    assert codes(http, spec)["/blocks"] == "too_many_looks"


def test_a_million_renders_are_one_campaign(http: TestClient, stocked: list[str]) -> None:
    spec = spec_of(stocked, variants=10_000, prompts=[str(n) for n in range(25)])
    assert http.post("/v1/campaigns", json=spec).json()["counts"]["total"] == 1_000_000


# idempotency


def test_the_same_key_and_body_is_the_same_campaign(http: TestClient, stocked: list[str]) -> None:
    spec, key = spec_of(stocked), {"Idempotency-Key": "order-17"}
    first = http.post("/v1/campaigns", json=spec, headers=key)
    # Keys in another order and defaults written out are the same body.
    again = http.post("/v1/campaigns", json={"priority": 50, **dict(reversed(spec.items()))}, headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    other = http.post("/v1/campaigns", json={**spec, "seed": 1}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(http.get("/v1/campaigns").json()["data"]) == 1


def test_a_replay_needs_nothing_that_has_gone_since(world: World, http: TestClient, stocked: list[str]) -> None:
    spec, key = spec_of(stocked), {"Idempotency-Key": "k"}
    first = http.post("/v1/campaigns", json=spec, headers=key).json()
    world.store.state.styles.rows.clear()
    assert http.post("/v1/campaigns", json=spec, headers=key).json()["id"] == first["id"]


def test_a_request_that_lost_the_race_answers_with_the_winner(
    world: World, http: TestClient, stocked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, key = spec_of(stocked), {"Idempotency-Key": "k"}
    first = http.post("/v1/campaigns", json=spec, headers=key).json()
    from farm.store.memory_tx import MemoryTx

    real, looks = MemoryTx.campaign_by_submit_key, []

    def blind_once(tx: MemoryTx, submit_key: str) -> Any:
        looks.append(submit_key)
        return None if len(looks) == 1 else real(tx, submit_key)

    monkeypatch.setattr(MemoryTx, "campaign_by_submit_key", blind_once)
    again = http.post("/v1/campaigns", json=spec, headers=key)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["id"] == first["id"]


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é"])
def test_keys_that_cannot_be_kept_are_refused(http: TestClient, stocked: list[str], key: str) -> None:
    response = http.post("/v1/campaigns", json=spec_of(stocked), headers={b"Idempotency-Key": key.encode()})
    assert (response.status_code, response.json()["code"]) == (422, "bad_idempotency_key")


# moving


def test_pause_resume_and_cancel(http: TestClient, stocked: list[str]) -> None:
    campaign = http.post("/v1/campaigns", json=spec_of(stocked)).json()["id"]

    def move(verb: str) -> tuple[int, str]:
        response = http.post(f"/v1/campaigns/{campaign}/{verb}")
        return response.status_code, response.json().get("state") or response.json()["code"]

    assert [move("pause"), move("pause")] == [(200, "paused")] * 2
    assert move("resume") == (200, "active")
    assert [move("cancel"), move("cancel")] == [(200, "cancelling")] * 2
    assert move("resume") == (409, "campaign_state")
    assert http.get(f"/v1/campaigns/{campaign}").json()["counts"]["cancelled"] == 4


def test_retry_makes_a_child_with_what_the_parent_meant(world: World, http: TestClient, stocked: list[str]) -> None:
    campaign = http.post("/v1/campaigns", json=spec_of(stocked)).json()["id"]
    retry = f"/v1/campaigns/{campaign}/retry"
    assert http.post(retry).json()["code"] == "campaign_not_ended"
    world.settle(campaign, {0: "succeeded", 1: "failed", 2: "succeeded", 3: "succeeded"})
    # The style has moved on: the child must not.
    http.post("/v1/styles", json={"name": "noir", "prompt": "new", "steps": 10, "size": "64x64"})
    key = {"Idempotency-Key": "again"}
    child = http.post(retry, headers=key)
    world.store.add_team(TeamRow(OURS, "full", child.json()["counts"]["total"]))
    replay = http.post(retry, headers=key)
    assert (child.status_code, replay.status_code) == (201, 200)
    assert child.json()["id"] == replay.json()["id"] != campaign
    assert child.json()["parent"] == campaign
    ids = [CampaignId(read("cmp", one)) for one in (campaign, child.json()["id"])]
    with world.store.as_team(OURS) as tx:
        assert tx.resolved(ids[0]) == tx.resolved(ids[1])


def test_a_campaign_without_failures_is_not_retried(world: World, http: TestClient, stocked: list[str]) -> None:
    campaign = http.post("/v1/campaigns", json=spec_of(stocked)).json()["id"]
    world.settle(campaign, dict.fromkeys(range(4), "succeeded"))
    response = http.post(f"/v1/campaigns/{campaign}/retry")
    assert (response.status_code, response.json()["code"]) == (409, "nothing_failed")
    assert KEY not in response.text
