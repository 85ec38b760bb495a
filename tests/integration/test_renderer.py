"""A renderer with the fake engine against a small depot: what it takes, reports, hands back and refuses."""

import io
import json
import threading

import pytest
from PIL import Image

from actors.engine.fake import FakeEngine
from actors.engine.port import Poisoned, Refused, Weights
from schemas.order import Lane
from schemas.picture import PictureFormat
from schemas.recipe import Output
from schemas.report import Collected, Failure, FailureKind, Hello, Tried
from schemas.source import SourceFault
from tests.unit.actors.driving import Gate, Make, Recorder
from tests.unit.actors.support import (
    Depot,
    Scheduler,
    lora,
    order,
    picture,
    recipe,
    row,
    rows_of,
)


def test_rows_are_rendered_uploaded_and_reported(depot: Depot, make: Make) -> None:
    renderer = make()
    offered = order(rows_of(depot, 5), depot)
    assert renderer.offer(offered.model_dump_json()) == "taken"

    scheduler = Scheduler(renderer)
    rows = scheduler.all_of(5)

    assert {each.tried for each in rows.values()} == {Tried.SUCCEEDED}
    for ordinal, report in rows.items():
        stored = depot.objects[f"/out/{ordinal}/picture"]
        assert report.picture is not None
        assert report.picture.bytes == len(stored)
        assert Image.open(io.BytesIO(stored)).size == (64, 48)
        note = json.loads(depot.objects[f"/out/{ordinal}/provenance"])
        assert note["fingerprint"] == report.fingerprint == offered.rows[ordinal].fingerprint
        assert note["digests"]["picture"] == report.picture.sha256
        assert max(Image.open(io.BytesIO(depot.objects[f"/out/{ordinal}/thumbnail"])).size) <= 256
        assert "content-md5" in depot.headers[f"/out/{ordinal}/picture"]
    assert all(report.fence == offered.fence for report in scheduler.reports)
    assert depot.asked[f"GET /{offered.rows[0].recipe.source}"] == 1


def test_reports_stay_until_they_are_acknowledged(depot: Depot, make: Make) -> None:
    renderer = make()
    offered = order(rows_of(depot, 2), depot)
    renderer.offer(offered.model_dump_json())
    first = Collected.model_validate_json(renderer.collect(1, 0, 20))
    again = Collected.model_validate_json(renderer.collect(1, 0, 0))
    assert again.reports == first.reports
    assert again.holds == ((offered.shard, offered.fence),)

    empty = Collected.model_validate_json(renderer.collect(1, first.reports[-1].seq, 0))
    assert empty.reports == ()
    assert empty.holds == ()


def test_former_leader_neither_gets_nor_acknowledges_reports(depot: Depot, make: Make) -> None:
    renderer = make()
    renderer.offer(order(rows_of(depot, 2), depot, epoch=2).model_dump_json())
    new = Scheduler(renderer, epoch=2)
    reports = Collected.model_validate_json(renderer.collect(2, 0, 20)).reports

    stale = Collected.model_validate_json(renderer.collect(1, reports[-1].seq, 20))
    assert stale.reports == ()
    assert len(new.all_of(2)) == 2
    hello = Hello.model_validate_json(renderer.adopt(1))
    assert hello.epoch == 2


def test_offers_are_refused_when_stale_full_or_foreign(depot: Depot, make: Make) -> None:
    gate = Gate()
    renderer = make(FakeEngine(batch=2, sleep=gate))
    first = order(rows_of(depot, 2), depot, shard=1)
    assert renderer.offer(first.model_dump_json()) == "taken"
    assert renderer.offer(first.model_dump_json()) == "already"
    assert renderer.offer(order(rows_of(depot, 2, 2), depot, shard=2).model_dump_json()) == "taken"
    assert renderer.offer(order(rows_of(depot, 2, 4), depot, shard=3).model_dump_json()) == "full"
    renderer.adopt(5)
    assert renderer.offer(order(rows_of(depot, 2, 4), depot, shard=3).model_dump_json()) == "stale_epoch"
    assert renderer.offer('{"wire": 99, "who": "knows"}') == "other_wire"
    gate.open.set()
    assert len(Scheduler(renderer, epoch=5).all_of(4)) == 4


