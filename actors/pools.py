"""The io threads: what has to be fetched before the GPU can begin, so that it never waits for the network."""

import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from actors.disk import Disk, Lease
from actors.engine.port import Refused
from actors.ledger import MOST_SHARDS, Stage
from actors.links import Links, WrongDigest
from actors.prepare import Prepared, prepared
from actors.settings import RendererSettings
from actors.shared import Shared
from actors.sources import Wanted, key_of
from schemas.order import ShardOrder
from schemas.report import Failure, FailureKind
from schemas.source import MAX_BYTES

FILES_BYTES = 64 * 2**20
"""Files of masks, controls and references that are kept: one reference picture goes with many sources."""

URGENT_THREADS = 2
"""For interactive rows, which must not stand behind what is fetched ahead for bulk."""


class Files:
    """Whole files by sha256, the last ones used. Safe to use from several threads."""

    def __init__(self, links: Links, budget_bytes: int = FILES_BYTES) -> None:
        self._links, self._budget_bytes = links, budget_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def get(self, sha256: str, url: str, *, keep: bool) -> bytes:
        """Raises `Refused`."""
        with self._lock:
            if sha256 in self._kept:
                self._kept.move_to_end(sha256)
                return self._kept[sha256]
        data = self._fetched(sha256, url)
        if keep:
            with self._lock:
                self._kept[sha256] = data
                while sum(map(len, self._kept.values())) > self._budget_bytes:
                    self._kept.popitem(last=False)
        return data

    def _fetched(self, sha256: str, url: str) -> bytes:
        if not url:
            raise Refused(FailureKind.BAD_SOURCE, "source_link_missing", "No link to the source came with the order.")
        try:
            return self._links.get(url, sha256=sha256, limit=MAX_BYTES)
        except WrongDigest as error:
            raise Refused(FailureKind.BAD_SOURCE, "source_wrong_digest", f"Of the source: {error}.") from error


class Pools:
    """Methods without a word on locking are called with ``shared.changed`` held."""

    def __init__(self, shared: Shared, settings: RendererSettings, links: Links) -> None:
        self._shared, self._files = shared, Files(links)
        self._disk = Disk(settings.cache, settings.cache_bytes, links)
        self._leases: dict[tuple[int, str], Lease] = {}
        # Weights have a thread for each shard in hand: gigabytes must not stand before the sources of another shard.
        self._weights = ThreadPoolExecutor(sum(MOST_SHARDS.values()), thread_name_prefix="weights")
        self._fetchers = ThreadPoolExecutor(settings.io_threads, thread_name_prefix="io")
        self._urgent = ThreadPoolExecutor(URGENT_THREADS, thread_name_prefix="urgent io")

    def close(self) -> None:
        """Called without the lock, after the GPU thread has ended."""
        for pool in (self._weights, self._fetchers, self._urgent):
            pool.shutdown(wait=True, cancel_futures=True)
        for lease in self._leases.values():
            lease.release()
        self._leases.clear()

    # weights

    def fetch_weights(self, order: ShardOrder) -> None:
        self._leases[order.shard, order.fence] = lease = Lease()
        self._weights.submit(self._fetch_weights, order, lease)

    def release_weights(self) -> None:
        """Of shards that have ended: from now on they may leave the disk."""
        live = {hand.key for hand in self._shared.ledger.hands()}
        for key in self._leases.keys() - live:
            self._leases.pop(key).release()

    def _fetch_weights(self, order: ShardOrder, lease: Lease) -> None:
        key, failure, weights = (order.shard, order.fence), None, None
        own = Lease()  # nobody else releases it, so no file is closed while it is being locked
        try:
            weights = self._disk.weights(order, own)
            engine = self._shared.engine
            if engine is not None:  # else there is nothing yet that the GPU could be busy with
                engine.stage(weights)
        except Exception as error:  # noqa: BLE001 - see failure_of
            failure = failure_of(error, FailureKind.ENGINE, "weights_fetch")
        with self._shared.changed:
            if self._leases.get(key) is lease:
                lease.take_over(own)
            own.release()
            hand = self._shared.ledger.hand(key)
            if hand is not None and failure is not None:
                self._shared.ledger.fail(hand.refs(Stage.WAITING), failure, time.monotonic())
                self.fetch_sources()
            elif hand is not None:
                hand.weights = weights
            self.release_weights()
            self._shared.changed.notify_all()

    # pictures

    def fetch_sources(self) -> None:
        if self._shared.closing:
            return
        for wanted in self._shared.sources.wanted(self._shared.ledger.queue()):
            (self._urgent if wanted.urgent else self._fetchers).submit(self._fetch_inputs, wanted)

    def _fetch_inputs(self, wanted: Wanted) -> None:
        began, inputs, failure = time.monotonic(), None, None
        try:
            inputs = self._inputs(wanted)
        except Exception as error:  # noqa: BLE001 - see failure_of
            failure = failure_of(error, FailureKind.BAD_SOURCE, "source_unreadable")
        with self._shared.changed:
            now = time.monotonic()
            if inputs is not None:
                self._shared.sources.came(wanted.key, inputs, now - began)
            elif failure is not None:
                self._shared.sources.failed(wanted.key)
                queue = list(self._shared.ledger.queue())
                refs = [ref for _, ref, row in queue if row.making is None and key_of(row) == wanted.key]
                self._shared.ledger.fail(refs, failure, now)
                self.release_weights()
            self.fetch_sources()
            self._shared.changed.notify_all()

    def _inputs(self, wanted: Wanted) -> Prepared:
        """Everything that the row is made from. The source is not kept as a file: it is kept as it is prepared."""
        recipe = wanted.row.recipe
        files = {
            sha256: self._files.get(sha256, wanted.links.get(sha256, ""), keep=sha256 != recipe.source)
            for sha256 in dict.fromkeys(recipe.pictures)
        }
        return prepared(recipe, files)


def failure_of(error: Exception, kind: FailureKind, code: str) -> Failure:
    """A row never disappears in a thread: whatever was raised becomes its failure."""
    if isinstance(error, Refused):
        return error.failure
    if isinstance(error, MemoryError):  # of this machine, now: elsewhere, or later, it goes
        return Failure(
            kind=FailureKind.ENGINE, code="renderer_memory", detail="The renderer's machine is out of memory."
        )
    return Failure(kind=kind, code=code, detail=f"{type(error).__name__}: {error}"[:500])
