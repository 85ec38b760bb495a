"""Who is to blame when renders fail, by what the simulator knows and the scheduler has to find out."""

from dataclasses import dataclass, field

from farm.core.ids import RendererName
from farm.core.settle import NewOutcome, ShardRow
from farm.store.memory import MemoryStore
from tests.simulation.gpu import Fate, Physics, fate_of
from tests.simulation.kernel import Kernel

_SEEN = 3.0
"""Seconds after which a leader that is well has seen a quarantine."""

MOST_WASTED = 400
"""Renders that a broken GPU may fail before it is closed for good; each probe fails a shard of some ten renders."""


@dataclass(slots=True)
class Health:
    """Each check returns what is wrong, or None."""

    kernel: Kernel
    store: MemoryStore
    physics: Physics
    wasted: dict[str, int] = field(default_factory=dict)  # renders, by node with a broken GPU

    def leased(self, shard: ShardRow, name: RendererName, open_names: frozenset[RendererName]) -> str | None:
        """*open_names*: those that the leader could have chosen from."""
        state, now = self.store.state, self.kernel.clock()
        health = state.health.rows.get(name)
        if health is not None and health.quarantined_at is not None:
            known_for = (now - health.quarantined_at).total_seconds()
            if known_for > _SEEN and (health.by_hand or (health.until is not None and now < health.until)):
                return f"{name} is in quarantine since {known_for:.1f} s, and gets shard {shard.id}"
        if name in shard.avoid:
            others = [other for other in sorted(open_names - set(shard.avoid)) if self._clean(other)]
            if others:
                return f"shard {shard.id} failed on {name} and goes there again; {others[0]} is free of suspicion"
        return None

    def _clean(self, name: RendererName) -> bool:
        state = self.store.state
        health = state.health.rows.get(name)
        return not state.attempts.by_renderer.get(name) and (health is None or health.quarantined_at is None)

    def outcome(self, render: tuple[int, int], outcome: NewOutcome) -> str | None:
        if outcome.failure is not None and fate_of(outcome.fingerprint, self.physics) in (Fate.GOOD, Fate.FLAKY):
            return f"good render {render} failed: {outcome.failure.code} on {outcome.renderer}"
        return None

    def wasted_on(self, node: str) -> str | None:
        """A broken GPU has failed another render."""
        self.wasted[node] = self.wasted.get(node, 0) + 1
        if self.wasted[node] > MOST_WASTED:
            return f"{node} has a broken GPU, and has failed {self.wasted[node]} renders"
        return None
