"""A farm without renderers: a team with styles and sources, and what renderers would say of renders they never made."""

import hashlib
import secrets
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from farm.bootstrap.services import SystemClock
from farm.core.fairshare import Shares
from farm.core.ids import (
    CheckpointId,
    LoraId,
    RendererName,
    Session,
    ShardId,
    StyleId,
    TeamId,
    mint,
    show_source,
)
from farm.core.placement import Free, Loading, Placed, Rules, place
from farm.core.records import CampaignRow, CheckpointRow, LoraRow, SourceRow, StyleRow
from farm.core.settle import ShardRow
from farm.core.shard import ordinals_of
from farm.ports import SchedulerTx
from farm.store.postgres import PostgresStore
from farm.usecases.check_campaign import Terms
from farm.usecases.submit_campaign import submit_campaign
from schemas.campaign import Block, CampaignSpec, SourceEntry
from schemas.report import (
    CacheCounts,
    Collected,
    Hello,
    Published,
    RenderReport,
    RowReport,
    Seconds,
    Tried,
    Warm,
)
from schemas.style import StyleLora, StyleSpec

STYLES = 10
SOURCES = 1_000
PROMPTS = 10
SHARD_ROWS = 500
_PER_QUEUE = 8
TTL = timedelta(hours=1)
NUMERICS = "NVIDIA H100 80GB HBM3 driver=570.86 cuda=12.8 cudnn=91002 torch=2.13.0 diffusers=0.42.0 dtype=bf16 batch=4"
GPU = "none"
PRICES = {"*": 2.5}
"""Money an hour: outcomes are charged, as on a farm that is told what its GPUs cost."""

SECONDS = Seconds(fetch=0.02, encode=0.01, denoise=0.035, decode=0.01, publish=0.05)
SECONDS_EACH = 0.055
"""GPU seconds of a render: what is reported, and nearly what is guessed before. So shards keep their size."""

_clock = SystemClock()


def new_id() -> int:
    return mint(_clock.now(), _clock.random_bits())


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# the team


def furnish(store: PostgresStore, team: TeamId, styles: int = STYLES, size: str = "128x128") -> None:
    """1,000 sources, a checkpoint, and styles with a LoRA each."""
    now = datetime.now(UTC)
    with store.as_team(team) as tx:
        tx.add_checkpoint(
            CheckpointRow(CheckpointId(new_id()), "tiny", digest("tiny"), "folder", "checkpoints/", (), now)
        )
        for number in range(styles):
            tx.add_lora(_lora(number, now))
            tx.add_style(_style(number, now, size))
        for number in range(SOURCES):
            tx.add_source(SourceRow(digest(f"source {number}"), f"{number}.png", 100_000, 640, 480, "PNG", now))


def _lora(number: int, now: datetime) -> LoraRow:
    sha256 = digest(f"lora {number}")
    key = f"loras/{sha256}.safetensors"
    return LoraRow(
        LoraId(new_id()), f"lora-{number}", sha256, key, 10_000, digest("tiny"), "tiny", 10, 4, (), "", None, now
    )


def _style(number: int, now: datetime, size: str) -> StyleRow:
    spec = StyleSpec(
        name=f"style-{number}",
        checkpoint="tiny",
        loras=(StyleLora(lora=f"lora-{number}"),),
        prompt="in the style of a benchmark, {prompt}",
        steps=30,
        size=size,
    )
    return StyleRow(StyleId(new_id()), spec.name, 0, spec, now)