def test_revoked_shard_hands_back_what_has_not_begun_and_stops_what_has(depot: Depot, make: Make) -> None:
    gate = Gate()
    renderer = make(FakeEngine(batch=2, sleep=gate))
    renderer.offer(order(rows_of(depot, 6), depot).model_dump_json())
    assert gate.reached.wait(20)
    renderer.revoke(1, [1])
    gate.open.set()

    rows = Scheduler(renderer).all_of(6)
    assert {each.tried for each in rows.values()} == {Tried.HANDED_BACK}
    assert not any(path.startswith("/out/") for path in depot.objects)
    assert [ordinal for ordinal in range(6) if rows[ordinal].seconds.denoise > 0] == [0, 1], "what was stopped has cost"
    assert [rows[ordinal].seconds.gpu for ordinal in range(2, 6)] == [0.0] * 4


def test_revoking_what_waits_lets_what_is_in_the_gpu_finish(depot: Depot, make: Make) -> None:
    gate = Gate()
    renderer = make(FakeEngine(batch=2, sleep=gate))
    renderer.offer(order(rows_of(depot, 6), depot).model_dump_json())
    assert gate.reached.wait(20)
    renderer.revoke(1, [1], False)
    gate.open.set()
    rows = Scheduler(renderer).all_of(6)
    assert sorted(each.tried for each in rows.values()) == [Tried.HANDED_BACK] * 4 + [Tried.SUCCEEDED] * 2


def test_an_interactive_shard_goes_ahead_of_bulk_that_is_warm(depot: Depot, make: Make) -> None:
    gate = Gate()
    engine = Recorder(sleep=gate)
    renderer = make(engine)
    for shard, first in ((1, 0), (2, 10)):
        renderer.offer(order(rows_of(depot, 6, first), depot, shard=shard).model_dump_json())
    assert gate.reached.wait(20)
    ref, used = lora(depot, b"lora")
    proof = [
        row(90 + n, recipe(depot.add(picture("blue")), prompt="proof", loras=(used,), seed=n), depot) for n in range(3)
    ]
    assert (
        renderer.offer(order(proof, depot, shard=3, loras=(ref,), lane=Lane.INTERACTIVE).model_dump_json()) == "taken"
    )

    def at_hand() -> bool:
        shared = renderer._shared
        rows = [found for found in shared.sources.visible(shared.ledger.queue()) if found[1].shard == 3]
        return all(hand.weights is not None and row.inputs in shared.sources for hand, _, row in rows)

    with renderer._shared.changed:
        assert renderer._shared.changed.wait_for(at_hand, 20)
    gate.open.set()
    Scheduler(renderer).all_of(15)
    prompts = ["proof" if each.prompt == "proof" else "bulk" for each in engine.begun]
    assert prompts == ["bulk"] * 2 + ["proof"] * 3 + ["bulk"] * 10


def test_revoking_by_a_former_leader_changes_nothing(depot: Depot, make: Make) -> None:
    gate = Gate()
    renderer = make(FakeEngine(batch=2, sleep=gate))
    renderer.offer(order(rows_of(depot, 4), depot, epoch=3).model_dump_json())
    assert gate.reached.wait(20)
    renderer.revoke(2, [1])
    renderer.drain(2)
    gate.open.set()
    rows = Scheduler(renderer, epoch=3).all_of(4)
    assert {each.tried for each in rows.values()} == {Tried.SUCCEEDED}


def test_draining_finishes_what_is_in_the_gpu_and_takes_no_more(depot: Depot, make: Make) -> None:
    gate = Gate()
    renderer = make(FakeEngine(batch=2, sleep=gate))
    renderer.offer(order(rows_of(depot, 6), depot).model_dump_json())
    assert gate.reached.wait(20)
    renderer.drain(1)
    gate.open.set()

    rows = Scheduler(renderer).all_of(6)
    assert sorted(each.tried for each in rows.values()) == [Tried.HANDED_BACK] * 4 + [Tried.SUCCEEDED] * 2
    assert renderer.offer(order(rows_of(depot, 1), depot, shard=2).model_dump_json()) == "draining"


