"""The publish threads: they judge what was rendered, send it back for another try or for tiles, encode and upload.

What takes CPU is done in the encoder processes, so these threads only wait: for the GPU's copy, for those, for
the depot.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import assert_never

from PIL.Image import Image

from actors import finish
from actors.encoders import Encoders
from actors.engine.opened import versions
from actors.engine.port import Refused, Rendered
from actors.ledger import HeldRow, RowRef, Stage
from actors.links import Links
from actors.making import (
    Enlarge,
    Finish,
    GiveUp,
    Making,
    Next,
    TryAgain,
    after_failure,
    after_tile,
    after_try,
    with_tiles,
)
from actors.pools import Pools, failure_of
from actors.publish import Made, upload
from actors.settings import RendererSettings
from actors.shared import Shared
from schemas.order import Lane
from schemas.rendition import enlarged
from schemas.report import Failure, FailureKind, Published, RowReport, Seconds, Tried

URGENT_THREADS = 2
"""For interactive rows, which must not stand behind the uploads of bulk."""


class Finishers:
    """`judge` and `take_tile` are called with ``shared.changed`` held; the rest runs in the threads and takes it."""

    def __init__(self, shared: Shared, pools: Pools, settings: RendererSettings, links: Links, session: str) -> None:
        self._shared, self._pools, self._links = shared, pools, links
        self._session, self._versions = session, versions()
        self._encoders = Encoders(settings.encoders)
        self._threads = {
            Lane.BULK: ThreadPoolExecutor(settings.io_threads, thread_name_prefix="publish"),
            Lane.INTERACTIVE: ThreadPoolExecutor(URGENT_THREADS, thread_name_prefix="urgent publish"),
        }

    def close(self) -> None:
        """Waits for uploads that have begun."""
        for threads in self._threads.values():
            threads.shutdown(wait=True, cancel_futures=True)
        self._encoders.close()

    def judge(self, ref: RowRef, result: Rendered | Failure, load: float) -> None:
        """*load*: seconds of loading weights that this try bears."""
        self._shared.ledger.move([ref], Stage.JUDGING)
        self._submit(ref, lambda making: self._after_try(ref, making, result, load))

    def take_tile(self, ref: RowRef, part: int, rendered: Rendered, load: float) -> None:
        self._submit(ref, lambda _: self._after_tile(ref, part, rendered, load))

    def _submit(self, ref: RowRef, work: Callable[[Making], None]) -> None:
        hand = self._shared.ledger.hand(ref[:2])
        if hand is not None:
            self._threads[hand.order.lane].submit(self._guarded, ref, work)

    # in the threads

    def _guarded(self, ref: RowRef, work: Callable[[Making], None]) -> None:
        """A row never disappears in a thread: whatever is raised becomes its failure."""
        with self._shared.changed:
            row = self._shared.ledger.row(ref)
            making = None if row is None else row.making
        if making is None:  # handed back in the meantime
            return
        try:
            work(making)
        except Exception as error:  # noqa: BLE001 - see above
            self._give_up(ref, failure_of(error, FailureKind.ENGINE, "publish_failed"))

    def _after_try(self, ref: RowRef, making: Making, result: Rendered | Failure, load: float) -> None:
        began = time.monotonic()
        if isinstance(result, Failure):
            following = after_failure(making, result, self._shared.numerics)
        else:
            following = self._judged(ref, making, result, load)
        match following:
            case TryAgain(making):
                self._wait_again(ref, making, began)
            case Enlarge(making, picture, large):
                cut = self._encoders.run(finish.enlarge_and_cut, picture, large)
                self._wait_again(ref, with_tiles(making, cut), began)
            case Finish(making, picture):
                self._publish(ref, making, picture, None, began)
            case GiveUp(failure):
                self._give_up(ref, failure, began)
            case _:
                assert_never(following)

    def _judged(self, ref: RowRef, making: Making, rendered: Rendered, load: float) -> Next:
        recipe, prepared = making.order.recipe, making.prepared
        try:
            picture = rendered.picture()
        except Refused as refused:  # only now has the GPU copied the pixels, and they are no numbers
            return after_failure(making, refused.failure, rendered.numerics)
        finally:
            self._charge(ref, rendered, load)
        judged = self._encoders.run(
            finish.judge, picture, prepared.picture, prepared.mask, making.seed, recipe.checks, rendered.identity()
        )
        return after_try(making, judged.tried, judged.picture, rendered.numerics)

    def _after_tile(self, ref: RowRef, part: int, rendered: Rendered, load: float) -> None:
        began = time.monotonic()
        try:
            picture = rendered.picture()
        finally:
            self._charge(ref, rendered, load)
        with self._shared.changed:
            row = self._shared.ledger.row(ref)
            if row is None or row.making is None:
                return
            making = row.making = after_tile(row.making, part, picture)
        if making.tiled:
            self._merge(ref, making, began)

    def _merge(self, ref: RowRef, making: Making, began: float) -> None:
        recipe, kept = making.order.recipe, making.picture
        large = enlarged(recipe.size, recipe.output.renditions)
        if kept is None or large is None:
            raise ValueError("There are tiles of nothing.")
        tiles = [making.tiles[number] for number in range(len(making.cut))]
        merged = self._encoders.run(finish.merge, tiles, kept, large, making.prepared.mask)
        self._publish(ref, making, kept, merged, began)

    def _publish(self, ref: RowRef, making: Making, picture: Image, large: Image | None, began: float) -> None:
        with self._shared.changed:
            row = self._shared.ledger.row(ref)
            if row is None:
                return
            row.making = making
            self._shared.ledger.move([ref], Stage.PUBLISHING)
            numerics, spent = making.numerics or self._shared.numerics, row.spent
        order = making.order
        files = self._encoders.run(finish.encode, picture, large, order.recipe.output, order.fingerprint)
        made = Made(numerics=numerics, session=self._session, seconds=spent, versions=self._versions)
        published = upload(self._links, order, files, made, making.measured)
        self._end(ref, making, published, began)

    # what became of it

    def _end(self, ref: RowRef, making: Making, published: Published, began: float) -> None:
        with self._shared.changed:
            row = self._charged(ref, began)
            if row is not None:
                report = RowReport(
                    ordinal=ref.ordinal,
                    tried=Tried.SUCCEEDED,
                    fingerprint=making.order.fingerprint,
                    picture=published,
                    seconds=row.spent,
                    numerics=making.numerics,
                )
                self._shared.ledger.end(ref, report, time.monotonic())
            self._ring()

    def _wait_again(self, ref: RowRef, making: Making, began: float) -> None:
        with self._shared.changed:
            row = self._charged(ref, began)
            if row is not None:
                row.making = making
                self._shared.ledger.wait_again(ref, time.monotonic())
            self._ring()

    def _give_up(self, ref: RowRef, failure: Failure, began: float | None = None) -> None:
        with self._shared.changed:
            self._charged(ref, time.monotonic() if began is None else began)
            self._shared.ledger.fail([ref], failure, time.monotonic())
            self._ring()

    def _charge(self, ref: RowRef, rendered: Rendered, load: float) -> None:
        gpu = rendered.seconds  # reading them may wait for the GPU, which nobody else should
        seconds = Seconds(load=load, encode=gpu.encode, denoise=gpu.denoise, decode=gpu.decode)
        with self._shared.changed:
            self._shared.ledger.charge(ref, seconds)
            self._shared.clock.decoded(seconds.decode)

    def _charged(self, ref: RowRef, began: float) -> HeldRow | None:
        self._shared.ledger.charge(ref, Seconds(publish=time.monotonic() - began))
        return self._shared.ledger.row(ref)

    def _ring(self) -> None:
        self._pools.release_weights()
        self._shared.changed.notify_all()