def spec_of(renders: int) -> CampaignSpec:
    """Styles x sources x prompts x variants that make exactly *renders*: a multiple of 1,000."""
    cells = renders // (STYLES * PROMPTS)
    sources = min(SOURCES, cells)
    if sources * (cells // sources) * STYLES * PROMPTS != renders:
        raise ValueError(f"{renders} renders cannot be made of {STYLES} styles and {PROMPTS} prompts")
    entries = [SourceEntry(source=show_source(digest(f"source {n}"))) for n in range(sources)]
    block = Block(
        sources=tuple(entries),
        styles=tuple(f"style-{number}" for number in range(STYLES)),
        prompts=tuple(f"prompt {number}" for number in range(PROMPTS)),
        variants=cells // sources,
    )
    return CampaignSpec(name=f"{renders} no-ops", blocks=(block,), seed=new_id())  # a new seed: nothing is known yet


def submit(
    store: PostgresStore, team: TeamId, spec: CampaignSpec, *, shard_seconds: float = SHARD_ROWS * SECONDS_EACH
) -> CampaignRow:
    """The use case behind ``POST /v1/campaigns``, cut into shards of 500 unless *shard_seconds* says otherwise."""
    terms = Terms(max_renders=10_000_000, shard_seconds=shard_seconds, currency="EUR")
    return submit_campaign(store, _clock, team, spec, terms, idempotency_key=secrets.token_hex(8)).campaign


# the renderers


def placed(tx: SchedulerTx, free: Sequence[Free]) -> list[Placed]:
    """What the scheduler would give them: one team, no costs learned. *free* are all, full ones too."""
    rules = Rules(loading=Loading(checkpoint={}, lora={}))
    return place(tx.queues(_PER_QUEUE), free, Shares(()), rules, backlog={}, warm={}).placed


@dataclass(slots=True)
class NoOp:
    """A renderer that says of every row that it has succeeded."""

    name: RendererName
    session: Session
    seq: int = 1
    hands: dict[ShardId, "Hand"] = field(default_factory=dict)

    @property
    def free(self) -> Free:
        return Free(self.name, self.session, len(self.hands), "", "")

    @property
    def holds(self) -> tuple[tuple[int, str], ...]:
        return tuple((hand.shard.id, hand.shard.fence or "") for hand in self.hands.values())

    @property
    def has_rows(self) -> bool:
        return any(hand.rows for hand in self.hands.values())

    def take(self, shard: ShardRow, fingerprints: Mapping[int, str] | None = None) -> None:
        """*fingerprints* by ordinal, of the rows to render; made up for the whole shard when there are none."""
        rows = fingerprints or {n: digest(f"{shard.campaign} {n}") for n in ordinals_of(shard.todo)}
        self.hands[shard.id] = Hand(shard, deque(rows.items()))

    def collected(self, rows: int) -> str | None:
        """One report of at most *rows* rows of its oldest shard, as the JSON that `collect` answers with."""
        hand = next((hand for hand in self.hands.values() if hand.rows), None)
        if hand is None:
            return None
        reports = [hand.report() for _ in range(min(rows, len(hand.rows)))]
        self.seq += 1
        fence = hand.shard.fence or ""
        report = RenderReport(seq=self.seq, shard=hand.shard.id, fence=fence, epoch=1, rows=tuple(reports))
        return Collected(
            session=self.session,
            reports=(report,),
            holds=self.holds,
            waiting=len(hand.rows),
            busy="render",
            warm=Warm(engine_key=hand.shard.engine_key, checkpoint=hand.shard.checkpoint),
            cache=CacheCounts(),
        ).model_dump_json()

    def let_go(self) -> None:
        """Of the shards of which every row is settled."""
        self.hands = {shard: hand for shard, hand in self.hands.items() if hand.rows}


@dataclass(slots=True)
class Hand:
    """A shard that a renderer holds, and the (ordinal, fingerprint) of what it has not reported yet."""

    shard: ShardRow
    rows: deque[tuple[int, str]]
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def report(self) -> RowReport:
        (ordinal, fingerprint), shard = self.rows.popleft(), self.shard
        picture = Published(
            key=f"outputs/{shard.team}/{shard.campaign}/{ordinal}-{self.token}/picture.png",
            sha256=digest(f"picture {ordinal}"),
            bytes=40_000,
            width=128,
            height=128,
            format="png",
        )
        return RowReport(
            ordinal=ordinal, tried=Tried.SUCCEEDED, fingerprint=fingerprint, picture=picture, seconds=SECONDS
        )


def renderers(tx: SchedulerTx, count: int) -> Sequence[NoOp]:
    """Sessions that the database knows; each has room for two shards."""
    found = []
    for number in range(count):
        name, session = RendererName(f"farm/bench/1/{number}"), Session(str(uuid.uuid4()))
        hello = Hello(name=name, session=session, node="n", pid=1, gpu=GPU, numerics=NUMERICS, epoch=1, holds=())
        tx.greet(hello, TTL)
        found.append(NoOp(name, session))
    return found
