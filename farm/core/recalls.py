"""Prefetched shards that somebody else should have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from farm.core.fairshare import Shares
from farm.core.ids import Session
from farm.core.leases import Held, Revoke
from farm.core.placement import SLOTS, Free, Placement
from schemas.order import Lane

WORTH_MOVING = 10.0
"""Seconds that a prefetched shard would still wait, from which on an idle renderer gets it instead."""


def recalls(leases: Mapping[Session, Sequence[Held]], free: Sequence[Free], placement: Placement) -> list[Revoke]:
    """What to hand back, for a team that has nothing yet or a renderer that has nothing to do.

    A team that begins to wait thus waits for no more than the shards that are being rendered. Whoever is to have the
    slot, or the shard, must be able to take it: else it would come and go for ever.
    """
    spare = [_Spare.of(renderer, leases[renderer.session]) for renderer in free if renderer.held == SLOTS]
    spare.sort(key=lambda one: (-one.wait, one.renderer.name))
    found: list[Revoke] = []
    for names in placement.left_out.values():
        _recall(spare, found, lambda one, names=names: one.renderer.name in names)  # type: ignore[misc]  # bound now
    idle = {renderer.name: renderer for renderer in free}
    for name in placement.idle:
        _recall(spare, found, lambda one, to=idle[name]: one.better_at(to, placement.shares))  # type: ignore[misc]  # bound now
    return found


@dataclass(frozen=True, slots=True)
class _Spare:
    """A renderer with a shard that it has only prefetched."""

    renderer: Free
    younger: Held
    wait: float  # seconds until it would begin that

    @classmethod
    def of(cls, renderer: Free, leases: Sequence[Held]) -> "_Spare":
        mine = sorted((held for held in leases if held.lane is Lane.BULK), key=lambda held: held.age)
        return cls(renderer, mine[0], mine[-1].gpu_seconds / renderer.speed)

    def better_at(self, other: Free, shares: Shares) -> bool:
        seconds = self.younger.gpu_seconds
        sooner = seconds / other.speed < self.wait + seconds / self.renderer.speed
        able = self.younger.gpu in (None, other.gpu) and other.name not in self.younger.avoid
        able = able and shares.within_burst(self.younger.team, other.session)
        return able and sooner and self.wait > WORTH_MOVING and not other.probe


def _recall(spare: list[_Spare], found: list[Revoke], suits: Callable[[_Spare], bool]) -> None:
    chosen = next((one for one in spare if suits(one)), None)
    if chosen is not None:
        spare.remove(chosen)
        found.append(Revoke(chosen.renderer.name, (chosen.younger.shard,), running=False))
