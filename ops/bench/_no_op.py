"""A farm without renderers: a team with styles and sources, and what renderers would say of renders they never made."""

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from farm.bootstrap.services import SystemClock
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
from farm.core.placement import SLOTS, Free
from farm.core.records import CampaignRow, CheckpointRow, LoraRow, SourceRow, StyleRow
from farm.core.settle import ShardRow
from farm.core.shard import ordinals_of
from farm.ports import SchedulerTx
from farm.store.postgres import PostgresStore
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
STRENGTHS = 10
SHARD_ROWS = 500
TTL = timedelta(hours=1)
NUMERICS = "NVIDIA H100 80GB HBM3 driver=570.86 cuda=12.8 cudnn=91002 torch=2.13.0 diffusers=0.42.0 dtype=bf16 batch=4"
SECONDS = Seconds(fetch=0.02, encode=0.01, denoise=0.25, decode=0.03, publish=0.05)

_clock = SystemClock()


def new_id() -> int:
    return mint(_clock.now(), _clock.random_bits())


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# the team


def furnish(store: PostgresStore, team: TeamId) -> None:
    """1,000 sources, a checkpoint, and ten styles with a LoRA each."""
    now = datetime.now(UTC)
    with store.as_team(team) as tx:
        tx.add_checkpoint(CheckpointRow(CheckpointId(new_id()), "tiny", digest("tiny"), "folder", "checkpoints/", (), now))
        for number in range(STYLES):
            tx.add_lora(_lora(number, now))
            tx.add_style(_style(number, now))
        for number in range(SOURCES):
            tx.add_source(SourceRow(digest(f"source {number}"), f"{number}.png", 100_000, 640, 480, "PNG", now))


def _lora(number: int, now: datetime) -> LoraRow:
    sha256 = digest(f"lora {number}")
    key = f"loras/{sha256}.safetensors"
    return LoraRow(
        LoraId(new_id()), f"lora-{number}", sha256, key, 10_000, digest("tiny"), "tiny", 10, 4, (), "", None, now
    )


def _style(number: int, now: datetime) -> StyleRow:
    spec = StyleSpec(
        name=f"style-{number}",
        checkpoint="tiny",
        loras=(StyleLora(lora=f"lora-{number}"),),
        prompt="in the style of a benchmark, {prompt}",
        steps=30,
        size="128x128",
    )
    return StyleRow(StyleId(new_id()), spec.name, 0, spec, now)


def spec_of(renders: int) -> CampaignSpec:
    """Styles x sources x strengths x variants that make exactly *renders*: a multiple of 1,000."""
    cells = renders // (STYLES * STRENGTHS)
    sources = min(SOURCES, cells)
    if sources * (cells // sources) * STYLES * STRENGTHS != renders:
        raise ValueError(f"{renders} renders cannot be made of {STYLES} styles and {STRENGTHS} strengths")
    entries = [SourceEntry(source=show_source(digest(f"source {n}")), prompt=f"photo {n}") for n in range(sources)]
    block = Block(
        sources=tuple(entries),
        styles=tuple(f"style-{number}" for number in range(STYLES)),
        strengths=tuple(round(0.5 + number / 20, 2) for number in range(STRENGTHS)),
        variants=cells // sources,
    )
    return CampaignSpec(name=f"{renders} no-ops", blocks=(block,), seed=new_id())  # a new seed: nothing is known yet


def submit(store: PostgresStore, team: TeamId, spec: CampaignSpec, seconds_each: float) -> CampaignRow:
    """The use case behind ``POST /v1/campaigns``, cut into shards of 500."""
    done = submit_campaign(
        store,
        _clock,
        team,
        spec,
        idempotency_key=secrets.token_hex(8),
        max_renders=10_000_000,
        shard_seconds=SHARD_ROWS * seconds_each,
    )
    return done.campaign


# the renderers


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

    def take(self, shard: ShardRow, fingerprints: dict[int, str] | None = None) -> None:
        rows = fingerprints or {n: digest(f"{shard.campaign} {n}") for n in ordinals_of(shard.todo)}
        self.hands[shard.id] = Hand(shard, secrets.token_hex(16), iter(list(rows.items())))

    def collected(self, rows: int) -> str | None:
        """One report of at most *rows* rows of its oldest shard, as the JSON that `collect` answers with."""
        if not self.hands:
            return None
        hand = next(iter(self.hands.values()))
        reports = [hand.row() for _ in range(rows) if not hand.empty]
        self.seq += 1
        fence = hand.shard.fence or ""
        report = RenderReport(seq=self.seq, shard=hand.shard.id, fence=fence, epoch=1, rows=tuple(reports))
        return Collected(
            session=self.session,
            reports=(report,),
            holds=self.holds,
            waiting=hand.left,
            busy="render",
            warm=Warm(engine_key=hand.shard.engine_key, checkpoint=hand.shard.checkpoint),
            cache=CacheCounts(),
        ).model_dump_json()

    def drop(self, ended: frozenset[ShardId]) -> None:
        for shard in self.hands.keys() & ended:
            del self.hands[shard]


@dataclass(slots=True)
class Hand:
    shard: ShardRow
    token: str
    rows: Iterator[tuple[int, str]]
    left: int = 0
    _next: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        self._step()

    @property
    def empty(self) -> bool:
        return self._next is None

    def row(self) -> RowReport:
        if self._next is None:
            raise IndexError("nothing left")
        (ordinal, fingerprint), shard = self._next, self.shard
        self._step()
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

    def _step(self) -> None:
        self._next = next(self.rows, None)


def renderers(tx: SchedulerTx, count: int) -> Sequence[NoOp]:
    """Sessions that the database knows; each has room for two shards."""
    found = []
    for number in range(count):
        name, session = RendererName(f"farm/bench/1/{number}"), Session(str(_uuid()))
        hello = Hello(name=name, session=session, node="n", pid=1, gpu="none", numerics=NUMERICS, epoch=1, holds=())
        tx.greet(hello, TTL)
        found.append(NoOp(name, session))
    return found


def _uuid() -> str:
    text = secrets.token_hex(16)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def room(mates: Sequence[NoOp]) -> int:
    return sum(SLOTS - len(mate.hands) for mate in mates)
