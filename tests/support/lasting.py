"""A farm without renderers: what they would have done is done in one call. For tests of what is kept, and what goes."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from farm.core.ids import CampaignId, RendererName, Session, TeamId, mint
from farm.core.keys import provenance_key, thumbnail_key
from farm.core.lease import Leadership
from farm.core.placement import Placed
from farm.core.plan import Reclaim
from farm.core.records import NewCampaign, NewShard
from farm.core.settle import ShardRow
from farm.core.shard import ordinals_of
from farm.ports import ApiStore, Depot, SchedulerStore, SchedulerTx
from farm.usecases.reclaim_shards import reclaim_shards
from farm.usecases.settle_reports import From, settle_reports
from schemas.campaign import Block, CampaignSpec, CampaignState, ResolvedCampaign, SourceEntry
from schemas.report import Failure, FailureKind, Hello, Published, RenderReport, RowReport, Seconds, Tried
from tests.unit.core.samples import block
from tests.unit.core.samples import campaign as resolved_campaign

OURS = TeamId(1)
RENDERER = RendererName("farm/a/1/0")
TTL = timedelta(minutes=5)
DATA = b"a picture"
SHA256 = hashlib.sha256(DATA).hexdigest()


@dataclass
class RenderedFarm:
    """One team, one leader, one renderer."""

    api: ApiStore
    store: SchedulerStore
    depot: Depot
    leadership: Leadership
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    def submit(self, renders: int, *, width: int = 5) -> CampaignId:
        spec = CampaignSpec(
            name="Shoes", blocks=(Block(sources=(SourceEntry(source="src_" + "0" * 64),), styles=("noir",)),)
        )
        number = next(self._numbers)
        campaign = CampaignId(mint(self.began, number))
        resolved = resolved_campaign(block(variants=renders))
        new = NewCampaign(campaign, spec.name, f"key {number}", "hash", spec, resolved, renders, 50, None)
        cut = [NewShard(((lo, min(lo + width, renders)),), "engine", "0" * 64, 0.5) for lo in range(0, renders, width)]
        with self.api.as_team(OURS) as tx:
            assert tx.insert_campaign(new, cut) is not None
        return campaign

    def rendered(self, renders: int) -> tuple[CampaignId, list[str]]:
        """A campaign that is done, and the keys of its pictures."""
        campaign = self.submit(renders)
        return campaign, [key for shard in self.take() for key in self.settle(shard, self.good(shard))]

    def take(self) -> list[ShardRow]:
        """Leases all that is ready."""
        session = self._greet()
        with self.store.as_scheduler(self.leadership) as tx:
            ready = [head.shard for queue in tx.queues(1_000) for head in queue.heads]
            taken = tx.take([Placed(shard, RENDERER, session) for shard in ready])
        return sorted((shard for shard, _ in taken), key=lambda shard: shard.id)

    def good(self, shard: ShardRow) -> list[RowReport]:
        """Its pictures are in the depot; nobody knows of them yet."""
        return [self.row(shard, ordinal) for ordinal in ordinals_of(shard.todo)]

    def row(self, shard: ShardRow, ordinal: int) -> RowReport:
        key = f"outputs/{OURS}/{shard.campaign}/{ordinal}-{uuid.uuid4().hex}/picture.png"
        upload(self.depot, key)
        return RowReport(
            ordinal=ordinal,
            tried=Tried.SUCCEEDED,
            fingerprint=f"{shard.campaign * 10_000 + ordinal:064x}",
            picture=Published(key=key, sha256=SHA256, bytes=len(DATA), width=64, height=48, format="png"),
            seconds=Seconds(denoise=3.0),
        )

    def bad(self, shard: ShardRow, ordinal: int, kind: FailureKind) -> RowReport:
        failure = Failure(kind=kind, code="it_broke", detail="It broke.")
        fingerprint = f"{shard.campaign * 10_000 + ordinal:064x}"
        return RowReport(ordinal=ordinal, tried=Tried.FAILED, fingerprint=fingerprint, failure=failure)

    def settle(self, shard: ShardRow, rows: Sequence[RowReport]) -> list[str]:
        """Returns the keys of the pictures in the report."""
        report = RenderReport(seq=1, shard=shard.id, fence=shard.fence or "", epoch=1, rows=tuple(rows))
        with self.store.as_scheduler(self.leadership) as tx:
            settle_reports(tx, [From(RENDERER, "H100 torch", "H100", [report])], _resolved_in, {})
        return [row.picture.key for row in rows if row.picture is not None]

    def lose(self) -> None:
        """Every lease is lost with its renderer."""
        with self.store.as_scheduler(self.leadership) as tx:
            reclaim_shards(tx, [Reclaim(held, RENDERER) for held in tx.held()])

    def state(self, campaign: CampaignId) -> CampaignState:
        with self.api.as_team(OURS) as tx:
            return tx.campaign(campaign).state

    def objects(self) -> set[str]:
        return {key for key, _ in self.depot.list("outputs/")}

    def tombstones(self) -> dict[str, str]:
        """Reasons by key."""
        with self.store.as_scheduler(self.leadership) as tx:
            return {stone.key: stone.reason for stone in tx.tombstones(timedelta(hours=-1), 100_000)}

    def _greet(self) -> Session:
        hello = Hello(
            name=RENDERER,
            session=str(uuid.uuid4()),
            node="n",
            pid=1,
            gpu="H100",
            numerics="H100 torch",
            epoch=1,
            holds=(),
        )
        with self.store.as_scheduler(self.leadership) as tx:
            tx.greet(hello, TTL)
        return Session(hello.session)


def upload(depot: Depot, key: str) -> None:
    """A picture and what lies beside it, as a renderer publishes them."""
    depot.put(thumbnail_key(key), b"small", "image/webp")
    depot.put(provenance_key(key), b"{}", "application/json")
    depot.put(key, DATA, "image/png")


def beside(keys: Sequence[str]) -> set[str]:
    """The pictures with what lies beside them."""
    return {one for key in keys for one in (key, thumbnail_key(key), provenance_key(key))}


def _resolved_in(tx: SchedulerTx, campaign: CampaignId) -> ResolvedCampaign:
    return tx.resolved(campaign)