def test_leaving_hands_back_finishes_what_is_in_the_gpu_and_waits_until_that_is_heard(depot: Depot, make: Make) -> None:
    gate = Gate()
    renderer = make(FakeEngine(batch=2, sleep=gate))
    renderer.offer(order(rows_of(depot, 6), depot).model_dump_json())
    assert gate.reached.wait(20)
    leaving = threading.Thread(target=renderer.leave)
    leaving.start()
    scheduler = Scheduler(renderer)
    scheduler.until(lambda self: len(self.rows()) == 4)
    assert {each.tried for each in scheduler.rows().values()} == {Tried.HANDED_BACK}
    assert leaving.is_alive()
    gate.open.set()
    rows = scheduler.all_of(6)
    assert sorted(each.tried for each in rows.values()) == [Tried.HANDED_BACK] * 4 + [Tried.SUCCEEDED] * 2
    assert renderer.offer(order(rows_of(depot, 1), depot, shard=2).model_dump_json()) == "draining"
    scheduler.collect(0)
    leaving.join(20)
    assert not leaving.is_alive()


def test_leaving_stops_what_does_not_finish_in_time(depot: Depot, make: Make) -> None:
    gate = Gate()
    renderer = make(FakeEngine(batch=2, sleep=gate))
    renderer.offer(order(rows_of(depot, 2), depot).model_dump_json())
    assert gate.reached.wait(20)
    renderer.leave(finish=0.0, most=0.0)
    gate.open.set()
    assert {each.tried for each in Scheduler(renderer).all_of(2).values()} == {Tried.HANDED_BACK}


def test_new_fence_replaces_rows_that_have_not_begun(depot: Depot, make: Make) -> None:
    gate = Gate()
    renderer = make(FakeEngine(batch=2, sleep=gate))
    rows = rows_of(depot, 4)
    old, new = order(rows, depot, fence="old"), order(rows, depot, fence="new")
    renderer.offer(old.model_dump_json())
    assert gate.reached.wait(20)
    assert renderer.offer(new.model_dump_json()) == "taken"
    gate.open.set()

    scheduler = Scheduler(renderer)
    scheduler.until(lambda self: sum(len(report.rows) for report in self.reports) >= 6)
    by_fence = {
        fence: {e.ordinal for r in scheduler.reports if r.fence == fence for e in r.rows} for fence in ("old", "new")
    }
    assert by_fence == {"old": {0, 1}, "new": {0, 1, 2, 3}}


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"hello", SourceFault.NOT_A_PICTURE), (picture()[:60], SourceFault.TRUNCATED)],
)
def test_bad_source_fails_its_own_rows_only(depot: Depot, make: Make, data: bytes, code: str) -> None:
    renderer = make()
    good, bad = rows_of(depot, 3), row(3, recipe(depot.add(data)), depot)
    renderer.offer(order([*good, bad], depot).model_dump_json())
    rows = Scheduler(renderer).all_of(4)
    failure = rows[3].failure
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.BAD_SOURCE, code)
    assert {rows[number].tried for number in range(3)} == {Tried.SUCCEEDED}


def test_source_with_other_bytes_than_its_digest_is_refused(depot: Depot, make: Make) -> None:
    renderer = make()
    rows = rows_of(depot, 1)
    depot.objects[f"/{rows[0].recipe.source}"] = picture("blue")
    renderer.offer(order(rows, depot).model_dump_json())
    failure = Scheduler(renderer).all_of(1)[0].failure
    assert failure is not None
    assert failure.code == "source_wrong_digest"


def test_weights_with_other_bytes_than_their_digest_fail_the_shard(depot: Depot, make: Make) -> None:
    renderer = make()
    rows = rows_of(depot, 3)
    ref, used = lora(depot, b"lora")
    depot.objects[f"/{ref.digest}"] = b"evil"
    changed = [each.model_copy(update={"recipe": each.recipe.model_copy(update={"loras": (used,)})}) for each in rows]
    renderer.offer(order(changed, depot, loras=(ref,)).model_dump_json())
    rows_seen = Scheduler(renderer).all_of(3)
    assert {e.failure.code for e in rows_seen.values() if e.failure} == {"weights_wrong_digest"}
    assert {e.failure.kind for e in rows_seen.values() if e.failure} == {FailureKind.BAD_WEIGHTS}


