"""The one GPU thread: it lives as long as the renderer. Rows join passes of the UNet and leave them at any step."""

import threading
import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

from actors.admission import Admission, Part, UnderWay, Work, state_of
from actors.clock import Doing
from actors.engine.opened import opened
from actors.engine.port import Ended, Engine, Group, Poisoned, Refused, Rendered
from actors.finishers import Finishers
from actors.ledger import RowRef, Stage
from actors.making import TILES, is_a_miss
from actors.packing import Place
from actors.pools import Pools
from actors.settings import RendererSettings
from actors.shared import Shared
from schemas.report import Failure, FailureKind


class GpuThread:
    def __init__(
        self,
        shared: Shared,
        pools: Pools,
        finishers: Finishers,
        settings: RendererSettings,
        engine: Engine | None,
    ) -> None:
        self._shared, self._pools, self._finishers, self._settings = shared, pools, finishers, settings
        self._given = engine
        self.name = ""
        self.opened = threading.Event()
        """Set when the engine is there, or can't be."""
        self._admission = Admission(shared, pools, settings)
        self._active: dict[Part, UnderWay] = {}
        self._warm: Place[Group] | None = None
        self._thread = threading.Thread(target=self._run, name="gpu", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            engine = self._given or opened(self._settings)
            self.name = engine.gpu
            with self._shared.changed:
                self._shared.engine, self._shared.numerics = engine, engine.numerics
            self.opened.set()
            while (work := self._take(engine)) is not None:
                self._do(engine, work)
            self._hand_back(engine, list(self._active.values()))
        except BaseException as error:  # noqa: BLE001 - whatever ends this thread ends the renderer, and must be heard
            self._give_up(error)
        finally:
            self.opened.set()

    # what next

    def _take(self, engine: Engine) -> Work | None:
        """Waits for something to do; None when the renderer is closed."""
        shared = self._shared
        with shared.changed:
            shared.clock.turn("wait", time.monotonic())
            while not shared.closing:
                self._hand_back(engine, [each for each in self._active.values() if self._unwanted(each.part.ref)])
                if work := self._admission.next(engine, self._active, self._warm):
                    return work
                shared.busy = ""
                waits = any(True for _ in shared.ledger.queue())
                shared.clock.turn("wait" if waits else "idle", time.monotonic())
                shared.changed.wait()
        return None

    def _unwanted(self, ref: RowRef) -> bool:
        """Of a row that will not be finished here, whatever is still missing, no part goes on."""
        row = self._shared.ledger.row(ref)
        return row is None or row.stop or (row.leaving and row.unfinished)

    # do it

    def _do(self, engine: Engine, work: Work) -> None:
        try:
            self._load(engine, work)
            at_once = self._begin(engine, work)
            ended = [*at_once, *self._step(engine, work, {each.id for each in at_once})]
        except Refused as refused:
            engine.drop([each.part for each in work.rows])
            self._fail_all(work, refused.failure)
        except BaseException as error:
            # These rows may be what broke it, so they use up a retry; handing them back would let them break the next.
            detail = f"The renderer broke while it rendered this: {type(error).__name__}."
            self._fail(work.rows, Failure(kind=FailureKind.ENGINE, code="renderer_fault", detail=detail))
            raise
        else:
            self._hand_on(ended)

    def _load(self, engine: Engine, work: Work) -> None:
        first = work.rows[0]
        place = first.packed.place
        if self._warm is not None and self._warm.weights == place.weights:
            return
        same = self._warm is not None and self._warm.checkpoint == place.checkpoint
        self._warm = None
        with self._metered("swap" if same else "load", "load", work.rows):
            engine.load(first.weights)
        self._warm = place
        with self._shared.changed:
            self._shared.warm_digest = first.engine_digest

    def _begin(self, engine: Engine, work: Work) -> list[Ended]:
        ended: list[Ended] = []
        for each in work.joining:
            with self._metered("encode", "encode", [each]):
                at_once = engine.begin(each.part, each.row)
            if at_once is not None:
                ended.append(at_once)
        return ended

    def _step(self, engine: Engine, work: Work, ended: AbstractSet[Hashable]) -> Sequence[Ended]:
        rows = [each for each in work.rows if each.part not in ended]
        if not rows:
            return ()
        with self._metered("denoise", "denoise", rows):
            through = engine.step(work.group)
        with self._shared.changed:
            self._shared.clock.stepped(len(rows))
        return through

    @contextmanager
    def _metered(self, doing: Doing, into: str, rows: Sequence[UnderWay]) -> Iterator[None]:
        """Counts the time for the clock, and shares it out among *rows*."""
        with self._shared.changed:
            began = time.monotonic()  # not before: who holds the lock may read the clock later than that
            self._shared.busy = "load" if into == "load" else "render"
            self._shared.clock.turn(doing, began)
        try:
            yield
        finally:
            share = (time.monotonic() - began) / len(rows)
            for each in rows:
                setattr(each, into, getattr(each, into) + share)

    # what became of it

    def _hand_on(self, ended: Sequence[Ended]) -> None:
        if not ended:
            return
        with self._shared.changed:
            for each in ended:
                left = self._active.pop(each.id, None) if isinstance(each.id, Part) else None
                if left is not None:
                    self._hand_on_part(left, each.result)
            self._ring()

    def _hand_on_part(self, left: UnderWay, result: Rendered | Failure) -> None:
        ledger, (ref, number) = self._shared.ledger, left.part
        row = ledger.row(ref)
        if row is None or row.making is None:
            return
        if isinstance(result, Failure):
            ledger.charge(ref, left.spent)
            if number >= TILES or not is_a_miss(result):
                ledger.fail([ref], result, time.monotonic())
                return
        if number < TILES:
            self._finishers.judge(ref, result, left.load)
            return
        if isinstance(result, Rendered):
            self._finishers.take_tile(ref, number, result, left.load)
        if not any(part.ref == ref for part in self._active):
            if row.making.todo:
                ledger.wait_again(ref, time.monotonic())
            else:
                ledger.move([ref], Stage.JUDGING)

    def _fail_all(self, work: Work, failure: Failure) -> None:
        """Weights that cannot be loaded fail every row that wants them, not only those that were about to begin."""
        self._fail(work.rows, failure)
        state = work.rows[0].packed.place.weights
        with self._shared.changed:
            hands = [hand for hand in self._shared.ledger.hands() if hand.weights and state_of(hand.weights) == state]
            refs = [ref for hand in hands for ref in hand.refs(Stage.WAITING)]
            self._shared.ledger.fail(refs, failure, time.monotonic())
            self._ring()

    def _fail(self, rows: Iterable[UnderWay], failure: Failure) -> None:
        with self._shared.changed:
            refs = self._forget(rows)
            self._shared.ledger.fail(refs, failure, time.monotonic())
            self._ring()

    def _hand_back(self, engine: Engine, rows: Sequence[UnderWay]) -> None:
        """They leave the engine at once; their neighbours go on."""
        if not rows:
            return
        with self._shared.changed:
            engine.drop([each.part for each in rows])
            self._shared.ledger.hand_back(self._forget(rows), time.monotonic())
            self._ring()

    def _forget(self, rows: Iterable[UnderWay]) -> list[RowRef]:
        """What they took is counted. The rows that they are parts of."""
        gone = list(rows)
        for each in gone:
            self._active.pop(each.part, None)
            self._shared.ledger.charge(each.part.ref, each.spent)
        return list(dict.fromkeys(each.part.ref for each in gone))

    def _give_up(self, error: BaseException) -> None:
        with self._shared.changed:
            kind = "The GPU context is lost" if isinstance(error, Poisoned) else "The GPU thread ended"
            self._shared.fault = f"{kind}: {type(error).__name__}: {error}"[:500]
            self._shared.busy = ""
            now, ledger = time.monotonic(), self._shared.ledger
            ledger.hand_back(self._forget(list(self._active.values())), now)
            ledger.revoke(None, now)  # what is being judged will not come back
            ledger.hand_back([ref for hand in ledger.hands() for ref in hand.refs(Stage.RUNNING)], now)
            self._shared.clock.turn("idle", now)
            self._ring()

    def _ring(self) -> None:
        self._pools.release_weights()
        self._pools.fetch_sources()
        self._shared.changed.notify_all()
