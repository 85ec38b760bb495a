"""A renderer's process: the real ledger, and a GPU that takes simulated time."""

from collections.abc import Callable, Sequence

from actors.ledger import Hand, Ledger, RowRef, Stage
from farm.core.errors import DepotDown
from schemas.order import OrderRow, ShardOrder
from schemas.report import (
    CacheCounts,
    Collected,
    Failure,
    Hello,
    Offered,
    Published,
    RenderReport,
    RowReport,
    Seconds,
    Tried,
    Warm,
)
from schemas.style import dimensions
from tests.simulation.depot import Courier
from tests.simulation.gpu import BROKEN_GPU, NO_DEPOT, Fate, Pass, Physics, Poll, failure_of, fate_of, row_seconds
from tests.simulation.kernel import Kernel
from tests.simulation.nodes import Node
from tests.simulation.promises import Promises

_PUT_TRIES = 3


class Life:
    """From a process's start to its end. While it is frozen nothing of it moves, and calls wait."""

    def __init__(
        self, kernel: Kernel, name: str, node: Node, physics: Physics, courier: Courier, promises: Promises
    ) -> None:
        self._kernel, self.name, self.node, self._physics = kernel, name, node, physics
        self._courier, self._promises = courier, promises
        self.session = f"{kernel.random.getrandbits(64):016x}"
        self.ledger = Ledger(first_seq=int(kernel.now * 1000) + 1)
        self.dead = False
        self.frozen_until = 0.0
        self.on_death: Callable[[], None] = lambda: None  # the cluster's, when a render takes the process down
        self._polls: list[Poll] = []
        self._fetched: set[tuple[int, str]] = set()
        self._pass: Pass | None = None
        self._passes = 0
        self._loading: tuple[int, str] | None = None
        self._load_left = 0.0
        self._engine = self._checkpoint = ""
        self._loras: tuple[str, ...] = ()
        self._cache = CacheCounts()
        self._flush_at = 0.0

    # time

    def after(self, delay: float, call: Callable[..., None], *arguments: object) -> None:
        self._kernel.after(delay, self._when_able, call, arguments)

    def _when_able(self, call: Callable[..., None], arguments: tuple[object, ...]) -> None:
        if self.dead:
            return
        if self._kernel.now < self.frozen_until:
            self._kernel.after(self.frozen_until - self._kernel.now, self._when_able, call, arguments)
            return
        call(*arguments)

    def die(self) -> None:
        self.dead = True
        self._polls.clear()

    # what the scheduler calls

    def adopt(self, epoch: int) -> Hello:
        self.ledger.hear(epoch)
        self._answer()
        return Hello(
            name=self.name,
            session=self.session,
            node=self.node.name,
            pid=1,
            gpu=self.node.gpu,
            numerics=f"{self.node.gpu} simulated",
            epoch=self.ledger.epoch,
            holds=self.ledger.holds(),
        )

    def offer(self, order: ShardOrder) -> Offered:
        before = self.ledger.epoch
        answer = self.ledger.offer(order)
        if answer is Offered.TAKEN:
            self._promises.order_taken(self.name, order, seen=before)
            self.after(self._physics.fetch, self._fetch, (order.shard, order.fence))
        self._answer()
        return answer

    def collect(self, epoch: int, after: int, wait: float, reply: Callable[[Collected], None]) -> None:
        if not self.ledger.hear(epoch):
            reply(self._collected(()))
            return
        self._answer()  # a former leader's polls end
        self.ledger.acknowledge(after)
        self._polls.append(Poll(epoch, after, self._kernel.now + wait, reply))
        self.after(wait, self._answer)
        self._answer()

    def revoke(self, epoch: int, shards: Sequence[int], running: bool) -> None:
        if self.ledger.hear(epoch):
            self._withdraw(shards, running=running)

    def drain(self, epoch: int) -> None:
        if self.ledger.hear(epoch):
            self.ledger.draining = True
            self._withdraw(None, running=False)

    def _withdraw(self, shards: Sequence[int] | None, *, running: bool) -> None:
        self.ledger.revoke(shards, self._kernel.now, running=running)
        now = self._pass
        if now is not None and self.ledger.all_stopped([ref for ref, _, _ in now.rows]):
            self.after(0.1, self._stopped, now.number)
        self._answer()

    def _answer(self) -> None:
        """Gives waiting polls what there is, and comes back when more will be due."""
        now, ledger = self._kernel.now, self.ledger
        due = ledger.flush(now)
        kept = []
        for poll in self._polls:
            if poll.epoch != ledger.epoch:
                poll.reply(self._collected(()))
                continue
            reports = ledger.reports(poll.after)
            if reports or now >= poll.deadline:
                poll.reply(self._collected(reports))
            else:
                kept.append(poll)
        self._polls = kept
        if due is not None and kept and not now < self._flush_at <= due:
            self._flush_at = due
            self.after(due - now, self._answer)

    def _collected(self, reports: tuple[RenderReport, ...]) -> Collected:
        return Collected(
            session=self.session,
            reports=reports,
            holds=self.ledger.holds(),
            waiting=self.ledger.count(Stage.WAITING),
            busy="load" if self._loading else "render" if self._pass else "",
            warm=Warm(engine_key=self._engine, checkpoint=self._checkpoint, loras=self._loras),
            cache=self._cache,
        )

    # what the GPU does

    def _fetch(self, key: tuple[int, str]) -> None:
        self._fetched.add(key)
        self._go_on()

    def _next_hand(self) -> Hand | None:
        """The first in the ledger's order (interactive first) whose weights are at hand and that has rows to begin."""
        for hand in self.ledger.hands():
            if hand.key in self._fetched and any(row.stage is Stage.WAITING for row in hand.rows.values()):
                return hand
        return None

    def _go_on(self) -> None:
        if self._pass is not None or self._loading is not None:
            return
        hand = self._next_hand()
        if hand is None:
            return
        if hand.order.engine_digest != self._engine:
            self._load(hand)
        else:
            self._begin(hand)

    def _load(self, hand: Hand) -> None:
        self._loading = hand.key
        lora = self._physics.lora * len(hand.order.loras) / self.node.speed
        whole = hand.order.checkpoint.digest != self._checkpoint
        checkpoint = self._physics.checkpoint / self.node.speed if whole else 0.0
        grown = self._cache.model_dump()
        grown["lora_loads"] += len(hand.order.loras)
        grown["lora_load_seconds"] += lora
        grown["checkpoint_loads"] += whole
        grown["checkpoint_hits"] += not whole
        grown["checkpoint_load_seconds"] += checkpoint
        self._cache = CacheCounts(**grown)
        self._load_left = lora + checkpoint
        self.after(lora + checkpoint, self._loaded, hand.order)

    def _loaded(self, order: ShardOrder) -> None:
        self._loading = None
        self._engine, self._checkpoint = order.engine_digest, order.checkpoint.digest
        self._loras = tuple(lora.digest for lora in order.loras)
        self._kernel.note("loaded", self.name, order.engine_digest[:8])
        self._go_on()

    def _begin(self, hand: Hand) -> None:
        rows: list[tuple[RowRef, OrderRow, Seconds]] = []
        load, self._load_left = self._load_left, 0.0
        for ordinal, held in hand.rows.items():
            if held.stage is Stage.WAITING:
                seconds = row_seconds(held.order, self._physics, self.node.speed, self._kernel.random)
                rows.append((RowRef(*hand.key, ordinal), held.order, seconds))
                if len(rows) == self._physics.batch:
                    break
        if load:
            rows = [(ref, row, took.model_copy(update={"load": load / len(rows)})) for ref, row, took in rows]
        self.ledger.move([ref for ref, _, _ in rows], Stage.RUNNING)
        self._passes += 1
        self._pass = Pass(self._passes, rows)
        for ref, row, _ in rows:
            self._kernel.step("starts", self.name, ref.shard, ref.ordinal)
            self._promises.started(self.name, self.session, hand.order, row)
        self.after(sum(took.gpu - took.load for _, _, took in rows), self._done, self._passes)

    def _stopped(self, number: int) -> None:
        """The whole pass may stop, and does, at its next step."""
        now = self._pass
        if now is None or now.number != number:
            return
        self._pass = None
        for ref, row, _ in now.rows:
            self._kernel.step("stops", self.name, ref.shard, ref.ordinal)
            hand = self.ledger.hand(ref[:2])
            if hand is not None:
                self._promises.stopped(hand.order.campaign, ref.ordinal)
            self._end(ref, RowReport(ordinal=ref.ordinal, tried=Tried.HANDED_BACK, fingerprint=row.fingerprint))
        self._go_on()
        self._answer()

    def _done(self, number: int) -> None:
        now = self._pass
        if now is None or now.number != number:
            return
        self._pass = None
        for ref, row, _ in now.rows:
            if fate_of(row.fingerprint, self._physics) is Fate.DEADLY:
                self._kernel.note("killed by", self.name, ref.shard, ref.ordinal)
                self.on_death()
                return
        for ref, row, took in now.rows:
            self._kernel.step("ends", self.name, ref.shard, ref.ordinal)
            failure = self._failure(row)
            if failure is not None:
                self._fail(ref, row, failure, took)
            else:
                self.ledger.move([ref], Stage.PUBLISHING)
                self.after(self._kernel.random.expovariate(1 / self._physics.upload), self._upload, ref, row, took, 1)
        self._go_on()
        self._answer()

    def _failure(self, row: OrderRow) -> Failure | None:
        if self.node.broken:
            return BROKEN_GPU
        fate = fate_of(row.fingerprint, self._physics)
        return failure_of(fate, first=self._promises.first_try(row.fingerprint))

    def _fail(self, ref: RowRef, row: OrderRow, failure: Failure, took: Seconds) -> None:
        report = RowReport(
            ordinal=ref.ordinal, tried=Tried.FAILED, fingerprint=row.fingerprint, failure=failure, seconds=took
        )
        self._end(ref, report)

    def _end(self, ref: RowRef, report: RowReport) -> None:
        self._kernel.step("reports", self.name, ref.shard, ref.ordinal, report.tried.value)
        self._promises.reported(ref.shard, ref.fence, report)
        self.ledger.end(ref, report, self._kernel.now)

    # what is published

    def _upload(self, ref: RowRef, row: OrderRow, took: Seconds, tried: int) -> None:
        self._kernel.step_now("uploads", self.name, ref.shard, ref.ordinal)
        key, data = row.links.picture_key, f"{row.fingerprint} {self.node.gpu}".encode()
        try:
            self._courier.send(row.links.picture, data)
            if ref.ordinal % 4 == 0:  # what lies beside a picture is only there to be collected with it
                self._courier.send(row.links.provenance, data)
            made = tuple(self._courier.rendition(row, wanted, data) for wanted in row.recipe.output.renditions)
        except DepotDown:
            if tried < _PUT_TRIES:
                self.after(2.0**tried, self._upload, ref, row, took, tried + 1)
                return
            self._fail(ref, row, NO_DEPOT, took)
        else:
            width, height = dimensions(row.recipe.size)
            sha256 = self._courier.digest(data)
            picture = Published(
                key=key, sha256=sha256, bytes=len(data), width=width, height=height, format="png", renditions=made
            )
            report = RowReport(
                ordinal=ref.ordinal, tried=Tried.SUCCEEDED, fingerprint=row.fingerprint, picture=picture, seconds=took
            )
            self._end(ref, report)
        self._answer()
