"""What a scheduler would do to the store while the API is tested: the same transactions, without a fleet."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from farm.core.campaign import recipe_at
from farm.core.fingerprint import fingerprint
from farm.core.ids import CampaignId, RendererName, Session, read
from farm.core.lease import Leadership
from farm.core.placement import Placed
from farm.core.records import FarmView
from farm.core.settle import NewOutcome, Settled, ShardRow
from farm.core.shard import ordinals_of
from farm.ports import SchedulerStore, SchedulerTx
from schemas.report import Hello, Published

DAY = timedelta(days=1)
RENDERER, SESSION = RendererName("farm/local/1/0"), Session("00000000-0000-4000-8000-000000000001")
GPU = "H100"


@dataclass
class Scheduler:
    """Leads *store*, and owns one renderer that never fails."""

    store: SchedulerStore
    leadership: Leadership = field(init=False)

    def __post_init__(self) -> None:
        leadership = self.store.elect("test", DAY)
        assert leadership is not None
        self.leadership = leadership
        hello = Hello(
            name=RENDERER, session=SESSION, node="n", pid=1, gpu=GPU, numerics="n", epoch=leadership.epoch, holds=()
        )
        with self.tx() as tx:
            tx.greet(hello, DAY)

    @contextmanager
    def tx(self) -> Iterator[SchedulerTx]:
        with self.store.as_scheduler(self.leadership) as tx:
            yield tx

    def shows(self, renderers: int = 1, most: int = 2, gpus: tuple[str, ...] = (GPU,)) -> None:
        """The farm as its leader sees it."""
        at_work = tuple((gpu, "idle", renderers) for gpu in gpus if renderers)
        with self.tx() as tx:
            tx.show_farm(FarmView(at=tx.now(), leading=True, renderers=at_work, most=most, gpus=gpus))

    def take(self, campaign: str) -> list[ShardRow]:
        """Leases all that is ready of it."""
        number = CampaignId(read("cmp", campaign))
        with self.tx() as tx:
            heads = [head for queue in tx.queues(10_000) if queue.campaign == number for head in queue.heads]
            return [shard for shard, _ in tx.take([Placed(head.shard, RENDERER, SESSION) for head in heads])]

    def render(self, campaign: str, *, seconds: float = 1.0, price: float = 0.0) -> int:
        """All that is ready of it, each render in as many GPU seconds; how many."""
        shards = self.take(campaign)
        with self.tx() as tx:
            tx.write([self._settled(tx, shard, seconds, price) for shard in shards])
        return sum(len(ordinals_of(shard.todo)) for shard in shards)

    def _settled(self, tx: SchedulerTx, shard: ShardRow, seconds: float, price: float) -> Settled:
        resolved, outcomes = tx.resolved(shard.campaign), []
        for ordinal in ordinals_of(shard.todo):
            picture = Published(
                key=f"p/{shard.campaign}/{ordinal}", sha256="0" * 64, bytes=1, width=64, height=64, format="png"
            )
            digest = fingerprint(recipe_at(resolved, ordinal))
            outcome = NewOutcome(
                team=shard.team,
                campaign=shard.campaign,
                ordinal=ordinal,  # type: ignore[arg-type]
                fingerprint=digest,
                tries=1,
                gpu_seconds=seconds,
                picture=picture,
                renderer=RENDERER,
                numerics="n",
                money=seconds * price / 3600,
            )
            outcomes.append(outcome)
        spent = seconds * len(outcomes)
        return Settled(shard, (), tuple(outcomes), gpu_seconds=spent, money=spent * price / 3600)
