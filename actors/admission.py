"""What the GPU thread does next: the queue is packed, and the parts that join are made ready for the engine."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from actors.engine.port import Engine, Group, Row, Weights
from actors.ledger import Hand, HeldRow, RowRef, Stage
from actors.making import Making, begun, group_of, row_of
from actors.packing import Packed, Place, going_on, next_turn
from actors.pools import Pools
from actors.settings import RendererSettings
from actors.shared import Shared
from schemas.order import Lane
from schemas.report import Seconds

UNPUBLISHED_PASSES = 4
"""No row begins while this many passes of pictures have not been uploaded yet: they are held in RAM."""


_FIRST = 1_000_000
"""As if they took that many steps: rows that have begun hold pictures in RAM until they are through."""


class Part(NamedTuple):
    """One rendering of a row: a try, or a tile."""

    ref: RowRef
    number: int


@dataclass(slots=True)
class UnderWay:
    """A part in the engine. Its seconds are measured here, for those that never come back as a picture."""

    part: Part
    row: Row
    packed: Packed[Part, Group]
    weights: Weights
    engine_digest: str
    load: float = 0.0
    encode: float = 0.0
    denoise: float = 0.0

    @property
    def spent(self) -> Seconds:
        return Seconds(load=self.load, encode=self.encode, denoise=self.denoise)


@dataclass(frozen=True, slots=True)
class Work:
    """What is done next: *joining* begin, then all of *rows*, those among them, take a step."""

    group: Group
    joining: tuple[UnderWay, ...]
    rows: tuple[UnderWay, ...]


class Admission:
    """Called by the GPU thread, with ``shared.changed`` held."""

    def __init__(self, shared: Shared, pools: Pools, settings: RendererSettings) -> None:
        self._shared, self._pools, self._settings = shared, pools, settings

    def next(self, engine: Engine, active: dict[Part, UnderWay], warm: Place[Group] | None) -> Work | None:
        """None when waiting is better. What joins is added to *active*."""
        under_way = [each.packed for each in active.values()]
        place = None if self._anything_urgent() else going_on(under_way, capacity=engine.capacity, warm=warm)
        if place is not None:
            return self._work(place, (), active)
        waiting = {packed.id: (packed, hand, row) for packed, hand, row in self._waiting()}
        queue = [packed for packed, _, _ in waiting.values()]
        turn = next_turn(queue, under_way, capacity=engine.capacity, warm=warm)
        if turn is None:
            return None
        joining = tuple(self._admitted(*waiting[part]) for part in turn.joining)
        active.update((each.part, each) for each in joining)
        if joining:
            self._pools.fetch_sources()
        return self._work(turn.place, joining, active)

    def _work(self, place: Place[Group], joining: tuple[UnderWay, ...], active: dict[Part, UnderWay]) -> Work:
        return Work(place.group, joining, tuple(each for each in active.values() if each.packed.place == place))

    def _anything_urgent(self) -> bool:
        return any(hand.order.lane is Lane.INTERACTIVE for hand in self._shared.ledger.hands())

    def _waiting(self) -> Iterator[tuple[Packed[Part, Group], Hand, HeldRow]]:
        """Parts that wait for the GPU. When too much waits to be uploaded, only of rows that have begun or are urgent:
        of those there are few."""
        shared = self._shared
        room = shared.ledger.unpublished() < UNPUBLISHED_PASSES * self._settings.batch
        state: dict[int, tuple[object, ...]] = {}  # by number of the shard: there are three, and rows by the hundred
        for hand, ref, row in shared.sources.visible(shared.ledger.queue()):
            urgent, has_begun = hand.order.lane is Lane.INTERACTIVE, row.making is not None
            if hand.weights is None or not (room or urgent or has_begun):
                continue
            if hand.number not in state:
                state[hand.number] = state_of(hand.weights)
            ready = has_begun or row.inputs in shared.sources
            for number in (0,) if row.making is None else row.making.todo:
                group = group_of(row.order.recipe, number, lone=_lone(hand))
                place = Place(hand.weights.digest, state[hand.number], group)
                steps = _FIRST if has_begun else row.order.recipe.try_steps
                yield Packed(Part(ref, number), hand.number, place, ready, urgent, steps), hand, row

    def _admitted(self, packed: Packed[Part, Group], hand: Hand, row: HeldRow) -> UnderWay:
        shared, part = self._shared, packed.id
        if row.making is None:
            arrived = shared.sources[row.inputs]
            row.making = Making(row.order, arrived.prepared, lone=_lone(hand))
            shared.ledger.charge(part.ref, Seconds(fetch=arrived.charge()))
        made = row_of(row.making, part.number)
        row.making = begun(row.making, part.number)
        shared.ledger.move([part.ref], Stage.RUNNING)
        if hand.weights is None:
            raise ValueError("A row without weights was packed.")
        return UnderWay(part, made, packed, hand.weights, hand.order.engine_digest)


def _lone(hand: Hand) -> bool:
    """Somebody waits for this one picture."""
    return hand.order.lane is Lane.INTERACTIVE and len(hand.order.rows) == 1


def state_of(weights: Weights) -> tuple[object, ...]:
    return (weights.digest, weights.lora_state, weights.parts)
