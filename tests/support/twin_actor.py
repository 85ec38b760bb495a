"""Who does the steps of a trace to one of two stores, and what it has made so far."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from farm.core.ids import CampaignId, RendererName, Session, ShardId, TeamId
from farm.core.lease import Leadership
from farm.core.settle import ShardRow
from farm.ports import SchedulerTx
from schemas.campaign import CampaignState
from schemas.report import Failure, FailureKind, Published, RowReport, Seconds, Tried
from tests.support.twin_dump import Known
from tests.support.twins import HOUR, TEAMS, Side

S = CampaignState
OPEN = (S.ACTIVE, S.PROOFING, S.PAUSED, S.AWAITING_APPROVAL)
NAMES = tuple(RendererName(f"farm/{fleet}/1/{n}") for fleet in "ab" for n in range(2))
GPUS = ("H100", "L4")


class Step(NamedTuple):
    verb: "Verb"
    a: int
    b: int
    c: int

    def __repr__(self) -> str:
        return f"{self.verb.__name__}({self.a}, {self.b}, {self.c})"


class Undone(Exception):
    """Raised on purpose inside a transaction."""


class Actor:
    """Does the steps to one side. What it chooses depends only on what both sides show alike."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.known = Known({team: [] for team in TEAMS}, [], [])
        self.leases: list[tuple[ShardRow, RendererName]] = []
        self.sessions: list[tuple[RendererName, Session]] = []
        self.number = 0
        self.holders: dict[str, Leadership] = {}
        leadership = side.store.elect("holder 0", 100 * HOUR)
        assert leadership is not None
        self.leadership = self.holders["holder 0"] = leadership

    def do(self, number: int, step: Step) -> Any:
        self.number = number
        return step.verb(self, step.a, step.b, step.c)

    def scheduling(self) -> AbstractContextManager[SchedulerTx]:
        return self.side.store.as_scheduler(self.leadership)

    # what there is

    def any_campaign(self, a: int) -> tuple[TeamId, CampaignId] | None:
        every = sorted((campaign, team) for team, found in self.known.campaigns.items() for campaign in found)
        return (every[-1 - a % len(every)][1], every[-1 - a % len(every)][0]) if every else None

    def ready(self, tx: SchedulerTx) -> list[ShardId]:
        return [head.shard for queue in tx.queues(100) for head in queue.heads]

    def row(self, lease: ShardRow, ordinal: int, fate: str) -> RowReport:
        good = fate in ("good", "same")
        kind = None if good or fate == "back" else FailureKind(fate)
        shared = f"{ordinal % 3:064x}" if fate == "same" else f"{lease.campaign * 1000 + ordinal:064x}"
        key = f"outputs/{lease.campaign}/{ordinal}-{self.number}/picture.png"
        if good:
            self.known.fingerprints.append(shared)
            self.known.keys.append(key)
        return RowReport(
            ordinal=ordinal,
            tried=Tried.SUCCEEDED if good else Tried.HANDED_BACK if fate == "back" else Tried.FAILED,
            fingerprint=shared,
            picture=Published(key=key, sha256="a" * 64, bytes=9, width=8, height=8, format="png") if good else None,
            failure=None if kind is None else Failure(kind=kind, code=f"{kind}_{ordinal % 2}", detail="It broke."),
            seconds=Seconds(load=0.5, denoise=0.25 * (ordinal % 4)),
        )


Verb = Callable[[Actor, int, int, int], Any]
