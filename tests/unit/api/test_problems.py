"""Auth, and the shape of every error."""

import errno
import hashlib
import json

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from schemas.problem import Problem
from tests.unit.api.world import KEY, THEIR_KEY, World


def problem(response) -> Problem:  # type: ignore[no-untyped-def]
    assert response.headers["content-type"] == "application/problem+json"
    found = Problem.model_validate_json(response.content)
    assert found.status == response.status_code
    assert found.request_id == response.headers["x-request-id"]
    return found


@pytest.mark.parametrize("header", [None, "Bearer farm_1_wrong", "Basic abc", f"Bearer {KEY} ", "Bearer "])
def test_without_a_good_key_nothing_is_answered(app: FastAPI, header: str | None) -> None:
    with TestClient(app) as client:
        response = client.get("/v1/campaigns", headers={} if header is None else {"Authorization": header})
    if header == f"Bearer {KEY} ":  # HTTP strips what stands around a header's value
        assert response.status_code == 200
        return
    assert problem(response).code in {"no_key", "bad_key"}
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_revoked_key_ends_at_once(world: World, http: TestClient) -> None:
    assert http.get("/v1/styles").status_code == 200
    world.store.revoke_key(hashlib.sha256(KEY.encode()).digest())
    assert problem(http.get("/v1/styles")).code == "bad_key"


def test_a_key_in_the_address_is_no_key(app: FastAPI) -> None:
    with TestClient(app) as client:
        assert client.get(f"/v1/styles?key={KEY}&api_key={KEY}").status_code == 401


def test_unknown_routes_and_methods_are_problems(http: TestClient) -> None:
    assert problem(http.get("/v1/nothing")).code == "not_found"
    assert problem(http.delete("/v1/campaigns")).code == "method_not_allowed"


def test_every_invalid_field_is_named_with_its_pointer(http: TestClient) -> None:
    block = {"sources": [], "styles": ["Big"], "strengths": [2], "wrong/key": 1}
    found = problem(http.post("/v1/campaigns", json={"name": "", "blocks": [block]}))
    assert found.status == 422
    pointers = {fault.pointer for fault in found.errors}
    assert pointers == {
        "/name",
        "/blocks/0/sources",
        "/blocks/0/styles/0",
        "/blocks/0/strengths/0",
        "/blocks/0/wrong~1key",
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"name": NaN}',
        b'{"name": "x", "seed": 1e999, "blocks": []}',
        b'{"name": "x", "seed": ' + b"9" * 5000 + b', "blocks": []}',
        b'{"name": "\\ud800", "blocks": []}',
        b'{"name": "\\u0000", "blocks": [{"sources": [{"source": "src_' + b"0" * 64 + b'"}], "styles": ["a"]}]}',
        b"\xff\xfe",
        b"null",
        b'"text"',
    ],
    ids=lambda body: body[:12].decode("latin-1"),
)
def test_a_body_that_is_no_campaign_is_422_never_500(http: TestClient, body: bytes) -> None:
    response = http.post("/v1/campaigns", content=body, headers={"Content-Type": "application/json"})
    assert problem(response).status == 422


def test_nan_in_a_style_is_refused(http: TestClient) -> None:
    body = json.dumps({"name": "x", "strength": float("nan")})
    response = http.post("/v1/styles", content=body, headers={"Content-Type": "application/json"})
    assert [fault.pointer for fault in problem(response).errors] == ["/strength"]


@pytest.mark.parametrize("value", ["0", "201", "x", "-1"])
def test_page_limits_are_checked(http: TestClient, value: str) -> None:
    found = problem(http.get(f"/v1/campaigns?limit={value}"))
    assert found.errors[0].pointer == "/query/limit"


def test_what_nobody_foresaw_is_a_500_with_its_request_id(
    world: World, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.store, "as_team", lambda team: 1 / 0)
    response = http.get("/v1/styles", headers={"X-Request-Id": "mine-7"})
    found = problem(response)
    assert (found.status, found.code, found.request_id) == (500, "internal", "mine-7")
    assert "ZeroDivision" not in response.text


def test_a_request_id_that_could_forge_a_log_line_is_replaced(http: TestClient) -> None:
    response = http.get("/healthz", headers={"X-Request-Id": 'a" status=200 b'})
    assert len(response.headers["x-request-id"]) == 16


def test_a_dead_store_or_depot_is_503_and_readyz_says_which(world: World, http: TestClient) -> None:
    assert http.get("/readyz").text == "ok\n"
    world.store.down = True
    response = http.get("/v1/styles")
    assert problem(response).code == "store_down"
    assert int(response.headers["retry-after"]) > 0
    world.depot.answers = False
    found = problem(http.get("/readyz"))
    assert [fault.code for fault in found.errors] == ["store_down", "depot_down"]
    assert "PostgreSQL" in found.detail
    assert http.get("/healthz").status_code == 200
    assert 'farm_api_unavailable_total{code="store_down"} 2.0' in http.get("/metrics").text


def test_openapi_has_every_route_with_examples(http: TestClient) -> None:
    spec = http.get("/openapi.json").json()
    assert "/v1/campaigns/{campaign}/renders" in spec["paths"]
    body = spec["paths"]["/v1/campaigns"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["examples"][0]["name"] == "Autumn coffee"
    assert "Problem" in spec["components"]["schemas"]


def test_teams_do_not_see_one_another(http: TestClient, stocked: list[str]) -> None:
    spec = {"name": "x", "blocks": [{"sources": [{"source": stocked[0]}], "styles": ["noir"]}]}
    campaign = http.post("/v1/campaigns", json=spec).json()["id"]
    theirs = {"Authorization": f"Bearer {THEIR_KEY}"}
    render = campaign.replace("cmp_", "rnd_") + "_0"
    for path in (
        f"/v1/campaigns/{campaign}",
        f"/v1/campaigns/{campaign}/renders",
        f"/v1/campaigns/{campaign}/events",
        f"/v1/renders/{render}",
        f"/v1/renders/{render}/picture",
        f"/v1/sources/{stocked[0]}",
        "/v1/styles/noir",
    ):
        assert problem(http.get(path, headers=theirs)).code == "not_found", path
    for verb in ("pause", "resume", "cancel", "retry"):
        assert problem(http.post(f"/v1/campaigns/{campaign}/{verb}", headers=theirs)).status == 404
    assert http.get("/v1/campaigns", headers=theirs).json()["data"] == []


@pytest.mark.parametrize("bad", ["cmp_1", "cmp_iiiiiiiiiiiii", "cmp_zzzzzzzzzzzzz", "rnd_0000000000001", "%00", "a b"])
def test_ids_that_cannot_exist_are_404(http: TestClient, bad: str) -> None:
    assert http.get(f"/v1/campaigns/{bad}").status_code == 404
    assert http.get(f"/v1/renders/{bad}_0").status_code == 404
    assert http.get(f"/v1/sources/{bad}").status_code == 404


def test_a_full_disk_is_503_in_words(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("farm.api.uploads.run_in_threadpool", full)
    found = problem(http.post("/v1/sources?name=a", content=b"x"))
    assert (found.status, found.code) == (503, "disk_full")
    assert "disk" in found.detail


def test_another_error_of_the_system_is_a_500(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("farm.api.uploads.run_in_threadpool", broken)
    assert problem(http.post("/v1/sources?name=a", content=b"x")).code == "internal"
