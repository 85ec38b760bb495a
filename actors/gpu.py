"""The one GPU thread: it lives as long as the renderer, and loads, packs and renders."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.engine.opened import opened
from actors.engine.port import Engine, PassKey, Poisoned, Refused, Rendered, Row, Stopped, Weights
from actors.ledger import RowRef, Stage
from actors.packing import Waiting, next_pass
from actors.pools import Pools
from actors.settings import RendererSettings
from actors.shared import Shared
from actors.sources import PictureKey
from schemas.order import Lane, OrderRow
from schemas.recipe import Recipe
from schemas.report import Failure, FailureKind, Seconds

PUBLISHING_PASSES = 4
"""The GPU waits when this many passes of pictures have not been uploaded yet: they are held in RAM."""

_NONE = Seconds()


@dataclass(frozen=True, slots=True)
class Taken:
    """A row of the pass that is about to run."""

    ref: RowRef
    order: OrderRow
    row: Row
    fetch_seconds: float


@dataclass(frozen=True, slots=True)
class Pass:
    weights: Weights
    engine_digest: str
    rows: tuple[Taken, ...]

    @property
    def refs(self) -> list[RowRef]:
        return [taken.ref for taken in self.rows]


@dataclass(slots=True)
class Meter:
    """GPU time of a pass that has begun. Rows that fail or are stopped have used it as well as those that succeed."""

    rows: int
    began: float = field(default_factory=time.monotonic)
    load: float | None = None  # seconds; None until loading is over

    def share(self) -> Seconds:
        """Of one row, until now."""
        took = time.monotonic() - self.began
        load = took if self.load is None else self.load
        return Seconds(load=load / self.rows, denoise=(took - load) / self.rows)


class GpuThread:
    def __init__(self, shared: Shared, pools: Pools, settings: RendererSettings, engine: Engine | None) -> None:
        self._shared, self._pools, self._settings = shared, pools, settings
        self.engine = engine
        self.name = self.numerics = ""
        self.opened = threading.Event()
        """Set when the engine is there, or can't be."""
        self._warm: tuple[object, ...] | None = None
        self._thread = threading.Thread(target=self._run, name="gpu", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            engine = self.engine = self.engine or opened(self._settings)
            self.name, self.numerics = engine.gpu, engine.numerics
            self.opened.set()
            while (turn := self._take(engine.batch)) is not None:
                self._do(engine, turn)
        except BaseException as error:  # noqa: BLE001 - whatever ends this thread ends the renderer, and must be heard
            self._give_up(error)
        finally:
            self.opened.set()

    # what next

    def _take(self, batch: int) -> Pass | None:
        """Waits for a pass; None when the renderer is closed."""
        with self._shared.changed:
            self._shared.busy = ""
            while not self._shared.closing:
                room = self._shared.ledger.count(Stage.PUBLISHING) < PUBLISHING_PASSES * batch
                if room and (turn := self._next(batch)):
                    return turn
                self._shared.changed.wait()
        return None

    def _next(self, batch: int) -> Pass | None:
        rows: dict[RowRef, tuple[Weights, str, OrderRow]] = {}
        waiting: list[Waiting] = []
        sources = self._shared.sources
        for hand, ref, row, key in sources.visible(self._shared.ledger.waiting()):
            if hand.weights is not None:
                rows[ref] = hand.weights, hand.order.engine_digest, row
                ready, urgent = key in sources, hand.order.lane is Lane.INTERACTIVE
                waiting.append(Waiting(ref, hand.number, _state(hand.weights), pass_key(row.recipe), ready, urgent))
        chosen = [ref for ref in next_pass(waiting, batch=batch, warm=self._warm) if isinstance(ref, RowRef)]
        if not chosen:
            return None
        weights, digest, _ = rows[chosen[0]]
        taken = tuple(self._taken(ref, rows[ref][2]) for ref in chosen)
        self._shared.ledger.move(chosen, Stage.RUNNING)
        self._pools.fetch_sources()
        return Pass(weights, digest, taken)

    def _taken(self, ref: RowRef, order: OrderRow) -> Taken:
        recipe, key = order.recipe, PictureKey.of(order.recipe)
        prepared = self._shared.sources[key]
        row = Row(
            source="|".join(key),
            picture=prepared.picture,
            prompt=recipe.prompt,
            negative=recipe.negative_prompt,
            seed=recipe.seed,
            key=pass_key(recipe),
        )
        return Taken(ref, order, row, prepared.charge())

    # do it

    def _do(self, engine: Engine, turn: Pass) -> None:
        meter = Meter(len(turn.rows))
        try:
            meter.load = self._load(engine, turn)
            self._busy("render")
            results = engine.render([taken.row for taken in turn.rows], lambda: self._may_stop(turn))
        except Refused as refused:
            self._fail_all(turn, refused.failure, meter.share())
        except Stopped:
            self._end(turn.refs, None, meter.share())
        except BaseException as error:
            # These rows may be what broke it, so they use up a retry; handing them back would let them break the next.
            detail = f"The renderer broke while it rendered this: {type(error).__name__}."
            self._end(turn.refs, Failure(kind=FailureKind.ENGINE, code="renderer_fault", detail=detail), meter.share())
            raise
        else:
            self._hand_on(turn, results, meter.share())

    def _load(self, engine: Engine, turn: Pass) -> float:
        """Seconds that it took; none when the weights are those of the last pass."""
        began, state = time.monotonic(), _state(turn.weights)
        if state == self._warm:
            return 0.0
        self._busy("load")
        self._warm = None
        engine.load(turn.weights)
        self._warm = state
        with self._shared.changed:
            self._shared.warm_digest, self._shared.held = turn.engine_digest, engine.held()
        return time.monotonic() - began

    def _hand_on(self, turn: Pass, results: Sequence[Rendered | Failure], share: Seconds) -> None:
        with self._shared.changed:
            for taken, result in zip(turn.rows, results, strict=True):
                if isinstance(result, Failure):
                    self._shared.ledger.fail([taken.ref], result, time.monotonic(), share)
                    continue
                gpu = result.seconds
                seconds = Seconds(
                    fetch=taken.fetch_seconds,
                    load=share.load,
                    encode=gpu.encode,
                    denoise=gpu.denoise,
                    decode=gpu.decode,
                )
                self._shared.ledger.move([taken.ref], Stage.PUBLISHING)
                self._pools.publish(taken.ref, taken.order, result.picture, seconds, self.numerics)
            self._pools.release_weights()
            self._shared.changed.notify_all()

    def _fail_all(self, turn: Pass, failure: Failure, seconds: Seconds) -> None:
        """Weights that cannot be loaded fail every row that wants them, not only those of this pass."""
        with self._shared.changed:
            state = _state(turn.weights)
            hands = [hand for hand in self._shared.ledger.hands() if hand.weights and _state(hand.weights) == state]
            refs = [ref for hand in hands for ref in hand.refs(Stage.WAITING)]
        self._end(turn.refs, failure, seconds)
        self._end(refs, failure, _NONE)

    def _end(self, refs: Sequence[RowRef], failure: Failure | None, seconds: Seconds) -> None:
        with self._shared.changed:
            if failure is None:
                self._shared.ledger.hand_back(refs, time.monotonic(), seconds)
            else:
                self._shared.ledger.fail(refs, failure, time.monotonic(), seconds)
            self._pools.release_weights()
            self._pools.fetch_sources()
            self._shared.changed.notify_all()

    def _may_stop(self, turn: Pass) -> bool:
        with self._shared.changed:
            return self._shared.closing or self._shared.ledger.all_stopped(turn.refs)

    def _busy(self, what: str) -> None:
        with self._shared.changed:
            self._shared.busy = what

    def _give_up(self, error: BaseException) -> None:
        with self._shared.changed:
            kind = "The GPU context is lost" if isinstance(error, Poisoned) else "The GPU thread ended"
            self._shared.fault = f"{kind}: {type(error).__name__}: {error}"[:500]
            self._shared.busy = ""
            now, ledger = time.monotonic(), self._shared.ledger
            ledger.hand_back([ref for hand in ledger.hands() for ref in hand.refs(Stage.WAITING, Stage.RUNNING)], now)
            self._pools.release_weights()
            self._shared.changed.notify_all()


def pass_key(recipe: Recipe) -> PassKey:
    return PassKey(recipe.strength, recipe.steps, recipe.guidance, recipe.sampler, recipe.size)


def _state(weights: Weights) -> tuple[object, ...]:
    return (weights.digest, weights.lora_state)
