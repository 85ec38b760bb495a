"""Who is to blame when renders fail, by what the simulator knows and the scheduler has to find out."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from farm.core.ids import RendererName
from farm.core.settle import NewOutcome, ShardRow
from farm.store.memory import MemoryStore
from tests.simulation.gpu import Fate, Physics, fate_of
from tests.simulation.kernel import Kernel

_SEEN = 3.0
"""Seconds after which a leader that is well has seen a quarantine."""

MOST_WASTED = 15
"""Shards that a broken GPU may get: what it takes to see through it, and probes."""


@dataclass(slots=True)
class Health:
    """Each check returns what is wrong, or None. *broken* says whether a renderer's GPU fails every render."""

    kernel: Kernel
    store: MemoryStore
    physics: Physics
    broken: Callable[[str], bool] = lambda _: False
    wasted: dict[str, int] = field(default_factory=dict)  # shards, by renderer while its GPU was broken

    def leased(self, shard: ShardRow, name: RendererName, at_work: Mapping[RendererName, str]) -> str | None:
        """*at_work*: those that the leader could have chosen from, with their type of GPU."""
        state, now = self.store.state, self.kernel.clock()
        health = state.health.rows.get(name)
        if health is not None and health.quarantined_at is not None:
            known_for = (now - health.quarantined_at).total_seconds()
            if known_for > _SEEN and (health.by_hand or (health.until is not None and now < health.until)):
                return f"{name} is in quarantine since {known_for:.1f} s, and gets shard {shard.id}"
        if name in shard.avoid:
            gpu = state.campaigns.rows[shard.campaign].row.gpu
            able = [other for other in sorted(at_work) if gpu is None or at_work[other] == gpu]
            others = [other for other in able if other not in shard.avoid and self._clean(other)]
            if others:
                return f"shard {shard.id} failed on {name} and goes there again; {others[0]} is free of suspicion"
        return self._wasted(name, at_work) if self.broken(name) else None

    def _wasted(self, name: RendererName, at_work: Collection[RendererName]) -> str | None:
        """Counts only while there are others to compare it with."""
        if sum(not self.broken(other) for other in at_work) < 2:
            return None
        self.wasted[name] = self.wasted.get(name, 0) + 1
        if self.wasted[name] > MOST_WASTED:
            return f"{name} has a broken GPU, and got {self.wasted[name]} shards since"
        return None

    def _clean(self, name: RendererName) -> bool:
        state = self.store.state
        health = state.health.rows.get(name)
        return not state.attempts.by_renderer.get(name) and (health is None or health.quarantined_at is None)

    def outcome(self, render: tuple[int, int], outcome: NewOutcome) -> str | None:
        if outcome.failure is not None and fate_of(outcome.fingerprint, self.physics) in (Fate.GOOD, Fate.FLAKY):
            return f"good render {render} failed: {outcome.failure.code} on {outcome.renderer}"
        return None
