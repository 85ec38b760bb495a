"""A store with both its sides, and the verbs that its contract tests are made of."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from farm.core.ids import CampaignId, RendererName, Session, ShardId, TeamId, mint
from farm.core.lease import Leadership
from farm.core.placement import Placed, Queue
from farm.core.plan import Held, Reclaim, Release
from farm.core.records import CampaignCounts, NewCampaign, NewShard
from farm.core.settle import ShardRow
from farm.core.shard import ordinals_of
from farm.ports import ApiStore, SchedulerStore, SchedulerTx
from farm.usecases.reclaim_shards import reclaim_shards
from farm.usecases.settle_reports import From, Tally, settle_reports
from schemas.campaign import Block, Budget, CampaignSpec, CampaignState, ResolvedCampaign, SourceEntry
from schemas.report import (
    Failure,
    FailureKind,
    Hello,
    Measured,
    Published,
    PublishedRendition,
    RenderReport,
    RowReport,
    Seconds,
    Tried,
    TriedSeed,
)
from tests.unit.core.samples import block
from tests.unit.core.samples import campaign as resolved_campaign

OURS, THEIRS = TeamId(1), TeamId(2)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TTL = timedelta(minutes=5)
OVER = timedelta(seconds=-1)
RENDERER = RendererName("farm/a/1/0")
OTHER = RendererName("farm/a/1/1")
PRICES = {"*": 3600.0}
"""A second of any GPU costs one."""


RENDITIONS = (
    PublishedRendition(name="feed", sha256="b" * 64, bytes=5, width=40, height=50, format="webp"),
    PublishedRendition(name="wide", sha256="c" * 64, bytes=7, width=64, height=36, format="png"),
)
MEASURED = Measured(
    tries=(
        TriedSeed(seed=2**63 - 1, structure=0.25, edges=0.125, missed=("structure",)),
        TriedSeed(seed=8, structure=0.5, identity=0.5, identity_by="structure", delta_e=12.5, phash="0f" * 8),
    ),
    kept=1,
)


def resolved_in(tx: SchedulerTx, campaign: CampaignId) -> ResolvedCampaign:
    return tx.resolved(campaign)


@dataclass
class Farm:
    """Both sides of one store, and the verbs that tests are made of."""

    api: ApiStore
    store: SchedulerStore
    superuser: str
    leadership: Leadership

    def submit(
        self,
        number: int = 1,
        *,
        renders: int = 10,
        width: int = 5,
        team: TeamId = OURS,
        proof: int = 0,
        engine_key: str = "engine",
        keys: int = 1,
        step: float = 0.0,
        **changes: Any,
    ) -> CampaignId:
        """Shards of *width* renders each; with *proof* so many of them go first, and the others are held.

        Of several *keys* each has its turn; *step* is what a UNet step was taken to cost.
        """
        spec = CampaignSpec(
            name="Shoes", blocks=(Block(sources=(SourceEntry(source="src_" + "0" * 64),), styles=("noir",)),)
        )
        resolved = resolved_campaign(block(variants=renders))
        campaign = CampaignId(mint(NOW, number))
        new = NewCampaign(campaign, spec.name, f"key {number}", "hash", spec, resolved, renders, 50, None)
        if proof:
            new = replace(new, state=CampaignState.PROOFING)
        cut = [
            NewShard(
                ((lo, min(lo + width, renders)),),
                engine_key if keys == 1 else f"{engine_key} {n % keys:03}",
                "0" * 64,
                0.5,
                "held" if 0 < proof <= n else "ready",
                step,
            )
            for n, lo in enumerate(range(0, renders, width))
        ]
        with self.api.as_team(team) as tx:
            assert tx.insert_campaign(replace(new, **changes), cut) is not None
        return campaign

    def move(self, campaign: CampaignId, frm: CampaignState, to: CampaignState) -> None:
        with self.api.as_team(OURS) as tx:
            assert tx.move(campaign, frm=[frm], to=to)

    def state(self, campaign: CampaignId) -> CampaignState:
        with self.api.as_team(OURS) as tx:
            return tx.campaign(campaign).state

    def counts(self, campaign: CampaignId) -> CampaignCounts:
        with self.api.as_team(OURS) as tx:
            return tx.counts([campaign])[campaign]

    def events(self, kind: str) -> list[dict[str, object]]:
        with self.api.as_team(OURS) as tx:
            return [event.data for event in tx.events(after=0, limit=1000) if event.kind == kind]

    def greet(self, name: RendererName = RENDERER, session: str | None = None, ttl: timedelta = TTL) -> Session:
        hello = Hello(
            name=name,
            session=session or str(uuid.uuid4()),
            node="n",
            pid=1,
            gpu="H100",
            numerics="H100 torch",
            epoch=1,
            holds=(),
        )
        with self.store.as_scheduler(self.leadership) as tx:
            tx.greet(hello, ttl)
        return Session(hello.session)

    @contextmanager
    def leading(self) -> Iterator[SchedulerTx]:
        with self.store.as_scheduler(self.leadership) as tx:
            yield tx

    def queues(self, per_queue: int = 1000) -> list[Queue]:
        with self.leading() as tx:
            return tx.queues(per_queue)

    def waiting(self) -> list[ShardId]:
        return sorted(head.shard for queue in self.queues() for head in queue.heads)

    def later(self, **time: int) -> None:
        """Time passes, an hour or as said: PostgreSQL's clock cannot be set, so all that has happened moves back."""
        ago = timedelta(**time) if time else timedelta(hours=1)
        moments = {
            "shard": "ready_at",
            "campaign": "finished_at",
            "event": "at",
            "attempt": "at",
            "renderer": "ended_at",
        }
        with psycopg.connect(self.superuser) as connection:
            for table, column in moments.items():
                connection.execute(f"UPDATE {table} SET {column} = {column} - %s".encode(), [ago])

    def limit(self, team: TeamId, *, budget: Budget | None = None, retention_days: int | None = None) -> None:
        """As an operator does it."""
        with psycopg.connect(self.superuser) as connection:
            values = [None if budget is None else budget.model_dump_json(), retention_days, team]
            connection.execute("UPDATE team SET budget = %s, retention_days = %s WHERE team_id = %s", values)

    def take(self, session: Session, shards: Sequence[ShardId] | None = None) -> list[ShardRow]:
        """Leases all that wait, or those that are named."""
        placed = [Placed(shard, RENDERER, session) for shard in (self.waiting() if shards is None else shards)]
        with self.store.as_scheduler(self.leadership) as tx:
            found = tx.take(placed)
        assert all(place.session == session for _, place in found)
        return sorted((shard for shard, _ in found), key=lambda shard: shard.id)

    def held(self) -> list[Held]:
        with self.store.as_scheduler(self.leadership) as tx:
            return tx.held()

    def settle(self, shard: ShardRow, rows: Sequence[RowReport], name: RendererName = RENDERER) -> Tally:
        report = RenderReport(seq=1, shard=shard.id, fence=shard.fence or "", epoch=1, rows=tuple(rows))
        with self.store.as_scheduler(self.leadership) as tx:
            return settle_reports(tx, [From(name, "H100 torch", "H100", [report])], resolved_in, PRICES)

    def end(self, decision: type[Reclaim] | type[Release]) -> None:
        """Ends every lease there is; a lost one was lost with the renderer."""
        decisions = [Reclaim(held, RENDERER) if decision is Reclaim else Release(held) for held in self.held()]
        with self.store.as_scheduler(self.leadership) as tx:
            reclaim_shards(tx, decisions)


def good(shard: ShardRow, ordinal: int, *, fingerprint: str = "", try_: int = 1) -> RowReport:
    key = f"outputs/{shard.campaign}/{ordinal}-{try_}/picture.png"
    return RowReport(
        ordinal=ordinal,
        tried=Tried.SUCCEEDED,
        fingerprint=fingerprint or f"{shard.campaign * 10_000 + ordinal:064x}",
        picture=Published(key=key, sha256="a" * 64, bytes=9, width=64, height=48, format="png"),
        seconds=Seconds(load=1.0, denoise=3.0),
    )


def bad(ordinal: int, kind: FailureKind) -> RowReport:
    failure = Failure(kind=kind, code="it_broke", detail="It broke.")
    return RowReport(ordinal=ordinal, tried=Tried.FAILED, fingerprint=f"{ordinal:064x}", failure=failure)


def back(ordinal: int) -> RowReport:
    return RowReport(ordinal=ordinal, tried=Tried.HANDED_BACK, fingerprint=f"{ordinal:064x}")


def all_good(shard: ShardRow) -> list[RowReport]:
    return [good(shard, ordinal) for ordinal in ordinals_of(shard.todo)]
