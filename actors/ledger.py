"""Which shards are in hand, how far their rows are, and what of it the scheduler has not acknowledged.

No threads, no clock: the renderer holds its lock around every call and passes ``now`` (seconds, monotonic) in.

A row goes WAITING -> RUNNING -> JUDGING -> PUBLISHING -> ended, and from RUNNING or JUDGING back to WAITING when it is
tried again or made larger. A row that is revoked while it waits goes straight to its end.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from actors.engine.port import Weights
from actors.making import Making
from schemas.order import Lane, OrderRow, ShardOrder
from schemas.report import Failure, Offered, RenderReport, RowReport, Seconds, Tried

MOST_SHARDS = {Lane.BULK: 2, Lane.INTERACTIVE: 1}
"""In hand at once: of bulk one being rendered and one being fetched, and beside them one that goes ahead of both."""

REPORT_ROWS = 50
REPORT_SECONDS = 0.5
REMEMBERED = 256
"""Shards that ended and are still known, so that a repeated offer is not rendered again."""


_NONE = Seconds()


class Stage(Enum):
    WAITING = "waiting"
    RUNNING = "running"  # in the GPU
    JUDGING = "judging"  # its picture is looked at
    PUBLISHING = "publishing"


class RowRef(NamedTuple):
    shard: int
    fence: str
    ordinal: int


@dataclass(slots=True)
class HeldRow:
    """``making`` is None until it has begun; ``spent`` is what it has cost so far, in all its tries."""

    order: OrderRow
    stage: Stage = Stage.WAITING
    stop: bool = False  # in the GPU, and not wanted
    leaving: bool = False  # it does not wait again
    making: Making | None = None
    spent: Seconds = _NONE
    inputs: str = ""  # names the pictures that it is made from; filled by whoever fetches them

    @property
    def unfinished(self) -> bool:
        """Something of it has not been in the GPU yet."""
        return self.making is None or bool(self.making.todo)


@dataclass(slots=True)
class Hand:
    """A shard in hand. ``number`` counts offers taken; ``weights`` is None until they are on disk."""

    order: ShardOrder
    number: int
    rows: dict[int, HeldRow]
    weights: Weights | None = None
    unreported: list[RowReport] = field(default_factory=list)
    since: float = 0.0  # when the oldest of ``unreported`` ended

    @property
    def key(self) -> tuple[int, str]:
        return self.order.shard, self.order.fence

    def refs(self, *stages: Stage) -> list[RowRef]:
        return [RowRef(*self.key, ordinal) for ordinal, row in self.rows.items() if row.stage in stages]


class Ledger:
    def __init__(self, first_seq: int) -> None:
        self.epoch = 0
        self.draining = False
        self._seq = first_seq
        self._taken = 0
        self._hands: dict[tuple[int, str], Hand] = {}
        self._reports: deque[RenderReport] = deque()
        self._ended: deque[tuple[int, str]] = deque(maxlen=REMEMBERED)
        self._newest: dict[int, tuple[int, int]] = {}  # epoch and number of the last order of a shard

    # what the scheduler says

    def hear(self, epoch: int) -> bool:
        """False when the caller is no longer the leader."""
        self.epoch = max(self.epoch, epoch)
        return epoch == self.epoch

    def offer(self, order: ShardOrder) -> Offered:
        key = (order.shard, order.fence)
        if not self.hear(order.epoch):
            return Offered.STALE_EPOCH
        if key in self._hands or key in self._ended or self._is_late(order):
            return Offered.ALREADY
        if self.draining:
            return Offered.DRAINING
        beside = [hand.order for hand in self.hands() if hand.order.shard != order.shard]
        if sum(other.lane is order.lane for other in beside) >= MOST_SHARDS[order.lane]:
            return Offered.FULL
        self._forget_older_fences(order.shard)
        self._taken += 1
        self._remember(order)
        rows = {row.ordinal: HeldRow(row) for row in order.rows}
        hand = self._hands[key] = Hand(order, self._taken, rows)
        self._retire(hand)  # an order without rows is done
        return Offered.TAKEN

    def _is_late(self, order: ShardOrder) -> bool:
        """An offer that was long under way, of a lease that was lost since: the shard has come again meanwhile."""
        return (order.epoch, order.number) < self._newest.get(order.shard, (0, 0))

    def _remember(self, order: ShardOrder) -> None:
        self._newest.pop(order.shard, None)
        self._newest[order.shard] = (order.epoch, order.number)
        while len(self._newest) > REMEMBERED:
            del self._newest[next(iter(self._newest))]

    def _forget_older_fences(self, shard: int) -> None:
        """The lease they were under is lost, so nobody waits for the rows that have not begun."""
        for hand in [hand for hand in self._hands.values() if hand.order.shard == shard]:
            for ref in hand.refs(Stage.WAITING):
                del hand.rows[ref.ordinal]
            for row in hand.rows.values():
                row.leaving = True
            self._retire(hand)

    def revoke(self, shards: Iterable[int] | None, now: float, *, running: bool = True) -> None:
        """Hands back what waits; None means every shard. Rows in the GPU are asked to stop if *running*.

        What is handed back is reported at once: others wait for it. What does not wait now will not wait again.
        """
        wanted = None if shards is None else set(shards)
        for hand in list(self._hands.values()):
            if wanted is not None and hand.order.shard not in wanted:
                continue
            for row in hand.rows.values():
                row.leaving = True
                row.stop = row.stop or (running and row.stage is Stage.RUNNING)
            self.hand_back(hand.refs(Stage.WAITING), now)
            self._file_all(hand)

    # what the renderer does

    def hands(self) -> Iterator[Hand]:
        """Those with rows that have not ended: interactive first, then in order of arrival."""
        held = [hand for hand in self._hands.values() if hand.rows]
        return iter(sorted(held, key=lambda hand: hand.order.lane is not Lane.INTERACTIVE))

    def hand(self, key: tuple[int, str]) -> Hand | None:
        return self._hands.get(key)

    def row(self, ref: RowRef) -> HeldRow | None:
        hand = self._hands.get(ref[:2])
        return None if hand is None else hand.rows.get(ref.ordinal)

    def waiting(self) -> Iterator[tuple[Hand, RowRef, OrderRow]]:
        """Rows that are not in the GPU, in the order of `hands`."""
        for hand, ref, row in self.queue():
            if row.stage is Stage.WAITING:
                yield hand, ref, row.order

    def queue(self) -> Iterator[tuple[Hand, RowRef, HeldRow]]:
        """Rows of which something waits for the GPU: in the order of `hands`, those that have begun before others."""
        for hand in self.hands():
            rows = [item for item in hand.rows.items() if item[1].stage is Stage.WAITING or _partly(item[1])]
            for ordinal, row in sorted(rows, key=lambda item: item[1].making is None):
                yield hand, RowRef(*hand.key, ordinal), row

    def unpublished(self) -> int:
        """Rows whose pictures are held in RAM and that are not in the GPU."""
        rows = (row for hand in self.hands() for row in hand.rows.values())
        return sum(1 for row in rows if row.making is not None and row.stage is not Stage.RUNNING)

    def count(self, stage: Stage) -> int:
        return sum(1 for hand in self.hands() for row in hand.rows.values() if row.stage is stage)

    def move(self, refs: Iterable[RowRef], stage: Stage) -> None:
        for ref in refs:
            self._hands[ref[:2]].rows[ref.ordinal].stage = stage

    def charge(self, ref: RowRef, seconds: Seconds) -> None:
        row = self.row(ref)
        if row is not None:
            row.spent = added(row.spent, seconds)

    def wait_again(self, ref: RowRef, now: float) -> None:
        """It goes to the head of its shard's queue, or back to the scheduler if it was revoked in the meantime."""
        row = self.row(ref)
        if row is not None and row.leaving:
            self.hand_back([ref], now)
        elif row is not None:
            row.stage = Stage.WAITING

    def all_stopped(self, refs: Sequence[RowRef]) -> bool:
        return all(self._hands[ref[:2]].rows[ref.ordinal].stop for ref in refs)

    def end(self, ref: RowRef, report: RowReport, now: float) -> None:
        """The row has ended; a row that is no longer in hand is nobody's business."""
        hand = self._hands.get(ref[:2])
        if hand is None or hand.rows.pop(ref.ordinal, None) is None:
            return
        if not hand.unreported:
            hand.since = now
        hand.unreported.append(report)
        self._retire(hand)

    def hand_back(self, refs: Iterable[RowRef], now: float) -> None:
        self._end_all(refs, now, Tried.HANDED_BACK)

    def fail(self, refs: Iterable[RowRef], failure: Failure, now: float) -> None:
        self._end_all(refs, now, Tried.FAILED, failure)

    def _end_all(self, refs: Iterable[RowRef], now: float, tried: Tried, failure: Failure | None = None) -> None:
        """What they have spent is reported whatever became of them."""
        for ref in list(refs):
            row = self.row(ref)
            if row is not None:
                report = RowReport(
                    ordinal=ref.ordinal,
                    tried=tried,
                    fingerprint=row.order.fingerprint,
                    failure=failure,
                    seconds=row.spent,
                )
                self.end(ref, report, now)

    # what the scheduler hears

    def flush(self, now: float) -> float | None:
        """Makes reports of what is due, and says when the next will be due; None when nothing has ended."""
        for hand in list(self._hands.values()):
            while len(hand.unreported) >= REPORT_ROWS or (hand.unreported and now >= hand.since + REPORT_SECONDS):
                self._file(hand)
        return min((hand.since + REPORT_SECONDS for hand in self._hands.values() if hand.unreported), default=None)

    def reports(self, after_seq: int) -> tuple[RenderReport, ...]:
        return tuple(report for report in self._reports if report.seq > after_seq)

    def acknowledge(self, seq: int) -> None:
        while self._reports and self._reports[0].seq <= seq:
            self._reports.popleft()

    def holds(self) -> tuple[tuple[int, str], ...]:
        """Shards that the scheduler has not heard the end of."""
        filed = ((report.shard, report.fence) for report in self._reports)
        return tuple(dict.fromkeys([*self._hands, *filed]))

    def _retire(self, hand: Hand) -> None:
        """The last rows of a shard are reported at once: somebody waits for it."""
        if hand.rows:
            return
        self._file_all(hand)
        self._hands.pop(hand.key, None)
        self._ended.append(hand.key)

    def _file_all(self, hand: Hand) -> None:
        while hand.unreported:
            self._file(hand)

    def _file(self, hand: Hand) -> None:
        rows, hand.unreported = hand.unreported[:REPORT_ROWS], hand.unreported[REPORT_ROWS:]
        shard, fence = hand.key
        report = RenderReport(seq=self._seq, shard=shard, fence=fence, epoch=hand.order.epoch, rows=tuple(rows))
        self._reports.append(report)
        self._seq += 1


def added(one: Seconds, other: Seconds) -> Seconds:
    return Seconds(**{name: getattr(one, name) + getattr(other, name) for name in Seconds.model_fields})


def _partly(row: HeldRow) -> bool:
    """Some of its tiles are in the GPU, others are not."""
    return row.stage is Stage.RUNNING and row.making is not None and bool(row.making.todo) and not row.leaving