def test_weights_that_the_engine_refuses_fail_every_row_that_wants_them(depot: Depot, make: Make) -> None:
    refused = Refused(FailureKind.BAD_WEIGHTS, "lora_unknown_keys", "No such key.")
    engine = FakeEngine(batch=2, refused={"c" * 64: refused})
    tries = 0

    def load(weights: Weights) -> None:
        nonlocal tries
        tries += 1
        FakeEngine.load(engine, weights)

    engine.load = load  # type: ignore[method-assign]
    renderer = make(engine)
    renderer.offer(order(rows_of(depot, 5), depot).model_dump_json())
    rows = Scheduler(renderer).all_of(5)
    assert tries == 1
    assert {each.failure.code for each in rows.values() if each.failure} == {"lora_unknown_keys"}
    assert [ordinal for ordinal in range(5) if rows[ordinal].seconds.load > 0] == [0, 1], "the pass that tried to load"


def test_one_bad_picture_does_not_touch_its_neighbours(depot: Depot, make: Make) -> None:
    failure = Failure(kind=FailureKind.BAD_PICTURE, code="picture_not_finite", detail="No.")
    renderer = make(FakeEngine(batch=2, failures={"bad": failure}))
    source = depot.add(picture())
    rows = [row(number, recipe(source, prompt="bad" if number == 1 else "good"), depot) for number in range(4)]
    renderer.offer(order(rows, depot).model_dump_json())
    seen = Scheduler(renderer).all_of(4)
    codes = [each.failure.code if each.failure else "" for _, each in sorted(seen.items())]
    assert codes == ["", failure.code, "", ""]


def test_what_fails_has_cost_its_part_of_the_pass(depot: Depot, make: Make) -> None:
    failure = Failure(kind=FailureKind.OUT_OF_VRAM, code="out_of_vram", detail="No.")
    renderer = make(FakeEngine(batch=2, seconds=0.1, failures={"bad": failure}))
    source = depot.add(picture())
    rows = [row(number, recipe(source, seed=number, prompt="bad"), depot) for number in range(2)]
    renderer.offer(order(rows, depot).model_dump_json())
    seen = Scheduler(renderer).all_of(2)
    assert {each.failure for each in seen.values()} == {failure}
    assert all(0.1 <= each.seconds.denoise < 10 for each in seen.values())


def test_lost_gpu_is_reported_and_everything_else_handed_back(depot: Depot, make: Make) -> None:
    renderer = make(FakeEngine(batch=2, faults={"poison": Poisoned("illegal memory access")}))
    source = depot.add(picture())
    rows = [row(number, recipe(source, prompt="poison" if number == 0 else "good"), depot) for number in range(5)]
    renderer.offer(order(rows, depot).model_dump_json())
    scheduler = Scheduler(renderer)
    seen = scheduler.all_of(5)
    assert [seen[number].tried for number in range(5)] == [Tried.FAILED] * 2 + [Tried.HANDED_BACK] * 3
    assert [seen[number].seconds.gpu > 0 for number in range(5)] == [True] * 2 + [False] * 3
    assert "illegal memory access" in scheduler.collect(0).fault
    assert renderer.offer(order(rows, depot, shard=2).model_dump_json()) == "draining"


def test_depot_that_stumbles_is_asked_again(depot: Depot, make: Make) -> None:
    renderer = make()
    rows = rows_of(depot, 1)
    depot.answers[f"/{rows[0].recipe.source}"] = [503]
    depot.answers["/out/0/picture"] = [500, 429]
    renderer.offer(order(rows, depot).model_dump_json())
    assert Scheduler(renderer).all_of(1)[0].tried is Tried.SUCCEEDED
    assert depot.asked["PUT /out/0/picture"] == 3


