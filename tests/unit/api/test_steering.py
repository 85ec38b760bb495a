"""Campaigns under way: proofs and their approval, changes, the queue, budgets, and why something waits."""

from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from farm.core.ids import CampaignId, read
from schemas.campaign import PausedBy
from tests.unit.api.scheduling import Scheduler
from tests.unit.api.test_campaigns import spec_of
from tests.unit.api.world import OURS, THEIR_KEY, World

Http = TestClient


def submitted(http: Http, sources: list[str], **more: Any) -> str:
    block = more.pop("block", {})
    response = http.post("/v1/campaigns", json=spec_of(sources, **block) | more)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def shown(http: Http, campaign: str) -> dict[str, Any]:
    response = http.get(f"/v1/campaigns/{campaign}")
    assert response.status_code == 200, response.text
    return dict(response.json())


def asked(http: Http, campaign: str, verb: str, **body: Any) -> tuple[int, str]:
    """The state it is in afterwards, or the code of the refusal."""
    response = http.post(f"/v1/campaigns/{campaign}/{verb}", json=body or None)
    return response.status_code, response.json().get("state") or response.json()["code"]


def kinds(world: World, campaign: str) -> list[str]:
    with world.store.as_team(OURS) as tx:
        return [event.kind for event in tx.events(after=0, limit=100, campaign=CampaignId(read("cmp", campaign)))]


PROOF = {"block": {"strengths": [0.3, 0.6], "variants": 5}, "proof": {}}


# proofs


def test_a_proof_is_rendered_first_and_the_rest_waits_for_a_yes(
    http: Http, stocked: list[str], scheduler: Scheduler
) -> None:
    campaign = submitted(http, stocked, **PROOF)
    assert shown(http, campaign)["state"] == "proofing"
    assert scheduler.render(campaign) == 4, "two styles at two strengths"
    waiting = shown(http, campaign)
    assert (waiting["state"], waiting["counts"]["succeeded"]) == ("awaiting_approval", 4)
    assert waiting["counts"]["queued"] == 36
    looks = http.get(f"/v1/campaigns/{campaign}/renders?state=succeeded").json()["data"]
    assert {(render["style"], render["strength"]) for render in looks} == {
        (style, strength) for style in ("anime", "noir") for strength in (0.3, 0.6)
    }
    assert len({render["source"] for render in looks}) == 2, "the sources are spread"
    assert scheduler.render(campaign) == 0, "nothing is rendered before somebody approved"
    assert asked(http, campaign, "approve") == (200, "active")
    assert scheduler.render(campaign) == 36
    assert shown(http, campaign)["state"] == "done"


def test_renders_that_are_held_back_are_queued(http: Http, stocked: list[str]) -> None:
    campaign = submitted(http, stocked, **PROOF)
    page = http.get(f"/v1/campaigns/{campaign}/renders?state=queued&limit=100").json()
    assert len(page["data"]) == 40


def test_approving_twice_is_no_error_and_goes_before_the_proof_is_through(http: Http, stocked: list[str]) -> None:
    campaign = submitted(http, stocked, **PROOF)
    assert [asked(http, campaign, "approve") for _ in range(2)] == [(200, "active")] * 2


def test_what_has_no_proof_or_is_over_cannot_be_approved(http: Http, stocked: list[str]) -> None:
    assert asked(http, submitted(http, stocked), "approve") == (409, "no_proof")
    campaign = submitted(http, stocked, **PROOF)
    assert asked(http, campaign, "cancel") == (200, "cancelling")
    assert asked(http, campaign, "approve") == (409, "campaign_state")


def test_a_proof_may_be_paused_and_goes_on_as_a_proof(http: Http, stocked: list[str], scheduler: Scheduler) -> None:
    campaign = submitted(http, stocked, **PROOF)
    assert asked(http, campaign, "pause") == (200, "paused")
    assert asked(http, campaign, "approve") == (409, "campaign_state")
    assert asked(http, campaign, "resume") == (200, "proofing")
    assert scheduler.render(campaign) == 4
    assert asked(http, campaign, "pause") == (409, "campaign_state")
    assert asked(http, campaign, "resume") == (409, "campaign_state")
    assert asked(http, campaign, "cancel") == (200, "cancelling")


def test_a_child_takes_the_place_of_a_parent_that_was_not_approved(
    http: Http, stocked: list[str], scheduler: Scheduler
) -> None:
    parent = submitted(http, stocked, **PROOF)
    scheduler.render(parent)
    block = {"styles": ["anime"], "strengths": [0.3, 0.6], "variants": 5}
    child = submitted(http, stocked, parent=parent, proof={}, block=block)
    assert shown(http, parent)["state"] == "cancelling"
    assert shown(http, child)["parent"] == parent
    assert shown(http, child)["quote"]["reused"] == 2, "the two looks of the proof that stayed"


def test_a_child_has_the_room_of_the_parent_that_it_replaces(http: Http, stocked: list[str]) -> None:
    """Two of these are more than the team may have waiting."""
    million = {"block": {"variants": 10_000, "prompts": [str(n) for n in range(25)]}, "proof": {}}
    parent = submitted(http, stocked, **million)
    assert http.post("/v1/campaigns", json=spec_of(stocked, **million["block"])).status_code == 422
    submitted(http, stocked, parent=parent, **million)


