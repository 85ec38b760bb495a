"""Renderers that sleep: the real ledger, the real messages, and a GPU that does nothing for as long as it is told.

They stand in for `actors.renderer.Renderer` in a `SimulatedCluster`; like the peers' workers they fetch nothing and
upload nothing.
"""

import threading
import time
import uuid

from actors.ledger import Ledger, RowRef, Stage
from ops.bench._load import Gpu
from ops.bench._no_op import digest
from schemas.order import OrderRow, ShardOrder
from schemas.report import CacheCounts, Collected, Hello, Published, RowReport, Seconds, Tried, Warm

GPU = "sleeper"


class Sleeper:
    """One renderer, with a thread for its GPU. LoRAs are told apart by the order's engine digest."""

    def __init__(self, name: str, gpu: Gpu) -> None:
        self._name, self._session, self._gpu = name, str(uuid.uuid4()), gpu
        self._ledger = Ledger(first_seq=time.time_ns() // 1_000_000)
        self._changed = threading.Condition()
        self._closing = False
        self._loras: dict[str, int] = {}
        self._warm = Warm()
        self._cache = CacheCounts()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    # what the scheduler asks

    def adopt(self, epoch: int) -> str:
        with self._changed:
            self._ledger.hear(epoch)
            return Hello(
                name=self._name,
                session=self._session,
                node="bench",
                pid=1,
                gpu=GPU,
                numerics="none",
                epoch=self._ledger.epoch,
                holds=self._ledger.holds(),
            ).model_dump_json()

    def offer(self, order_json: str) -> str:
        order = ShardOrder.model_validate_json(order_json)
        with self._changed:
            answer = self._ledger.offer(order)
            self._changed.notify_all()
            return answer.value

    def collect(self, epoch: int, after_seq: int, wait_seconds: float) -> str:
        deadline = time.monotonic() + wait_seconds
        with self._changed:
            self._ledger.hear(epoch)
            self._ledger.acknowledge(after_seq)
            while True:
                now = time.monotonic()
                due = self._ledger.flush(now)
                reports = self._ledger.reports(after_seq)
                if reports or self._closing or now >= deadline:
                    return Collected(
                        session=self._session,
                        reports=reports,
                        holds=self._ledger.holds(),
                        waiting=self._ledger.count(Stage.WAITING),
                        busy="render" if self._ledger.count(Stage.RUNNING) else "",
                        warm=self._warm,
                        cache=self._cache,
                    ).model_dump_json()
                self._changed.wait(min(deadline, due or deadline) - now)

    def revoke(self, epoch: int, shards: list[int], running: bool = True) -> None:
        with self._changed:
            if self._ledger.hear(epoch):
                self._ledger.revoke(shards, time.monotonic(), running=running)
                self._changed.notify_all()

    def drain(self, epoch: int) -> None:
        with self._changed:
            if self._ledger.hear(epoch):
                self._ledger.draining = True
                self._ledger.revoke(None, time.monotonic(), running=False)
                self._changed.notify_all()

    def __ray_shutdown__(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    # its GPU

    def _work(self) -> None:
        while (found := self._next()) is not None:
            order, ref, row = found
            switches, seconds = self._gpu.switches, self._gpu.cost(ref.ordinal, self._lora(order))
            time.sleep(seconds)
            with self._changed:
                if self._gpu.switches > switches:
                    self._loaded(order, seconds - self._gpu.seconds)
                self._ledger.end(ref, _done(row, self._gpu.seconds), time.monotonic())
                self._changed.notify_all()

    def _next(self) -> tuple[ShardOrder, RowRef, OrderRow] | None:
        with self._changed:
            while not self._closing:
                for hand, ref, row in self._ledger.waiting():
                    self._ledger.move([ref], Stage.RUNNING)
                    return hand.order, ref, row
                self._changed.wait()
        return None

    def _lora(self, order: ShardOrder) -> int:
        return self._loras.setdefault(order.engine_digest, len(self._loras))

    def _loaded(self, order: ShardOrder, seconds: float) -> None:
        self._warm = Warm(engine_key=order.engine_digest, checkpoint=order.checkpoint.digest)
        self._cache = CacheCounts(
            lora_loads=self._cache.lora_loads + 1, lora_load_seconds=self._cache.lora_load_seconds + seconds
        )


def _done(row: OrderRow, seconds: float) -> RowReport:
    picture = Published(
        key=row.links.picture_key,
        sha256=digest(row.links.picture_key),
        bytes=40_000,
        width=128,
        height=128,
        format="png",
    )
    return RowReport(
        ordinal=row.ordinal,
        tried=Tried.SUCCEEDED,
        fingerprint=row.fingerprint,
        picture=picture,
        seconds=Seconds(denoise=seconds),
    )
