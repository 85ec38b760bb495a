"""Operators: they close renderers by hand, set limits, and put things right in the end."""

from contextlib import suppress
from dataclasses import replace

from farm.core.errors import NotFound
from farm.core.ids import RendererName
from farm.store.memory import MemoryStore
from schemas.campaign import Budget
from tests.simulation.kernel import Kernel


class Operator:
    """Does something now and then, directly to the database as `farm team set` and `farm renderer quarantine` do."""

    def __init__(self, kernel: Kernel, store: MemoryStore, names: tuple[RendererName, ...], every: float) -> None:
        self._kernel, self._store, self._names, self._every = kernel, store, names, every
        self.calm = False
        self._later()

    def _later(self) -> None:
        self._kernel.after(self._kernel.random.expovariate(1 / self._every), self._act)

    def _act(self) -> None:
        if self.calm:
            return
        rng = self._kernel.random
        name, team = rng.choice(self._names), rng.choice(sorted(self._store.state.teams.rows))
        row = self._store.state.teams.rows[team].row
        what = rng.choice(("hold", "release", "budget", "no budget", "burst", "no burst"))
        self._kernel.note("operator", what, name, team)
        match what:
            case "hold" | "release":
                with suppress(NotFound):  # no such renderer, or it is not in quarantine
                    self._close(name, what)
            case "budget":
                self._store.set_limits(replace(row, budget=Budget(gpu_seconds=rng.uniform(10, 200))))
            case "no budget":
                self._store.set_limits(replace(row, budget=None))
            case "burst":
                self._store.set_limits(replace(row, burst=rng.choice((1, 2, 3))))
            case _:
                self._store.set_limits(replace(row, burst=None))
        self._later()

    def _close(self, name: RendererName, what: str) -> None:
        if what == "hold":
            self._store.hold_renderer(name, "It smells of smoke.")
        else:
            self._store.release_renderer(name)

    def settle_down(self) -> None:
        """Nothing that an operator did stands in the way any more."""
        self.calm = True
        for name in self._names:
            health = self._store.state.health.rows.get(name)
            if health is not None and health.by_hand:
                self._store.release_renderer(name)
        for team in sorted(self._store.state.teams.rows):
            row = self._store.state.teams.rows[team].row
            self._store.set_limits(replace(row, budget=None, burst=None))
