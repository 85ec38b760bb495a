"""What the scheduler writes of reports, and of the campaigns that end with them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from farm.core.ids import CampaignId, TeamId
from farm.core.settle import NewOutcome, Settled
from farm.core.shard import ranges_of, size_of
from farm.store import rows, settle_sql, sql
from farm.store.statements import LeaderStatements
from schemas.campaign import CampaignState
from schemas.event import EventKind
from schemas.report import Published


class Settling(LeaderStatements):
    def write(self, settled: Sequence[Settled]) -> list[str]:
        outcomes = [outcome for one in settled for outcome in one.outcomes]
        pictures, unwanted = self._add_pictures([o for o in outcomes if o.picture is not None])
        if outcomes:
            self._run(settle_sql.ADD_OUTCOMES, **rows.as_json(_outcome_columns(outcomes, pictures)))
        self._add_attempts(settled)
        self._run(settle_sql.SHRINK, **_shard_columns(settled))
        self._add_children(settled)
        for one in settled:
            if one.gpu_seconds or one.money:
                self._charge(one.shard.team, one.shard.campaign, one.gpu_seconds, one.money)
        for team, campaign, data in _settled_events(settled):
            self._tell(team, campaign, EventKind.RENDERS_SETTLED, data)
        self._finish(sorted({one.shard.campaign for one in settled if not one.todo}))
        return unwanted

    def learn(
        self, team: TeamId, engine_key: str, gpu: str, *, step_seconds: float, squares: float, renders: int
    ) -> None:
        if renders:
            self._learn((team, engine_key, gpu), step_seconds, squares, renders)

    def learn_load(self, gpu: str, kind: str, *, seconds: float, loads: int) -> None:
        if loads:
            self._run(settle_sql.LEARN_LOAD, gpu=gpu, kind=kind, seconds=seconds, loads=loads)

    def finish_campaigns(self) -> int:
        found = self._all(sql.ENDING)
        cancelling = [row[0] for row in found if row[1] == CampaignState.CANCELLING]
        if cancelling:
            self._run(sql.CANCEL_OPEN, campaigns=cancelling)
        return self._finish([CampaignId(row[0]) for row in found])

    def _finish(self, campaigns: Sequence[CampaignId]) -> int:
        """Moves on those that are through, and returns how many."""
        ended = self._all(sql.FINISH, campaigns=list(campaigns)) if campaigns else []
        for team, campaign, state in sorted(ended):
            data: dict[str, object] = {"state": state}
            self._tell(TeamId(team), CampaignId(campaign), EventKind.CAMPAIGN_STATE, data)
        return len(ended)

    def _add_pictures(self, outcomes: Sequence[NewOutcome]) -> tuple[dict[tuple[TeamId, str], int], list[str]]:
        """Picture ids by (team, fingerprint), and the keys of objects that lost to an earlier one."""
        if not outcomes:
            return {}, []
        made = [(o.team, o.fingerprint, o.picture) for o in outcomes if o.picture is not None]
        values = {
            "team": [team for team, _, _ in made],
            "fingerprint": [fingerprint for _, fingerprint, _ in made],
            "sha256": [picture.sha256 for _, _, picture in made],
            "renditions": [_renditions(picture) for _, _, picture in made],
            "measured": [None if p.measured is None else p.measured.model_dump_json() for _, _, p in made],
            **{name: [getattr(p, name) for _, _, p in made] for name in ("key", "bytes", "width", "height", "format")},
        }
        found = self._all(settle_sql.ADD_PICTURES, **rows.as_json(values))
        ids = {(TeamId(row[0]), bytes(row[1]).hex()): row[3] for row in found}
        return ids, [row[2] for row in found if not row[4]]

    def _add_attempts(self, settled: Sequence[Settled]) -> None:
        tries = [t for one in settled for t in one.failed_tries]
        if tries:
            self._run(
                settle_sql.ADD_ATTEMPTS,
                shards=[t.shard for t in tries],
                ordinal=[t.ordinal for t in tries],
                kind=[str(t.failure.kind) for t in tries],
                code=[t.failure.code for t in tries],
                detail=[t.failure.detail for t in tries],
                renderer=[t.renderer for t in tries],
            )

    def _add_children(self, settled: Sequence[Settled]) -> None:
        children = [(one.shard, child) for one in settled for child in one.children]
        if children:
            columns = {
                "shard": [parent.id for parent, _ in children],
                "ready_at": [None if c.ready_at is None else c.ready_at.isoformat() for _, c in children],
                "todo": [rows.multirange(child.todo) for _, child in children],
                "renders": [size_of(child.todo) for _, child in children],
                **{f: [getattr(c, f) for _, c in children] for f in ("state", "tries", "lost", "depot_tries", "avoid")},
            }
            self._run(settle_sql.ADD_CHILDREN, **rows.as_json(columns))


def _renditions(picture: Published) -> str:
    return f"[{','.join(rendition.model_dump_json() for rendition in picture.renditions)}]"


def _outcome_columns(outcomes: Sequence[NewOutcome], pictures: dict[tuple[TeamId, str], int]) -> dict[str, object]:
    def picture(o: NewOutcome) -> int | None:
        return pictures[o.team, o.fingerprint] if o.picture is not None else o.picture_id

    return {
        "team": [o.team for o in outcomes],
        "campaign": [o.campaign for o in outcomes],
        "ordinal": [o.ordinal for o in outcomes],
        "outcome": ["succeeded" if o.succeeded else "failed" for o in outcomes],
        "picture": [picture(o) for o in outcomes],
        "reused": [o.picture_id is not None for o in outcomes],
        "tries": [o.tries for o in outcomes],
        "gpu_seconds": [o.gpu_seconds for o in outcomes],
        "renderer": [o.renderer for o in outcomes],
        "numerics": [o.numerics for o in outcomes],
        "code": [o.failure.code if o.failure else None for o in outcomes],
        "detail": [o.failure.detail if o.failure else None for o in outcomes],
        "money": [o.money for o in outcomes],
    }


def _shard_columns(settled: Sequence[Settled]) -> dict[str, object]:
    return {
        "shards": [one.shard.id for one in settled],
        "todo": [rows.multirange(one.todo) for one in settled],
        "renders": [size_of(one.todo) for one in settled],
        "succeeded": [sum(o.succeeded for o in one.outcomes) for one in settled],
        "failed": [sum(not o.succeeded for o in one.outcomes) for one in settled],
        "reused": [sum(o.picture_id is not None for o in one.outcomes) for one in settled],
    }


def _settled_events(settled: Sequence[Settled]) -> Iterator[tuple[TeamId, CampaignId, dict[str, object]]]:
    """One event a campaign, however many renders: a million renders must not be a million events."""
    by_campaign: dict[tuple[TeamId, CampaignId], list[NewOutcome]] = defaultdict(list)
    for one in settled:
        if one.outcomes:
            by_campaign[one.shard.team, one.shard.campaign].extend(one.outcomes)
    for (team, campaign), outcomes in sorted(by_campaign.items(), key=lambda item: item[0]):
        yield (
            team,
            campaign,
            {
                name: [list(part) for part in ranges_of([o.ordinal for o in outcomes if o.succeeded == good])]
                for name, good in (("succeeded", True), ("failed", False))
            },
        )