def test_a_parent_that_was_approved_goes_on(http: Http, stocked: list[str]) -> None:
    parent = submitted(http, stocked)
    submitted(http, stocked, parent=parent)
    assert shown(http, parent)["state"] == "active"


def test_a_retry_needs_no_second_proof_unless_the_first_was_rejected(
    world: World, http: Http, stocked: list[str], scheduler: Scheduler
) -> None:
    approved, rejected = (submitted(http, stocked, proof={}, block={"variants": 3}) for _ in range(2))
    world.settle(approved, dict.fromkeys(range(12), "failed"))
    world.settle(rejected, {0: "failed"})
    asked(http, rejected, "cancel")
    with scheduler.tx() as tx:
        tx.finish_campaigns()
    assert [shown(http, one)["state"] for one in (approved, rejected)] == ["done", "cancelled"]
    assert [asked(http, one, "retry") for one in (approved, rejected)] == [(201, "active"), (201, "proofing")]


# pausing, resuming, and who did it


@pytest.mark.parametrize(
    ("by", "code"), [(PausedBy.BUDGET, "budget_spent"), (PausedBy.TEAM_BUDGET, "team_budget_spent")]
)
def test_what_a_budget_has_paused_is_not_resumed_by_hand(
    http: Http, stocked: list[str], scheduler: Scheduler, by: PausedBy, code: str
) -> None:
    campaign = submitted(http, stocked)
    with scheduler.tx() as tx:
        tx.pause(CampaignId(read("cmp", campaign)), by, "spent")
    assert shown(http, campaign)["paused_by"] == by.value
    assert asked(http, campaign, "resume") == (409, code)
    assert asked(http, campaign, "pause") == (200, "paused"), "now it stays paused when the budget is raised"
    assert shown(http, campaign)["paused_by"] == "user"
    assert asked(http, campaign, "resume") == (200, "active")
    assert shown(http, campaign)["paused_by"] is None


# changing


def test_priority_deadline_and_budget_may_change_and_the_rest_stays(
    world: World, http: Http, stocked: list[str]
) -> None:
    campaign = submitted(http, stocked, budget={"money": 5.0}, priority=40)
    later = (world.clock.moment + timedelta(days=2)).isoformat()
    changed = http.patch(f"/v1/campaigns/{campaign}", json={"priority": 80, "deadline": later})
    assert changed.status_code == 200, changed.text
    found = changed.json()
    assert (found["priority"], found["budget"]["money"]) == (80, 5.0)
    assert found["deadline"] == later
    assert found["spec"]["priority"] == 40, "what was submitted stays as it was"
    again = http.patch(f"/v1/campaigns/{campaign}", json={"priority": 80})
    assert again.json()["priority"] == 80
    assert kinds(world, campaign).count("campaign.changed") == 1, "what stands there already is no change"
    assert http.patch(f"/v1/campaigns/{campaign}", json={"budget": {}}).json()["budget"] == {
        "gpu_seconds": None,
        "money": None,
        "warn_at": 0.8,
    }


def test_what_cannot_be_changed_is_refused(world: World, http: Http, stocked: list[str]) -> None:
    campaign = submitted(http, stocked)
    path = f"/v1/campaigns/{campaign}"
    gone = (world.clock.moment - timedelta(hours=1)).isoformat()
    refused = http.patch(path, json={"deadline": gone})
    assert (refused.status_code, refused.json()["code"]) == (422, "deadline_past")
    assert refused.json()["errors"][0]["pointer"] == "/deadline"
    assert http.patch(path, json={"styles": ["anime"]}).status_code == 422
    asked(http, campaign, "cancel")
    over = http.patch(path, json={"priority": 1})
    assert (over.status_code, over.json()["code"]) == (409, "campaign_ended")


# the queue


def queue(http: Http) -> list[str]:
    return [row["id"] for row in http.get("/v1/queue").json()["data"]]


def test_the_queue_is_by_lane_priority_and_age(http: Http, stocked: list[str]) -> None:
    first, second = submitted(http, stocked), submitted(http, stocked)
    high = submitted(http, stocked, priority=90)
    quick = submitted(http, stocked, lane="interactive", priority=10)
    over = submitted(http, stocked)
    asked(http, over, "cancel")
    assert queue(http) == [quick, high, first, second]
    page = http.get("/v1/queue?limit=3").json()
    rest = http.get(f"/v1/queue?limit=3&after={page['next_cursor']}").json()
    assert [row["id"] for row in page["data"] + rest["data"]] == [quick, high, first, second]
    assert (page["has_more"], rest["has_more"]) == (True, False)


def test_a_campaign_is_moved_in_its_queue(http: Http, stocked: list[str]) -> None:
    first, second, third = (submitted(http, stocked) for _ in range(3))
    assert asked(http, third, "move", to="front") == (200, "active")
    assert queue(http) == [third, first, second]
    asked(http, third, "move", to="back")
    assert queue(http) == [first, second, third]
    assert [asked(http, third, "move", before=second) for _ in range(2)] == [(200, "active")] * 2
    assert queue(http) == [first, third, second]


