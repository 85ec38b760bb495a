"""Event streams over real HTTP: replay, live, and an end when the server ends."""

import hashlib
import threading
from collections.abc import Iterator
from datetime import timedelta

import httpx2
import pytest

from farm.sdk import ApiError
from schemas.campaign import Block, CampaignSpec, SourceEntry
from schemas.style import StyleSpec
from tests.unit.api.serving import Farm, serving
from tests.unit.api.world import CHECKPOINT, KEY, picture, tar_of


@pytest.fixture
def farm() -> Iterator[Farm]:
    with serving() as running:
        yield running


@pytest.fixture
def campaign(farm: Farm, tmp_path) -> str:  # type: ignore[no-untyped-def]
    (tmp_path / "tiny.tar").write_bytes(tar_of(CHECKPOINT))
    farm.client.add_checkpoint("tiny", tmp_path / "tiny.tar")
    farm.client.save_style(StyleSpec(name="noir", steps=10, size="64x64"))
    return submit(farm)


def submit(farm: Farm) -> str:
    source = farm.client.upload_source(picture(), "a.png")
    block = Block(sources=(SourceEntry(source=source.id),), styles=("noir",), variants=3)
    return farm.client.submit(CampaignSpec(name="x", blocks=(block,))).id


def test_a_replay_skips_nothing_and_goes_on_live(farm: Farm, campaign: str) -> None:
    farm.world.settle(campaign, {0: "succeeded"})
    events = farm.client.events(campaign, after=0)
    assert [next(events).kind for _ in range(2)] == ["campaign.submitted", "renders.settled"]
    farm.world.settle(campaign, {1: "failed"})
    third = next(events)
    farm.world.settle(campaign, {2: "succeeded"})
    assert [next(events).kind for _ in range(2)] == ["renders.settled", "campaign.state"]
    later = farm.client.events(after=third.id)
    assert next(later).id == third.id + 1


def test_a_campaigns_stream_holds_only_its_own(farm: Farm, campaign: str) -> None:
    other = submit(farm)
    farm.world.settle(campaign, {0: "succeeded"})
    found = farm.client.events(other, after=0)
    assert next(found).campaign == other
    farm.world.settle(other, {0: "succeeded"})
    assert next(found).campaign == other


def test_last_event_id_wins_over_after(farm: Farm, campaign: str) -> None:
    farm.world.settle(campaign, {0: "succeeded"})
    headers = {"Authorization": f"Bearer {KEY}", "Last-Event-ID": "1"}
    with httpx2.Client() as client, client.sse(f"{farm.url}/v1/events?after=0", headers=headers) as source:
        messages = iter(source)
        first, second = next(messages), next(messages)
    assert (first.event, first.id) == ("stream.opened", "1")
    assert (second.event, second.id) == ("renders.settled", "2")


@pytest.mark.parametrize("bad", ["x", "-1", "1.5", "9" * 30])
def test_bad_positions_are_422(farm: Farm, bad: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Last-Event-ID": bad}
    assert httpx2.get(f"{farm.url}/v1/events", headers=headers).status_code == 422


def test_a_stream_of_no_campaign_is_404(farm: Farm) -> None:
    with pytest.raises(ApiError) as refused:
        next(farm.client.events("cmp_0000000000001"))
    assert refused.value.problem.status == 404


def test_wait_returns_when_the_campaign_has_ended(farm: Farm, campaign: str) -> None:
    finisher = threading.Thread(target=farm.world.settle, args=(campaign, dict.fromkeys(range(3), "succeeded")))
    finisher.start()
    assert farm.client.wait(campaign, timedelta(seconds=30)).counts.succeeded == 3
    finisher.join()
    assert farm.client.wait(campaign).state == "done"


def test_wait_gives_up_in_time(farm: Farm, campaign: str) -> None:
    with pytest.raises(TimeoutError):
        farm.client.wait(campaign, timedelta(milliseconds=200))


def test_streams_end_when_the_server_does() -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx2.Client(timeout=30) as client:
        with serving() as farm:
            stream = client.stream("GET", f"{farm.url}/v1/events", headers=headers)
            response = stream.__enter__()
            assert response.status_code == 200
        assert b"stream.opened" in response.read()  # it came to a proper end, without a broken connection
        stream.__exit__(None, None, None)


def test_streams_end_when_their_key_is_revoked(farm: Farm, campaign: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.api.events.KEY_EVERY", 0.0)
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx2.Client(timeout=30) as client, client.sse(f"{farm.url}/v1/events", headers=headers) as source:
        messages = iter(source)
        assert next(messages).event == "stream.opened"
        farm.world.settle(campaign, {0: "succeeded"})
        assert next(messages).event == "renders.settled"
        del farm.world.store.state.keys.rows[hashlib.sha256(KEY.encode()).digest()]
        farm.world.settle(campaign, {1: "succeeded"})
        assert [message.event for message in messages] == [], "not even what has happened since"
