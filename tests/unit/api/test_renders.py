"""Pages of renders: outcomes, open ranges and cells put together."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from farm.core.ids import CampaignId, read
from farm.core.records import RendererRow
from farm.usecases import list_renders
from tests.unit.api.world import OURS, World


@pytest.fixture
def campaign(world: World, http: TestClient, stocked: list[str]) -> str:
    """24 renders: 2 styles x 2 sources x 2 strengths x 3 variants; one shard each of some of them leased."""
    block = {
        "sources": [{"source": source} for source in stocked],
        "styles": ["anime", "noir"],
        "strengths": [0.3, 0.6],
        "variants": 3,
    }
    found: str = http.post("/v1/campaigns", json={"name": "x", "blocks": [block]}).json()["id"]
    world.settle(found, {0: "succeeded", 3: "failed", 13: "succeeded", 23: "failed"})
    world.store.lease(OURS, CampaignId(read("cmp", found)), 1)
    return found


def pages(http: TestClient, path: str, limit: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    after = ""
    while True:
        page = http.get(f"{path}{'&' if '?' in path else '?'}limit={limit}{after}").json()
        assert len(page["data"]) <= limit
        rows += page["data"]
        if not page["has_more"]:
            assert page["next_cursor"] is None
            return rows
        after = f"&after={page['next_cursor']}"


@pytest.mark.parametrize("limit", [1, 5, 24, 200])
def test_pages_hold_every_render_once_in_order(http: TestClient, campaign: str, limit: int) -> None:
    rows = pages(http, f"/v1/campaigns/{campaign}/renders", limit)
    assert [row["ordinal"] for row in rows] == list(range(24))
    states = {row["ordinal"]: row["state"] for row in rows}
    assert (states[0], states[3], states[13], states[23]) == ("succeeded", "failed", "succeeded", "failed")
    assert set(states.values()) == {"succeeded", "failed", "running", "queued"}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("style=noir", range(12, 24)),
        ("strength=0.6", [n for n in range(24) if n % 6 >= 3]),
        ("style=noir&strength=0.3", [12, 13, 14, 18, 19, 20]),
        ("state=succeeded", [0, 13]),
        ("state=failed&style=noir", [23]),
        ("state=queued&style=noir", [n for n in range(12, 24) if n not in {13, 23}]),
        ("state=running", [n for n in range(12) if n not in {0, 3}]),
        ("state=cancelled", []),
        ("style=nothing", []),
    ],
)
@pytest.mark.parametrize("limit", [2, 50])
def test_filters(http: TestClient, campaign: str, query: str, wanted: Any, limit: int) -> None:
    rows = pages(http, f"/v1/campaigns/{campaign}/renders?{query}", limit)
    assert [row["ordinal"] for row in rows] == list(wanted)


def test_a_source_filter_leaves_its_rows(http: TestClient, campaign: str, stocked: list[str]) -> None:
    rows = pages(http, f"/v1/campaigns/{campaign}/renders?source={stocked[1]}", 4)
    assert [row["ordinal"] for row in rows] == [*range(6, 12), *range(18, 24)]


def test_a_page_costs_a_bounded_number_of_looks(
    world: World, http: TestClient, stocked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    block = {"sources": [{"source": stocked[0]}], "styles": ["noir"], "variants": 10_000, "prompts": ["a", "b", "c"]}
    campaign = http.post("/v1/campaigns", json={"name": "x", "blocks": [block]}).json()["id"]
    world.settle(campaign, {29_999: "failed"})
    page = http.get(f"/v1/campaigns/{campaign}/renders?state=running").json()
    assert (page["data"], page["has_more"]) == ([], True)
    assert page["next_cursor"] == str(list_renders.WINDOW * list_renders.LOOKS - 1)
    failed = http.get(f"/v1/campaigns/{campaign}/renders?state=failed").json()
    assert [row["ordinal"] for row in failed["data"]] == [29_999]


def test_one_render_and_its_links(world: World, http: TestClient, campaign: str) -> None:
    prefix = campaign.replace("cmp_", "rnd_")
    render = http.get(f"/v1/renders/{prefix}_13").json()
    assert (render["style"], render["strength"], render["variant"], render["format"]) == ("noir", 0.3, 1, "png")
    assert render["prompt"] == ", noir"
    number = read("cmp", campaign)
    assert f"pictures/{number}/13/thumbnail.webp" in render["links"]["thumbnail"]
    assert f"pictures/{number}/13/provenance.json" in render["links"]["provenance"]
    assert len(world.depot.fetch(render["links"]["picture"])) == render["bytes"]
    onward = http.get(f"/v1/renders/{prefix}_13/picture", follow_redirects=False)
    assert (onward.status_code, onward.headers["location"]) == (307, render["links"]["picture"])
    failed = http.get(f"/v1/renders/{prefix}_3").json()
    assert (failed["code"], failed["detail"], failed["links"]) == ("engine", "It broke.", None)
    assert http.get(f"/v1/renders/{prefix}_3/picture").json()["code"] == "no_picture"
    for bad in ("24", "999999999999999999", "x", "-1"):
        assert http.get(f"/v1/renders/{prefix}_{bad}").status_code == 404


def test_seeds_are_the_same_across_styles_and_strengths(http: TestClient, campaign: str) -> None:
    rows = pages(http, f"/v1/campaigns/{campaign}/renders", 50)
    by_cell = {(row["source"], row["variant"]): set[int]() for row in rows}
    for row in rows:
        by_cell[row["source"], row["variant"]].add(row["seed"])
    assert [len(seeds) for seeds in by_cell.values()] == [1] * 6


def test_bad_cursors_are_404(http: TestClient, campaign: str) -> None:
    for after in ("x", "-1", "rnd_0000000000000_1"):
        assert http.get(f"/v1/campaigns/{campaign}/renders?after={after}").status_code == 404


def test_renderers_are_listed(world: World, http: TestClient) -> None:
    now = world.clock.now()
    world.store.put_renderer(RendererRow("farm/local/1/0", "s", "busy", "render", "cpu", "n", "num", 2, 7, "ckp", now))
    (row,) = http.get("/v1/renderers").json()["data"]
    assert (row["name"], row["state"], row["waiting"]) == ("farm/local/1/0", "busy", 7)
