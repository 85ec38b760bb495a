"""Which shards are in hand, how far their rows are, and what of it the scheduler has not acknowledged.

No threads, no clock: the renderer holds its lock around every call and passes ``now`` (seconds, monotonic) in.

A row goes WAITING -> RUNNING -> PUBLISHING -> ended; a row that is revoked while it waits goes straight to its end.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from actors.engine.port import Weights
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
    RUNNING = "running"
    PUBLISHING = "publishing"


class RowRef(NamedTuple):
    shard: int
    fence: str
    ordinal: int


@dataclass(slots=True)
class HeldRow:
    order: OrderRow
    stage: Stage = Stage.WAITING
    stop: bool = False


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

    # what the scheduler says

    def hear(self, epoch: int) -> bool:
        """False when the caller is no longer the leader."""
        self.epoch = max(self.epoch, epoch)
        return epoch == self.epoch

    def offer(self, order: ShardOrder) -> Offered:
        key = (order.shard, order.fence)
        if not self.hear(order.epoch):
            return Offered.STALE_EPOCH
        if key in self._hands or key in self._ended:
            return Offered.ALREADY
        if self.draining:
            return Offered.DRAINING
        beside = [hand.order for hand in self.hands() if hand.order.shard != order.shard]
        if sum(other.lane is order.lane for other in beside) >= MOST_SHARDS[order.lane]:
            return Offered.FULL
        self._forget_older_fences(order.shard)
        self._taken += 1
        rows = {row.ordinal: HeldRow(row) for row in order.rows}
        hand = self._hands[key] = Hand(order, self._taken, rows)
        self._retire(hand)  # an order without rows is done
        return Offered.TAKEN

    def _forget_older_fences(self, shard: int) -> None:
        """The lease they were under is lost, so nobody waits for the rows that have not begun."""
        for hand in [hand for hand in self._hands.values() if hand.order.shard == shard]:
            for ref in hand.refs(Stage.WAITING):
                del hand.rows[ref.ordinal]
            self._retire(hand)

    def revoke(self, shards: Iterable[int] | None, now: float, *, running: bool = True) -> None:
        """Hands back what has not begun; None means every shard. Rows in the GPU are asked to stop if *running*.

        What is handed back is reported at once: others wait for it.
        """
        wanted = None if shards is None else set(shards)
        for hand in list(self._hands.values()):
            if wanted is not None and hand.order.shard not in wanted:
                continue
            for row in hand.rows.values():
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

    def waiting(self) -> Iterator[tuple[Hand, RowRef, OrderRow]]:
        """Rows that have not begun, in the order of `hands`."""
        for hand in self.hands():
            for ordinal, row in hand.rows.items():
                if row.stage is Stage.WAITING:
                    yield hand, RowRef(*hand.key, ordinal), row.order

    def count(self, stage: Stage) -> int:
        return sum(1 for hand in self.hands() for row in hand.rows.values() if row.stage is stage)

    def move(self, refs: Iterable[RowRef], stage: Stage) -> None:
        for ref in refs:
            self._hands[ref[:2]].rows[ref.ordinal].stage = stage

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

    def hand_back(self, refs: Iterable[RowRef], now: float, seconds: Seconds = _NONE) -> None:
        """*seconds*: what each took before it was stopped."""
        self._end_all(refs, now, lambda row: _report(row, Tried.HANDED_BACK, seconds))

    def fail(self, refs: Iterable[RowRef], failure: Failure, now: float, seconds: Seconds = _NONE) -> None:
        """*seconds*: what each took before it failed."""
        self._end_all(refs, now, lambda row: _report(row, Tried.FAILED, seconds, failure))

    def _end_all(self, refs: Iterable[RowRef], now: float, report: Callable[[OrderRow], RowReport]) -> None:
        for ref in list(refs):
            hand = self._hands.get(ref[:2])
            if hand is not None and ref.ordinal in hand.rows:
                self.end(ref, report(hand.rows[ref.ordinal].order), now)

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


def _report(row: OrderRow, tried: Tried, seconds: Seconds, failure: Failure | None = None) -> RowReport:
    return RowReport(ordinal=row.ordinal, tried=tried, fingerprint=row.fingerprint, failure=failure, seconds=seconds)
