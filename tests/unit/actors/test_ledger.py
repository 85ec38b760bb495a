"""What is in hand, and what is still to be told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from actors.ledger import REPORT_ROWS, REPORT_SECONDS, Ledger, RowRef, Stage
from actors.making import Making
from actors.prepare import Prepared
from schemas.order import Lane, ShardOrder
from schemas.report import Failure, FailureKind, Offered, RowReport, Seconds, Tried
from tests.unit.actors.support import order, recipe, row


def a_shard(shard: int = 1, *, rows: int = 3, fence: str = "f", epoch: int = 1, lane: Lane = Lane.BULK) -> ShardOrder:
    return order([row(number, recipe()) for number in range(rows)], shard=shard, fence=fence, epoch=epoch, lane=lane)


def ended(ledger: Ledger, ref: RowRef, now: float = 0.0) -> None:
    ledger.end(ref, RowReport(ordinal=ref.ordinal, tried=Tried.SUCCEEDED, fingerprint="f"), now)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(first_seq=100)


def test_two_shards_are_taken_and_a_third_is_not(ledger: Ledger) -> None:
    answers = [ledger.offer(a_shard(number)) for number in (1, 2, 3)]
    assert answers == [Offered.TAKEN, Offered.TAKEN, Offered.FULL]


def test_an_interactive_shard_is_taken_beside_two_of_bulk_and_its_rows_wait_in_front(ledger: Ledger) -> None:
    for number in (1, 2):
        ledger.offer(a_shard(number))
    assert ledger.offer(a_shard(3, lane=Lane.INTERACTIVE)) is Offered.TAKEN
    assert ledger.offer(a_shard(4, lane=Lane.INTERACTIVE)) is Offered.FULL
    assert ledger.offer(a_shard(5)) is Offered.FULL
    assert [ref.shard for _, ref, _ in ledger.waiting()] == [3, 3, 3, 1, 1, 1, 2, 2, 2]


def test_bulk_is_taken_beside_an_interactive_shard(ledger: Ledger) -> None:
    ledger.offer(a_shard(1, lane=Lane.INTERACTIVE))
    assert [ledger.offer(a_shard(number)) for number in (2, 3, 4)] == [Offered.TAKEN, Offered.TAKEN, Offered.FULL]


def test_what_is_handed_back_is_reported_at_once_though_a_row_runs_on(ledger: Ledger) -> None:
    ledger.offer(a_shard(rows=3))
    ledger.move([RowRef(1, "f", 0)], Stage.RUNNING)
    ledger.revoke(None, 0.0, running=False)
    assert [[each.ordinal for each in report.rows] for report in ledger.reports(0)] == [[1, 2]]
    assert ledger.holds() == ((1, "f"),)


def test_new_fence_of_a_shard_in_hand_is_taken_beside_another(ledger: Ledger) -> None:
    ledger.offer(a_shard(1))
    ledger.offer(a_shard(2))
    assert ledger.offer(a_shard(1, fence="g")) is Offered.TAKEN
    assert {ref.fence for _, ref, _ in ledger.waiting() if ref.shard == 1} == {"g"}
    assert (1, "f") not in ledger.holds()


def test_shard_that_ended_is_known_when_it_is_offered_again(ledger: Ledger) -> None:
    ledger.offer(a_shard(rows=1))
    ended(ledger, RowRef(1, "f", 0))
    ledger.acknowledge(100)
    assert ledger.holds() == ()
    assert ledger.offer(a_shard(rows=1)) is Offered.ALREADY


def test_last_row_of_a_shard_is_reported_at_once_and_others_after_a_while(ledger: Ledger) -> None:
    ledger.offer(a_shard(rows=2))
    ended(ledger, RowRef(1, "f", 0), now=10.0)
    assert ledger.flush(10.0) == 10.0 + REPORT_SECONDS
    assert ledger.reports(0) == ()
    ledger.flush(10.0 + REPORT_SECONDS)
    assert [report.seq for report in ledger.reports(0)] == [100]
    ended(ledger, RowRef(1, "f", 1), now=11.0)
    assert [report.seq for report in ledger.reports(0)] == [100, 101]


def test_many_rows_are_reported_before_their_time(ledger: Ledger) -> None:
    ledger.offer(a_shard(rows=REPORT_ROWS + 5))
    for ordinal in range(REPORT_ROWS):
        ended(ledger, RowRef(1, "f", ordinal))
    ledger.flush(0.0)
    assert [len(report.rows) for report in ledger.reports(0)] == [REPORT_ROWS]


def test_revoking_hands_back_what_waits_and_stops_what_runs(ledger: Ledger) -> None:
    ledger.offer(a_shard(rows=3))
    running, publishing = RowRef(1, "f", 0), RowRef(1, "f", 1)
    ledger.move([running], Stage.RUNNING)
    ledger.move([publishing], Stage.PUBLISHING)
    ledger.revoke([1], 0.0)
    assert ledger.all_stopped([running])
    assert ledger.count(Stage.WAITING) == 0
    assert ledger.count(Stage.PUBLISHING) == 1
    assert not ledger.all_stopped([publishing])


def test_draining_does_not_stop_what_runs(ledger: Ledger) -> None:
    ledger.offer(a_shard(rows=1))
    ledger.move([RowRef(1, "f", 0)], Stage.RUNNING)
    ledger.revoke(None, 0.0, running=False)
    assert not ledger.all_stopped([RowRef(1, "f", 0)])


def test_older_epoch_is_not_heard(ledger: Ledger) -> None:
    assert ledger.hear(5)
    assert not ledger.hear(4)
    assert ledger.offer(a_shard(epoch=4)) is Offered.STALE_EPOCH


def begin(ledger: Ledger, ordinal: int, todo: tuple[int, ...] = ()) -> RowRef:
    """Into the GPU; *todo* is still missing."""
    ref = RowRef(1, "f", ordinal)
    row = ledger.row(ref)
    assert row is not None
    nothing = Prepared(picture=Image.new("RGB", (64, 48)), mask=None, control=None, references=())
    row.making = Making(row.order, nothing, todo=todo)
    ledger.move([ref], Stage.RUNNING)
    return ref


def test_a_row_that_goes_back_for_another_try_waits_before_those_that_have_not_begun(ledger: Ledger) -> None:
    ledger.offer(a_shard(rows=3))
    ref = begin(ledger, 2)
    ledger.move([ref], Stage.JUDGING)
    ledger.wait_again(ref, 0.0)
    assert [each.ordinal for _, each, _ in ledger.waiting()] == [2, 0, 1]
    assert ledger.unpublished() == 1


@pytest.mark.parametrize("stage", [Stage.RUNNING, Stage.JUDGING])
def test_a_row_that_was_revoked_does_not_wait_again(ledger: Ledger, stage: Stage) -> None:
    ledger.offer(a_shard(rows=1))
    ref = begin(ledger, 0)
    ledger.charge(ref, Seconds(denoise=2.0))
    ledger.move([ref], stage)
    ledger.revoke([1], 0.0, running=False)
    ledger.charge(ref, Seconds(denoise=1.0))
    ledger.wait_again(ref, 0.0)
    (report,) = ledger.reports(0)
    assert [(each.tried, each.seconds.denoise) for each in report.rows] == [(Tried.HANDED_BACK, 3.0)]


def test_a_row_that_waits_for_another_try_is_handed_back_with_what_it_has_cost(ledger: Ledger) -> None:
    ledger.offer(a_shard(rows=1))
    ref = begin(ledger, 0)
    ledger.charge(ref, Seconds(denoise=2.0, fetch=1.0))
    ledger.wait_again(ref, 0.0)
    ledger.revoke([1], 0.0, running=False)
    assert ledger.reports(0)[0].rows[0].seconds == Seconds(denoise=2.0, fetch=1.0)


def test_a_failure_is_reported_with_what_the_row_has_cost(ledger: Ledger) -> None:
    ledger.offer(a_shard(rows=1))
    ref = begin(ledger, 0)
    ledger.charge(ref, Seconds(load=1.0))
    ledger.fail([ref], Failure(kind=FailureKind.ENGINE, code="broken", detail="It broke."), 0.0)
    assert ledger.reports(0)[0].rows[0].seconds.load == 1.0


def test_tiles_of_a_row_that_is_partly_in_the_gpu_are_in_the_queue_until_it_is_revoked(ledger: Ledger) -> None:
    ledger.offer(a_shard(rows=1))
    ref = begin(ledger, 0, todo=(1001,))
    assert [each for _, each, _ in ledger.queue()] == [ref]
    assert list(ledger.waiting()) == []
    ledger.revoke([1], 0.0, running=False)
    assert list(ledger.queue()) == []


def test_a_row_that_runs_under_an_older_fence_does_not_wait_again(ledger: Ledger) -> None:
    ledger.offer(a_shard(rows=1))
    ref = begin(ledger, 0)
    ledger.offer(a_shard(rows=1, fence="g"))
    ledger.wait_again(ref, 0.0)
    assert [each.fence for _, each, _ in ledger.waiting()] == ["g"]


moves = st.lists(
    st.tuples(st.sampled_from(["offer", "again", "end", "revoke", "flush", "ack"]), st.integers(0, 5)), max_size=40
)


@given(moves)
def test_every_row_taken_is_reported_exactly_once(steps: list[tuple[str, int]]) -> None:
    ledger, taken, seen, after, now = Ledger(first_seq=1), set(), [], 0, 0.0
    for number, (what, choice) in enumerate(steps):
        now += 0.2
        if what == "offer" and ledger.offer(a_shard(choice, fence=f"f{number}", rows=choice + 1)) is Offered.TAKEN:
            taken |= {RowRef(choice, f"f{number}", ordinal) for ordinal in range(choice + 1)}
            # under a new fence the rows of an older one are dropped, not reported
            taken = {ref for ref in taken if ref.shard != choice or ref.fence == f"f{number}" or ref in seen}
        elif what == "end" and (waiting := [ref for _, ref, _ in ledger.waiting()]):
            ref = waiting[choice % len(waiting)]
            ledger.move([ref], Stage.RUNNING)
            ended(ledger, ref, now)
            seen.append(ref)
        elif what == "again" and (waiting := [ref for _, ref, _ in ledger.waiting()]):
            ledger.move([waiting[0]], Stage.JUDGING)
            ledger.wait_again(waiting[0], now)
        elif what == "revoke":
            seen += [ref for _, ref, _ in ledger.waiting() if ref.shard == choice]
            ledger.revoke([choice], now)
    ledger.revoke(None, now)
    ledger.flush(now + 10)
    reports = ledger.reports(after)
    told = [RowRef(report.shard, report.fence, each.ordinal) for report in reports for each in report.rows]
    assert sorted(told) == sorted(taken)
    assert [report.seq for report in reports] == list(range(1, 1 + len(reports)))
    ledger.acknowledge(len(reports))
    assert ledger.holds() == ()


def test_an_offer_that_comes_after_a_newer_one_of_its_shard_is_not_taken(ledger: Ledger) -> None:
    """Its lease was lost, the shard came again and has ended: rendering it once more would be for nothing."""
    first, second = (a_shard(rows=1, fence=f"f{n}").model_copy(update={"number": n}) for n in (1, 2))
    assert ledger.offer(second) is Offered.TAKEN
    ended(ledger, RowRef(1, "f2", 0))
    assert ledger.offer(first) is Offered.ALREADY
    assert ledger.offer(first.model_copy(update={"fence": "f3", "number": 3})) is Offered.TAKEN
