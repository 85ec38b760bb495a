"""What the API may do in one transaction, always for one team."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from farm.core.errors import Conflict, NotFound
from farm.core.ids import CampaignId, StyleId
from farm.core.records import (
    CheckpointRow,
    CostRow,
    FarmView,
    LoadCost,
    LoraRow,
    RendererRow,
    SourceRow,
    SpentRow,
    StyleRow,
    TeamRow,
    WhyFacts,
)
from farm.store import campaign_sql, queue_sql, rows, team_sql
from farm.store.campaign_tx import Campaigns, TeamStatements
from schemas.style import StrengthMode, StyleSpec


def _json(value: Any) -> str:
    return value.model_dump_json()  # type: ignore[no-any-return]  # a pydantic model


class Library(TeamStatements):
    """Sources, weights, styles."""

    # sources

    def add_source(self, source: SourceRow) -> bool:
        fields = ("sha256", "name", "bytes", "width", "height", "format", "created_at")
        return self._first(team_sql.ADD_SOURCE, **{f: getattr(source, f) for f in fields}) is not None

    def sources_by_sha(self, digests: Sequence[str]) -> dict[str, SourceRow]:
        return {row[0]: SourceRow(*row) for row in self._all(team_sql.SOURCES_BY_SHA, digests=list(digests))}

    def sources(self, *, after: str | None, limit: int) -> list[SourceRow]:
        return [SourceRow(*row) for row in self._all(team_sql.SOURCES, after=after or "", limit=limit)]

    # weights

    def add_checkpoint(self, row: CheckpointRow) -> None:
        files = "[" + ",".join(_json(file) for file in row.files) + "]"
        self._keep_name(
            team_sql.ADD_CHECKPOINT,
            row,
            id=row.id,
            name=row.name,
            digest=row.digest,
            layout=row.layout,
            prefix=row.prefix,
            files=files,
            created_at=row.created_at,
        )

    def checkpoints(self) -> list[CheckpointRow]:
        return [rows.checkpoint(row) for row in self._all(team_sql.CHECKPOINTS)]

    def add_lora(self, row: LoraRow) -> None:
        fields = ("id", "name", "digest", "key", "bytes", "base", "base_name", "targets", "rank")
        more = ("licence", "expires_at", "created_at")
        values = {field: getattr(row, field) for field in (*fields, *more)}
        self._keep_name(team_sql.ADD_LORA, row, trigger_words=list(row.trigger_words), **values)

    def _keep_name(self, statement: Any, row: CheckpointRow | LoraRow, **values: object) -> None:
        found = self._first(statement, **values)
        if found is None or found.digest != row.digest:
            raise Conflict(f"The name {row.name!r} is taken by other weights. Choose another name.", code="name_taken")

    def loras(self) -> list[LoraRow]:
        return [rows.lora(row) for row in self._all(team_sql.LORAS)]

    # styles

    def add_style(self, row: StyleRow) -> StyleRow:
        self._all(team_sql.LOCK_STYLE, team=self._team & 0x7FFFFFFF, name=row.name)
        versions = self.style_versions(row.name)
        if versions and versions[0].spec == row.spec:
            return versions[0]
        new = replace(row, version=versions[0].version + 1 if versions else 1)
        values = {"id": new.id, "name": new.name, "version": new.version, "created_at": new.created_at}
        self._run(team_sql.ADD_STYLE, spec=_json(new.spec), **values)
        return new

    def styles(self) -> list[StyleRow]:
        return [_style(row) for row in self._all(team_sql.STYLES)]

    def style_versions(self, name: str) -> list[StyleRow]:
        return [_style(row) for row in self._all(team_sql.STYLE_VERSIONS, name=name)]


class Facts(Campaigns):
    """What things cost, what was spent, how the farm is doing, and why something waits."""

    def costs(self) -> list[CostRow]:
        return [rows.cost(row) for row in self._all(queue_sql.TEAM_COSTS)]

    def load_costs(self) -> list[LoadCost]:
        return [LoadCost(*row) for row in self._all(queue_sql.LOAD_COSTS)]

    def prices(self) -> dict[str, float]:
        return {row[0]: row[1] for row in self._all(queue_sql.PRICES)}

    def spent(self, campaigns: Sequence[CampaignId]) -> dict[CampaignId, SpentRow]:
        found = self._all(campaign_sql.SPENT, campaigns=list(campaigns))
        return {CampaignId(row[0]): SpentRow(row[1], row[2]) for row in found}

    def team_spent(self) -> SpentRow:
        return SpentRow(*self._all(campaign_sql.TEAM_SPENT)[0])

    def known(self, fingerprints: Sequence[str]) -> int:
        digests = [bytes.fromhex(fingerprint) for fingerprint in fingerprints]
        return int(self._all(campaign_sql.KNOWN, fingerprints=digests)[0][0])

    def standing(self) -> list[tuple[float, float, float, int]]:
        return [(row[0], row[1], row[2], row[3]) for row in self._all(campaign_sql.STANDING)]

    def farm_view(self) -> FarmView:
        return rows.farm_view(self._all(queue_sql.FARM_VIEW)[0])

    def why_facts(self, campaign: CampaignId, weights: dict[str, str]) -> WhyFacts:
        row = self.campaign(campaign)
        next_ready_at, backing_off = self._all(campaign_sql.BACKING_OFF, campaign=campaign)[0]
        renderers_used, campaign_renderers = self._all(campaign_sql.RENDERERS_USED, campaign=campaign)[0]
        there = {found[0] for found in self._all(campaign_sql.WEIGHTS, digests=list(weights))}
        return WhyFacts(
            campaign=row,
            counts=self.counts([campaign])[campaign],
            team=self.team(),
            spent=self.spent([campaign]).get(campaign, SpentRow()),
            team_spent=self.team_spent(),
            queue=tuple(self.queue()),
            next_ready_at=next_ready_at,
            backing_off=backing_off,
            renderers_used=renderers_used,
            campaign_renderers=campaign_renderers,
            others_waiting=int(self._all(campaign_sql.OTHERS_WAITING)[0][0]),
            missing=tuple(sorted(name for digest, name in weights.items() if digest not in there)),
            farm=self.farm_view(),
        )

    def team(self) -> TeamRow:
        row = self._first(team_sql.TEAM)
        if row is None:
            raise NotFound("There is no such team any more.")
        return rows.team(row)

    def renderers(self) -> list[RendererRow]:
        return [RendererRow(*row) for row in self._all(team_sql.RENDERERS)]


class PostgresTeamTx(Library, Facts):
    """`farm.ports.TeamTx`."""


_BEFORE = {"strength_mode": StrengthMode.DIFFUSERS}
"""What a style meant before it could say so."""


def _style(row: Any) -> StyleRow:
    return StyleRow(StyleId(row[0]), row[1], row[2], StyleSpec.model_validate({**_BEFORE, **row[3]}), row[4])
