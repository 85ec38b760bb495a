"""A team's sources, weights and styles in the store's twin."""

from collections.abc import Sequence
from dataclasses import replace

from farm.core.errors import Conflict
from farm.core.ids import TeamId
from farm.core.records import CheckpointRow, LoraRow, SourceRow, StyleRow
from farm.store.memory_state import State


class Library:
    """The part of `farm.ports.TeamTx` that keeps what campaigns are made of."""

    def __init__(self, state: State, team: TeamId) -> None:
        self._state = state
        self._team = team

    # sources
    def add_source(self, source: SourceRow) -> bool:
        key = (self._team, source.sha256)
        if key in self._state.sources.rows:
            return False
        self._state.sources.put(key, source)
        return True

    def sources_by_sha(self, digests: Sequence[str]) -> dict[str, SourceRow]:
        rows = self._state.sources.rows
        return {digest: rows[self._team, digest] for digest in digests if (self._team, digest) in rows}

    def sources(self, *, after: str | None, limit: int) -> list[SourceRow]:
        rows = self._state.sources.of(self._team)
        return [row for row in rows if after is None or row.sha256 > after][:limit]

    # weights
    def add_checkpoint(self, row: CheckpointRow) -> None:
        had = self._state.checkpoints.rows.get((self._team, row.name))
        if had is None:
            self._state.checkpoints.put((self._team, row.name), row)
        elif had.digest != row.digest:
            raise Conflict(f"There is a checkpoint {row.name} with other weights.", code="name_taken")

    def checkpoints(self) -> list[CheckpointRow]:
        return sorted(self._state.checkpoints.of(self._team), key=lambda row: row.id)

    def add_lora(self, row: LoraRow) -> None:
        had = self._state.loras.rows.get((self._team, row.name))
        if had is None:
            self._state.loras.put((self._team, row.name), row)
        elif had.digest != row.digest:
            raise Conflict(f"There is a LoRA {row.name} with other weights.", code="name_taken")

    def loras(self) -> list[LoraRow]:
        return sorted(self._state.loras.of(self._team), key=lambda row: row.id)

    # styles
    def add_style(self, row: StyleRow) -> StyleRow:
        versions = self._state.styles.rows.get((self._team, row.name), ())
        if versions and versions[0].spec == row.spec:
            return versions[0]
        new = replace(row, version=len(versions) + 1)
        self._state.styles.put((self._team, row.name), (new, *versions))
        return new

    def styles(self) -> list[StyleRow]:
        return [versions[0] for versions in self._state.styles.of(self._team)]

    def style_versions(self, name: str) -> list[StyleRow]:
        return list(self._state.styles.rows.get((self._team, name), ()))