@pytest.mark.parametrize(("statuses", "code"), [([403], "depot_link_refused"), ([500] * 9, "depot_unreachable")])
def test_depot_that_refuses_is_a_failure_of_the_row(depot: Depot, make: Make, statuses: list[int], code: str) -> None:
    renderer = make()
    depot.answers["/out/0/picture"] = statuses
    renderer.offer(order(rows_of(depot, 1), depot).model_dump_json())
    failure = Scheduler(renderer).all_of(1)[0].failure
    assert failure is not None
    assert (failure.kind, failure.code) == (FailureKind.DEPOT, code)


def test_upload_whose_tag_is_wrong_is_not_believed(depot: Depot, make: Make) -> None:
    renderer = make()
    depot.wrong_tags.add("/out/0/picture")
    renderer.offer(order(rows_of(depot, 1), depot).model_dump_json())
    failure = Scheduler(renderer).all_of(1)[0].failure
    assert failure is not None
    assert failure.kind is FailureKind.DEPOT


def test_rows_of_many_strengths_all_end(depot: Depot, make: Make) -> None:
    """More groups than the window has pictures must not make the GPU wait for ever."""
    renderer = make()
    sources = [depot.add(picture(colour)) for colour in ("red", "green", "blue", "white", "black", "grey", "pink")]
    strengths = [number / 10 for number in range(1, 10)]
    made = [recipe(source, strength=strength) for source in sources for strength in strengths]
    rows = [row(number, each, depot) for number, each in enumerate(made)]
    renderer.offer(order(rows, depot).model_dump_json())
    assert len(Scheduler(renderer).all_of(len(rows))) == 63


def test_second_shard_is_fetched_while_the_first_renders(depot: Depot, make: Make) -> None:
    gate = Gate()
    renderer = make(FakeEngine(batch=2, sleep=gate))
    renderer.offer(order(rows_of(depot, 2), depot, shard=1).model_dump_json())
    assert gate.reached.wait(20)
    later = depot.add(picture("blue"))
    came = depot.gates[f"/{later}"] = threading.Event()
    came.set()
    renderer.offer(order([row(9, recipe(later), depot)], depot, shard=2).model_dump_json())
    pool = renderer._pools._fetchers
    pool.submit(int).result(20)  # both io threads are behind what was asked of them before
    pool.submit(int).result(20)
    gate.open.set()
    assert len(Scheduler(renderer).all_of(3)) == 3


def test_warm_and_counts_are_told(depot: Depot, make: Make) -> None:
    renderer = make()
    ref, used = lora(depot, b"lora")
    source = depot.add(picture())
    rows = [row(number, recipe(source, loras=(used,)), depot) for number in range(2)]
    renderer.offer(order(rows, depot, loras=(ref,)).model_dump_json())
    scheduler = Scheduler(renderer)
    scheduler.all_of(2)
    answer = scheduler.collect(0)
    assert answer.warm.engine_key == "e" * 64
    assert answer.warm.loras == (ref.digest,)
    assert (answer.cache.checkpoint_loads, answer.cache.lora_loads) == (1, 1)
    assert (answer.waiting, answer.busy) == (0, "")


@pytest.mark.parametrize("file_format", list(PictureFormat))
def test_each_format_is_what_it_says(depot: Depot, make: Make, file_format: PictureFormat) -> None:
    renderer = make()
    source = depot.add(picture())
    made = recipe(source, output=Output(format=file_format))
    renderer.offer(order([row(0, made, depot)], depot).model_dump_json())
    report = Scheduler(renderer).all_of(1)[0]
    assert report.picture is not None
    stored = Image.open(io.BytesIO(depot.objects["/out/0/picture"]))
    assert stored.format == report.picture.format.upper() == file_format.upper()


def test_shutting_down_twice_is_harmless(depot: Depot, make: Make) -> None:
    gate = Gate()
    renderer = make(FakeEngine(batch=2, sleep=gate))
    renderer.offer(order(rows_of(depot, 4), depot).model_dump_json())
    assert gate.reached.wait(20)
    gate.open.set()
    renderer.__ray_shutdown__()
    renderer.__ray_shutdown__()
    assert renderer.offer(order(rows_of(depot, 1), depot, shard=2).model_dump_json()) == "draining"
