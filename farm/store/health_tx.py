"""What the scheduler holds against renderers, and for them."""

from collections.abc import Sequence
from datetime import timedelta

from farm.core.ids import RendererName
from farm.store import renderer_sql
from farm.store.statements import Statements


class Health(Statements):
    def note_success(self, names: Sequence[RendererName]) -> None:
        if names:
            self._run(renderer_sql.NOTE_SUCCESS, names=list(names))

    def quarantine(self, name: RendererName, *, why: str, lasts: timedelta) -> None:
        self.forgive(name)
        self._run(renderer_sql.QUARANTINE, name=name, why=why, lasts=lasts)

    def forgive(self, name: RendererName) -> None:
        """What failed there since its last success does not count against the renders."""
        campaigns = sorted({row[0] for row in self._all(renderer_sql.FORGIVE, name=name)})
        if campaigns:
            self._run(renderer_sql.FORGIVE_SHARDS, name=name, campaigns=campaigns)

    def release(self, name: RendererName) -> None:
        self._run(renderer_sql.RELEASE, name=name)
