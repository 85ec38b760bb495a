"""What is found in a campaign's pictures when they are looked at together."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from farm.core.keys import rendition_key
from farm.usecases import find_duplicates
from schemas.report import Measured, PublishedRendition, TriedSeed
from tests.unit.api.world import World

Http = TestClient


@pytest.fixture
def campaign(http: Http, stocked: list[str]) -> str:
    """16 renders: 2 styles, of which noir has checks, x 2 sources x 4 variants."""
    checked = {"name": "noir", "steps": 10, "size": "64x64", "checks": {"structure": 0.4, "edges": 0.2}}
    assert http.post("/v1/styles", json=checked).status_code == 201
    block = {"sources": [{"source": source} for source in stocked], "styles": ["anime", "noir"], "variants": 4}
    return str(http.post("/v1/campaigns", json={"name": "x", "blocks": [block]}).json()["id"])


def duplicates(http: Http, campaign: str, query: str = "") -> dict[str, Any]:
    response = http.get(f"/v1/campaigns/{campaign}/duplicates{query}")
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_renders_of_one_source_that_look_alike_are_grouped(
    world: World, http: Http, campaign: str, stocked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_duplicates, "WINDOW", 3)
    fates = dict.fromkeys(range(14), "succeeded") | {14: "failed"}
    # 0 and 9 are of the first source and one bit apart; 4 is equal to 0, and of the other source.
    phashes = {n: f"{n * 0x1111_1111_1111_1111:016x}" for n in range(13)}
    phashes |= {0: "00000000000000ff", 9: "00000000000000fe", 4: "00000000000000ff"}
    world.settle(campaign, fates, phashes=phashes)
    found = duplicates(http, campaign, "?distance=2")
    assert (found["distance"], found["compared"], found["unmeasured"]) == (2, 13, 1)
    (group,) = found["groups"]
    assert (group["source"], group["source_name"]) == (stocked[0], "1.png")
    prefix = campaign.replace("cmp_", "rnd_")
    assert [(one["render"], one["distance"], one["style"], one["variant"]) for one in group["renders"]] == [
        (f"{prefix}_0", 0, "anime", 0),
        (f"{prefix}_9", 1, "noir", 1),
    ]
    assert duplicates(http, campaign, "?distance=0")["groups"] == []
    assert len(duplicates(http, campaign)["groups"]) >= 1
    assert http.get(f"/v1/campaigns/{campaign}/duplicates?distance=11").status_code == 422
    assert http.get("/v1/campaigns/cmp_0000000000000/duplicates").status_code == 404


def test_more_pictures_than_can_be_compared_in_time_are_refused(
    world: World, http: Http, campaign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_duplicates, "MOST_DIFFERENT", 3)
    alike = {n: f"{n // 2 * 0x1111_1111_1111_1111:016x}" for n in range(8)}
    world.settle(campaign, dict.fromkeys(range(8), "succeeded"), phashes=alike)
    assert duplicates(http, campaign)["compared"] == 8, "two differ of each source"
    differ = {n: f"{n * 0x1111_1111_1111_1111:016x}" for n in range(8, 16)}
    world.settle(campaign, dict.fromkeys(range(8, 16), "succeeded"), phashes=differ)
    response = http.get(f"/v1/campaigns/{campaign}/duplicates")
    assert (response.status_code, response.json()["code"]) == (422, "too_many_to_compare")


def test_missed_checks_are_counted_where_a_style_has_checks(world: World, http: Http, campaign: str) -> None:
    path = f"/v1/campaigns/{campaign}/checks"
    assert http.get(path).json()["checked"] == 0
    missed, passed = TriedSeed(seed=1, missed=("edges", "structure")), TriedSeed(seed=2)
    fine = Measured(tries=(missed, passed), kept=1)
    world.settle(campaign, {0: "succeeded", 8: "succeeded"}, measured=fine)
    world.settle(campaign, {1: "succeeded", 9: "succeeded"}, measured=Measured(tries=(missed,), kept=0))
    found = http.get(path).json()
    assert found == {
        "checked": 2,
        "missed": 1,
        "rerolled": 1,
        "tries": 3,
        "by_check": {"edges": 1, "structure": 1},
    }


def test_a_render_shows_what_was_measured_and_what_was_made_of_it(world: World, http: Http, campaign: str) -> None:
    fields: dict[str, Any] = {
        "numerics": "cpu|batch=4",
        "measured": Measured(tries=(TriedSeed(seed=7, structure=0.5, phash="ff"),), kept=0),
        "renditions": (PublishedRendition(name="story", sha256="0" * 64, bytes=5, width=9, height=16, format="webp"),),
    }
    world.settle(campaign, {0: "succeeded"}, **fields)
    shown = http.get(f"/v1/renders/{campaign.replace('cmp_', 'rnd_')}_0").json()
    assert (shown["numerics"], shown["measured"]["tries"][0]["structure"]) == ("cpu|batch=4", 0.5)
    assert (shown["renditions"][0]["name"], shown["renditions"][0]["width"]) == ("story", 9)
    number = shown["links"]["picture"].partition("?")[0].rpartition("/")[0]
    assert rendition_key(f"{number}/picture.png", "story", "webp") in shown["links"]["renditions"]["story"]
