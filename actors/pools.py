"""The io and publish threads: all that touches the network, so that the GPU never waits for it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from actors.disk import Disk, Lease
from actors.engine.opened import versions
from actors.engine.port import Refused
from actors.ledger import MOST_SHARDS, RowRef, Stage
from actors.links import Links, WrongDigest
from actors.prepare import prepare
from actors.publish import Made, publish
from actors.settings import RendererSettings
from actors.shared import Shared
from actors.sources import PictureKey
from schemas.order import OrderRow, ShardOrder
from schemas.report import Failure, FailureKind, RowReport, Seconds, Tried
from schemas.source import MAX_BYTES


class Pools:
    """Methods without a word on locking are called with ``shared.changed`` held."""

    def __init__(self, shared: Shared, settings: RendererSettings, session: str) -> None:
        self._shared, self._session, self._versions = shared, session, versions()
        self._closed = threading.Event()
        self._links = Links(self._closed.wait, connections=2 * settings.io_threads + 2)
        self._disk = Disk(settings.cache, settings.cache_bytes, self._links)
        self._leases: dict[tuple[int, str], Lease] = {}
        # Weights have a thread for each shard in hand: gigabytes must not stand before the sources of another shard.
        self._weights = ThreadPoolExecutor(sum(MOST_SHARDS.values()), thread_name_prefix="weights")
        self._fetchers = ThreadPoolExecutor(settings.io_threads, thread_name_prefix="io")
        self._publishers = ThreadPoolExecutor(settings.io_threads, thread_name_prefix="publish")

    def close(self) -> None:
        """Waits for uploads that have begun; called without the lock, after the GPU thread has ended."""
        self._closed.set()
        for pool in (self._weights, self._fetchers, self._publishers):
            pool.shutdown(wait=True, cancel_futures=True)
        for lease in self._leases.values():
            lease.release()
        self._leases.clear()
        self._links.close()

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
        except Exception as error:  # noqa: BLE001 - see _failure
            failure = _failure(error, FailureKind.ENGINE, "weights_fetch")
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

    # sources

    def fetch_sources(self) -> None:
        if self._shared.closing:
            return
        for key, url in self._shared.sources.wanted(self._shared.ledger.waiting()):
            self._fetchers.submit(self._fetch_source, key, url)

    def _fetch_source(self, key: PictureKey, url: str) -> None:
        began, picture, failure = time.monotonic(), None, None
        try:
            picture = self._picture(key, url)
        except Exception as error:  # noqa: BLE001 - see _failure
            failure = _failure(error, FailureKind.BAD_SOURCE, "source_unreadable")
        with self._shared.changed:
            now = time.monotonic()
            if picture is not None:
                self._shared.sources.came(key, picture, now - began)
            elif failure is not None:
                self._shared.sources.failed(key)
                waiting = list(self._shared.ledger.waiting())
                refs = [ref for _, ref, row in waiting if PictureKey.of(row.recipe) == key]
                self._shared.ledger.fail(refs, failure, now)
                self.release_weights()
            self.fetch_sources()
            self._shared.changed.notify_all()

    def _picture(self, key: PictureKey, url: str) -> Image.Image:
        if not url:
            raise Refused(FailureKind.BAD_SOURCE, "source_link_missing", "No link to the source came with the order.")
        try:
            data = self._links.get(url, sha256=key.sha256, limit=MAX_BYTES)
        except WrongDigest as error:
            raise Refused(FailureKind.BAD_SOURCE, "source_wrong_digest", f"Of the source: {error}.") from error
        return prepare(data, size=key.size, fit=key.fit, background=key.background)

    # pictures

    def publish(self, ref: RowRef, row: OrderRow, picture: Image.Image, seconds: Seconds, numerics: str) -> None:
        made = Made(numerics=numerics, session=self._session, seconds=seconds, versions=self._versions)
        self._publishers.submit(self._publish, ref, row, picture, made)

    def _publish(self, ref: RowRef, row: OrderRow, picture: Image.Image, made: Made) -> None:
        began, published, failure = time.monotonic(), None, None
        try:
            published = publish(self._links, row, picture, made)
        except Exception as error:  # noqa: BLE001 - see _failure
            failure = _failure(error, FailureKind.ENGINE, "publish_failed")
        now = time.monotonic()
        report = RowReport(
            ordinal=row.ordinal,
            tried=Tried.FAILED if failure else Tried.SUCCEEDED,
            fingerprint=row.fingerprint,
            picture=published,
            failure=failure,
            seconds=made.seconds.model_copy(update={"publish": now - began}),
        )
        with self._shared.changed:
            self._shared.ledger.end(ref, report, now)
            self.release_weights()
            self._shared.changed.notify_all()


def _failure(error: Exception, kind: FailureKind, code: str) -> Failure:
    """A row never disappears in a thread: whatever was raised becomes its failure."""
    if isinstance(error, Refused):
        return error.failure
    return Failure(kind=kind, code=code, detail=f"{type(error).__name__}: {error}"[:500])