def test_moving_past_a_higher_priority_takes_it_over(http: Http, stocked: list[str]) -> None:
    low, high = submitted(http, stocked), submitted(http, stocked, priority=90)
    asked(http, low, "move", to="front")
    assert queue(http) == [low, high]
    assert shown(http, low)["priority"] == 90


def test_moves_that_make_no_sense_are_refused(http: Http, stocked: list[str]) -> None:
    bulk, quick = submitted(http, stocked), submitted(http, stocked, lane="interactive")
    over = submitted(http, stocked)
    asked(http, over, "cancel")
    assert asked(http, bulk, "move", to="front", before=quick) == (422, "bad_move")
    assert asked(http, bulk, "move", to=None) == (422, "bad_move")
    assert asked(http, bulk, "move", to="middle")[0] == 422
    assert asked(http, bulk, "move", before=quick) == (409, "other_lane")
    assert asked(http, bulk, "move", before=over) == (409, "campaign_ended")
    assert asked(http, over, "move", to="front") == (409, "campaign_ended")
    assert asked(http, bulk, "move", before="cmp_0000000000001") == (404, "not_found")


# looking


def test_what_was_spent_is_shown_beside_the_quote(http: Http, stocked: list[str], scheduler: Scheduler) -> None:
    campaign = submitted(http, stocked, budget={"money": 2.0})
    scheduler.render(campaign, seconds=9.0, price=100.0)
    found = shown(http, campaign)
    assert found["spent"] == {"gpu_seconds": 36.0, "money": pytest.approx(1.0)}
    assert found["budget"]["money"] == 2.0
    assert found["quote"]["renders"] == 4


def test_warnings_are_shown(http: Http, stocked: list[str], scheduler: Scheduler) -> None:
    campaign = submitted(http, stocked)
    with scheduler.tx() as tx:
        tx.warn(CampaignId(read("cmp", campaign)), "budget_near", "80% is spent.", {"spent": 8})
    found = shown(http, campaign)
    assert (found["warnings"], found["warning_details"]) == (["budget_near"], {"budget_near": "80% is spent."})
    with scheduler.tx() as tx:
        tx.unwarn(CampaignId(read("cmp", campaign)), "budget_near")
    found = shown(http, campaign)
    assert (found["warnings"], found["warning_details"]) == ([], {})


def test_a_team_sees_its_share_and_what_it_has_spent(http: Http, stocked: list[str], scheduler: Scheduler) -> None:
    scheduler.render(submitted(http, stocked), seconds=9.0, price=100.0)
    found = http.get("/v1/team").json()
    assert (found["name"], found["weight"], found["quota"]) == ("team 1", 1.0, None)
    assert found["spent"]["gpu_seconds"] == 36.0
    theirs = http.get("/v1/team", headers={"Authorization": f"Bearer {THEIR_KEY}"}).json()
    assert (theirs["name"], theirs["spent"]["money"]) == ("team 2", 0.0)


def test_why_says_in_a_sentence_what_it_waits_for(world: World, http: Http, stocked: list[str]) -> None:
    campaign = submitted(http, stocked, **PROOF)

    def why() -> str:
        found = http.get(f"/v1/campaigns/{campaign}/why").json()
        assert found["campaign"] == campaign
        assert found["sentence"].endswith(".")
        return str(found["code"])

    assert why() == "no_scheduler"
    scheduler = Scheduler(world.store)
    scheduler.shows()
    assert why() == "queued"
    asked(http, campaign, "pause")
    assert why() == "paused"
    asked(http, campaign, "resume")
    scheduler.render(campaign)
    assert why() == "awaiting_approval"
    asked(http, campaign, "cancel")
    assert why() == "cancelling"


def test_why_names_weights_that_are_gone(world: World, http: Http, stocked: list[str], scheduler: Scheduler) -> None:
    campaign = submitted(http, stocked)
    scheduler.shows()
    world.store.state.loras.rows.clear()
    found = http.get(f"/v1/campaigns/{campaign}/why").json()
    assert found["code"] == "missing_weights"
    assert "anime" in found["sentence"]


def test_teams_neither_see_nor_steer_one_another(http: Http, stocked: list[str]) -> None:
    campaign = submitted(http, stocked, proof={})
    theirs = {"Authorization": f"Bearer {THEIR_KEY}"}
    for verb in ("approve", "pause", "resume", "cancel"):
        assert http.post(f"/v1/campaigns/{campaign}/{verb}", headers=theirs).status_code == 404, verb
    assert http.post(f"/v1/campaigns/{campaign}/move", json={"to": "front"}, headers=theirs).status_code == 404
    assert http.patch(f"/v1/campaigns/{campaign}", json={"priority": 1}, headers=theirs).status_code == 404
    assert http.get(f"/v1/campaigns/{campaign}/why", headers=theirs).status_code == 404
    assert http.get("/v1/queue", headers=theirs).json()["data"] == []
