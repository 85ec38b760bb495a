"""A finished render, rendered once more with changes."""

import hashlib
from typing import Any

import pytest
from starlette.testclient import TestClient

from farm.core.campaign import recipe_at
from farm.core.ids import CampaignId, read
from farm.core.records import TeamRow
from schemas.recipe import Recipe
from tests.unit.api.scheduling import Scheduler
from tests.unit.api.world import CHECKPOINT, OURS, THEIR_KEY, UNET, World, picture, tar_of

Http = TestClient


@pytest.fixture
def render(world: World, http: Http, stocked: list[str]) -> str:
    """The third of six: noir at 0.6 would be the fourth. Its picture lies in the depot."""
    block = {
        "sources": [{"source": stocked[0], "prompt": "a cup, {sku}", "variables": {"sku": "A-17"}}],
        "styles": ["anime", "noir"],
        "strengths": [0.3, 0.6, 0.9],
    }
    spec = {"name": "Spring", "seed": 5, "blocks": [block], "output": {"format": "webp"}}
    campaign = http.post("/v1/campaigns", json=spec).json()["id"]
    world.settle(campaign, {4: "succeeded", 1: "failed"})
    return f"{campaign.replace('cmp_', 'rnd_')}_4"


def refined(http: Http, render: str, key: str | None = None, **changes: Any) -> dict[str, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    response = http.post(f"/v1/renders/{render}/refine", json=changes, headers=headers)
    assert response.status_code in (200, 201), response.text
    return dict(response.json())


def refused(http: Http, render: str, **changes: Any) -> tuple[int, str]:
    response = http.post(f"/v1/renders/{render}/refine", json=changes)
    return response.status_code, response.json()["code"]


def recipe(world: World, campaign: str, ordinal: int = 0) -> Recipe:
    with world.store.as_team(OURS) as tx:
        return recipe_at(tx.resolved(CampaignId(read("cmp", campaign))), ordinal)


def former(render: str) -> str:
    return render.replace("rnd_", "cmp_").rpartition("_")[0]


def test_without_changes_its_picture_goes_through_its_own_recipe(world: World, http: Http, render: str) -> None:
    campaign = refined(http, render)
    again, first = recipe(world, campaign["id"]), recipe(world, former(render), 4)
    assert again.source == hashlib.sha256(picture(4)).hexdigest()
    assert again.model_copy(update={"source": first.source, "seed": first.seed}) == first
    assert (campaign["counts"]["total"], campaign["lane"], campaign["parent"]) == (1, "interactive", former(render))
    assert campaign["name"] == "Spring, refined"


def test_its_picture_becomes_a_source_of_the_team_and_the_lineage_is_kept(
    world: World, http: Http, render: str
) -> None:
    campaign = refined(http, render)
    entry = http.get(f"/v1/campaigns/{campaign['id']}").json()["spec"]["blocks"][0]["sources"][0]
    assert entry["made_from"] == render
    shown = http.get(f"/v1/sources/{entry['source']}").json()
    assert shown["name"] == "1-noir.png"
    link = http.get(f"/v1/sources/{entry['source']}/links").json()["picture"]
    assert world.depot.fetch(link) == picture(4)
    (one,) = http.get(f"/v1/campaigns/{campaign['id']}/renders").json()["data"]
    assert one["made_from"] == render


def test_changes_go_before_what_the_render_had(world: World, http: Http, render: str) -> None:
    changes: dict[str, Any] = {
        "strength": 0.45,
        "prompt": "a lamp",
        "style": "anime",
        "size": "128x64",
        "variants": 3,
        "seed": 9,
    }
    mask = http.post("/v1/sources?name=mask.png", content=picture(255, (64, 48), mode="L")).json()["id"]
    campaign = refined(http, render, name="Again", mask={"picture": mask, "feather": 3}, **changes)
    assert (campaign["name"], campaign["counts"]["total"]) == ("Again", 3)
    again = recipe(world, campaign["id"])
    assert (again.strength, again.prompt, again.size) == (0.45, "a lamp", "128x64")
    assert [lora.name for lora in again.loras] == ["anime"]
    assert again.mask is not None
    assert (again.mask.picture, again.mask.feather) == (mask.removeprefix("src_"), 3)
    assert recipe(world, campaign["id"]).seed != recipe(world, campaign["id"], 1).seed
    assert recipe(world, refined(http, render)["id"]).seed != again.seed


def test_another_style_brings_its_own_strength_unless_the_campaign_had_said_one(
    world: World, http: Http, stocked: list[str]
) -> None:
    block = {"sources": [{"source": stocked[0]}], "styles": ["anime"]}
    campaign = http.post("/v1/campaigns", json={"name": "x", "blocks": [block]}).json()["id"]
    world.settle(campaign, {0: "succeeded"})
    again = refined(http, campaign.replace("cmp_", "rnd_") + "_0", style="noir")
    assert recipe(world, again["id"]).strength == 0.4


def test_from_its_source_it_is_rendered_with_the_pictures_that_went_with_it(
    world: World, http: Http, stocked: list[str]
) -> None:
    mask = http.post("/v1/sources?name=mask.png", content=picture(255, (64, 48), mode="L")).json()["id"]
    blend = {"picture": stocked[1], "weight": 0.25}
    entry = {"source": stocked[0], "mask": {"picture": mask}, "blend": [blend]}
    spec = {"name": "x", "blocks": [{"sources": [entry], "styles": ["noir"]}]}
    campaign = http.post("/v1/campaigns", json=spec).json()["id"]
    world.settle(campaign, {0: "succeeded"})
    render = campaign.replace("cmp_", "rnd_") + "_0"
    again = recipe(world, refined(http, render, start="source", strength=0.7)["id"])
    assert again == recipe(world, campaign).model_copy(update={"strength": 0.7})
    from_picture = recipe(world, refined(http, render)["id"])
    assert (from_picture.mask, from_picture.blend) == (None, ()), "they are in the picture already"


def test_from_its_source_a_variant_keeps_its_own_noise(world: World, http: Http, stocked: list[str]) -> None:
    block = {"sources": [{"source": stocked[0]}], "styles": ["noir"], "variants": 4}
    campaign = http.post("/v1/campaigns", json={"name": "x", "seed": 7, "blocks": [block]}).json()["id"]
    world.settle(campaign, {2: "succeeded"})
    again = refined(http, campaign.replace("cmp_", "rnd_") + "_2", start="source", strength=0.7, variants=2)["id"]
    for ordinal in (0, 1):
        first = recipe(world, campaign, 2 + ordinal)
        assert recipe(world, again, ordinal) == first.model_copy(update={"strength": 0.7})
    shown = http.get(f"/v1/campaigns/{again}/renders").json()["data"]
    assert [render["variant"] for render in shown] == [2, 3]
    world.settle(again, {1: "succeeded"})
    third = refined(http, again.replace("cmp_", "rnd_") + "_1", start="source")["id"]
    assert recipe(world, third).seed == recipe(world, campaign, 3).seed


def test_it_keeps_the_version_of_the_style_and_the_checkpoint_that_it_had(
    world: World, http: Http, render: str
) -> None:
    http.post("/v1/styles", json={"name": "noir", "prompt": "other", "steps": 3, "size": "64x64"})
    other = CHECKPOINT | {"unet/diffusion_pytorch_model.safetensors": UNET | {"extra.weight": (2, 2)}}
    assert http.post("/v1/checkpoints?name=default", content=tar_of(other)).status_code == 201
    again, first = recipe(world, refined(http, render)["id"]), recipe(world, former(render), 4)
    assert (again.steps, again.prompt, again.checkpoint) == (first.steps, first.prompt, first.checkpoint)
    assert recipe(world, refined(http, render, style="noir")["id"]).steps == 3


def test_the_same_key_makes_one_campaign_also_when_the_former_one_has_moved_on(http: Http, render: str) -> None:
    first = refined(http, render, "k", strength=0.5)
    assert http.post(f"/v1/campaigns/{former(render)}/pause").status_code == 200
    assert refined(http, render, "k", strength=0.5)["id"] == first["id"]
    other = http.post(f"/v1/renders/{render}/refine", json={"strength": 0.6}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert refined(http, render, strength=0.5)["id"] != first["id"]


def test_the_same_key_makes_one_campaign_also_when_it_could_not_be_made_any_more(
    world: World, http: Http, render: str, scheduler: Scheduler
) -> None:
    first = refined(http, render, "k", style="noir")
    with world.store.as_team(OURS) as tx:
        waiting = tx.unfinished()
    world.store.add_team(TeamRow(OURS, "full", waiting))
    http.post("/v1/styles", json={"name": "noir", "prompt": "{nobody_has_this}", "size": "64x64"})
    assert refused(http, render, style="noir") == (422, "too_many_renders")
    assert refined(http, render, "k", style="noir")["id"] == first["id"]
    world.settle(former(render), dict.fromkeys((0, 2, 3, 5), "succeeded"))
    with scheduler.tx() as tx:
        tx.prune(CampaignId(read("cmp", former(render))), 100)
    assert refined(http, render, "k", style="noir")["id"] == first["id"]


def test_refining_a_render_of_a_proof_leaves_the_proof_as_it_is(
    http: Http, stocked: list[str], scheduler: Scheduler, world: World
) -> None:
    spec = {"name": "x", "blocks": [{"sources": [{"source": stocked[0]}], "styles": ["noir"], "variants": 9}]}
    campaign = http.post("/v1/campaigns", json=spec | {"proof": {}}).json()["id"]
    assert scheduler.render(campaign) == 1
    (render,) = http.get(f"/v1/campaigns/{campaign}/renders?state=succeeded").json()["data"]
    again = refined(http, render["id"], start="source", seed=3)
    assert again["parent"] is None
    assert http.get(f"/v1/campaigns/{campaign}").json()["state"] == "awaiting_approval"


def test_what_has_no_picture_cannot_be_refined(
    world: World, http: Http, render: str, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = render.rpartition("_")[0]
    assert refused(http, f"{prefix}_0") == (409, "render_not_finished")
    assert refused(http, f"{prefix}_1") == (409, "render_not_finished")
    assert refused(http, f"{prefix}_6") == (404, "not_found")
    assert refused(http, "rnd_0000000000000_0") == (404, "not_found")
    assert refused(http, "cup.png") == (404, "not_found")
    theirs = {"Authorization": f"Bearer {THEIR_KEY}"}
    assert http.post(f"/v1/renders/{render}/refine", json={}, headers=theirs).status_code == 404
    assert refused(http, render, style="nobody") == (422, "unknown_style")
    assert refused(http, render, strenght=0.3) == (422, "invalid")


def test_a_picture_that_was_deleted_is_said_to_be(world: World, http: Http, render: str, scheduler: Scheduler) -> None:
    number = CampaignId(read("cmp", former(render)))
    world.depot.delete([f"pictures/{number}/4/picture.png"])
    assert refused(http, render) == (404, "picture_pruned")
    world.settle(former(render), dict.fromkeys((0, 2, 3, 5), "succeeded"))
    with scheduler.tx() as tx:
        tx.prune(number, 100)
    assert refused(http, render) == (404, "picture_pruned")


def test_a_control_picture_goes_along_where_the_style_follows_it(world: World, http: Http, stocked: list[str]) -> None:
    config, folder = b'{"_class_name": "ControlNetModel"}', "controlnet/depth"
    files = CHECKPOINT | {
        f"{folder}/config.json": config,
        f"{folder}/diffusion_pytorch_model.safetensors": {"w": (1, 1)},
    }
    made = http.post("/v1/checkpoints?name=deep", content=tar_of(files))
    assert made.status_code == 201, made.text
    style = {"name": "deep", "checkpoint": "deep", "steps": 10, "size": "64x64", "control": {"kind": "depth"}}
    assert http.post("/v1/styles", json=style).status_code == 201
    entry = {"source": stocked[0], "control": stocked[1]}
    spec = {"name": "x", "blocks": [{"sources": [entry], "styles": ["deep"]}]}
    campaign = http.post("/v1/campaigns", json=spec).json()["id"]
    world.settle(campaign, {0: "succeeded"})
    render = campaign.replace("cmp_", "rnd_") + "_0"
    first = recipe(world, campaign).control
    assert first is not None
    for start in ("picture", "source"):
        assert recipe(world, refined(http, render, start=start)["id"]).control == first
        assert recipe(world, refined(http, render, start=start, style="noir")["id"]).control is None
