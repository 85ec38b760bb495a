"""The client when things go wrong in between."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from farm.sdk import ApiError, Client, Unreachable
from farm.sdk.download import check_template, file_name
from schemas.campaign import Block, CampaignSpec, Render, RenderState, SourceEntry
from tests.unit.api.serving import Farm
from tests.unit.api.world import picture

SPEC = CampaignSpec(name="x", blocks=(Block(sources=(SourceEntry(source="src_" + "0" * 64),), styles=("noir",)),))


def client_of(answer: Callable[[httpx2.Request], httpx2.Response], patience: float = 5) -> Client:
    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    return Client("http://farm", "key", http=http, files=http, patience=timedelta(seconds=patience))


def test_a_call_is_repeated_with_the_same_key_while_the_farm_is_away() -> None:
    keys: list[str] = []
    shown = (
        '{"id":"cmp_1","name":"x","state":"active","priority":50,"parent":null,"created_at":"","finished_at":null,'
        '"counts":{"total":1,"queued":1,"running":0,"succeeded":0,"failed":0,"cancelled":0,"reused":0}}'
    )

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            return httpx2.Response(503, json={"anything": "a proxy says"})
        if len(keys) == 2:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(201, text=shown)

    assert client_of(answer).submit(SPEC).id == "cmp_1"
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_what_is_refused_is_not_repeated() -> None:
    calls: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        calls.append(request.url.path)
        return httpx2.Response(422, text="<html>")

    with pytest.raises(ApiError) as refused:
        client_of(answer).campaign("cmp_1")
    assert (len(calls), refused.value.problem.code) == (1, "http_422")


def test_patience_ends() -> None:
    def away(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with pytest.raises(Unreachable) as gone:
        client_of(away, patience=0).campaign("cmp_1")
    assert gone.value.problem.code == "unreachable"


def render(name: str = "cup.jpg", ordinal: int = 0) -> Render:
    return Render(
        id=f"rnd_{ordinal}",
        ordinal=ordinal,
        state=RenderState.SUCCEEDED,
        source="src_0",
        source_name=name,
        style="noir",
        style_version=1,
        size="64x64",
        prompt="",
        strength=0.35,
        variant=0,
        seed=1,
        format="png",
    )


def test_file_names_hold_no_paths_and_are_distinct() -> None:
    taken: set[str] = set()
    assert file_name(render("../../etc/pa ss?.jpg"), "{source}_{style}_{strength}", taken) == "pa ss-_noir_0.35.png"
    assert file_name(render("a.jpg", 1), "{style}", taken) == "noir.png"
    assert file_name(render("b.jpg", 2), "{style}", taken) == "noir_2.png"
    assert file_name(render("b.jpg", 3), "../{source}", taken) == "-b.png"
    with pytest.raises(ValueError, match="may hold"):
        check_template("{source.__class__}")


def test_a_picture_that_came_wrong_is_not_kept(farm: Farm, tmp_path: Path) -> None:
    wanted = render().model_copy(update={"sha256": "0" * 64, "links": None})

    class Broken(Client):
        def renders(self, campaign: str, **_: object):  # type: ignore[no-untyped-def]
            return iter([wanted])

    with Broken(farm.url, "farm_1_ours") as client:
        done = client.download("cmp_1", tmp_path / "out")
    assert [found for found, _ in done.failed] == ["rnd_0"]
    assert list((tmp_path / "out").iterdir()) == []


def test_uploads_are_repeatable(farm: Farm, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    first = farm.client.upload_source(tmp_path / "a.png")
    assert farm.client.upload_source(tmp_path / "a.png") == first
    assert farm.client.source(first.id).name == "a.png"
