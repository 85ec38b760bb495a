"""Reports become outcomes."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from farm.core.ids import CampaignId, ShardId, TeamId
from farm.core.settle import Refusal, Settled, settle
from farm.core.work import unet_steps_at
from farm.ports import SchedulerTx
from schemas.campaign import ResolvedCampaign
from schemas.report import Failure, FailureKind, RenderReport, RowReport, Seconds, Tried

_SAMPLE = 8
"""Renders of a settled shard that the cost of a step is learned from, about; more would not make it truer."""


@dataclass(frozen=True, slots=True)
class From:
    """Reports of one renderer, in the order in which it made them."""

    renderer: str
    numerics: str
    reports: Sequence[RenderReport]


@dataclass(slots=True)
class Tally:
    """What a settled batch amounts to, for metrics and logs."""

    succeeded: int = 0
    failed: int = 0
    retried: list[FailureKind] = field(default_factory=list)
    handed_back: int = 0
    refused: int = 0
    seconds: list[Seconds] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    ended: frozenset[tuple[ShardId, str]] = frozenset()
    """Shards, each under its fence, of which nothing is left to do for whoever reported."""

    unwanted: list[str] = field(default_factory=list)
    """Keys of pictures to which nothing may refer; whoever deletes them looks once more."""


def settle_reports(
    tx: SchedulerTx, heard: Sequence[From], resolved_of: Callable[[SchedulerTx, CampaignId], ResolvedCampaign]
) -> Tally:
    """One transaction for any number of reports; a report that was settled before changes nothing."""
    tally = Tally()
    parts = list(_by_shard(heard))
    shards = tx.lock(sorted({shard for _, shard, _, _ in parts}))
    now = tx.now()
    settled: dict[ShardId, Settled] = {}
    ended: set[tuple[ShardId, str]] = set()
    for sender, shard, fence, rows in parts:
        before = shards.get(shard)
        verdict = settle(before, fence=fence, rows=rows, now=now, renderer=sender.renderer, numerics=sender.numerics)
        if isinstance(verdict, Refusal):
            tally.refused += len(rows)
            tally.unwanted += verdict.keys
            ended.add((shard, fence))
        else:  # at most once a shard: two parts of one shard differ in their fence, and one fence is the newest
            settled[shard] = verdict
            _count(tally, verdict, rows)
            tally.unwanted += _unused(verdict, rows)
            if not verdict.todo:
                ended.add((shard, fence))
    tally.ended = frozenset(ended)
    if settled:
        tally.unwanted += tx.write(list(settled.values()))
        _learn(tx, list(settled.values()), parts, resolved_of)
    return tally


def _unused(settled: Settled, rows: Sequence[RowReport]) -> list[str]:
    """Pictures of renders that were settled before: by this very report, whose pictures are in use, or by another."""
    used = {outcome.picture.key for outcome in settled.outcomes if outcome.picture is not None}
    return [row.picture.key for row in rows if row.picture is not None and row.picture.key not in used]


_Part = tuple[From, ShardId, str, list[RowReport]]


def _by_shard(heard: Sequence[From]) -> Iterable[_Part]:
    for sender in heard:
        rows: dict[tuple[ShardId, str], list[RowReport]] = defaultdict(list)
        for report in sender.reports:
            rows[ShardId(report.shard), report.fence].extend(report.rows)
        for (shard, fence), found in rows.items():
            yield sender, shard, fence, found


def _count(tally: Tally, settled: Settled, rows: Sequence[RowReport]) -> None:
    good = [outcome for outcome in settled.outcomes if outcome.succeeded]
    tally.succeeded += len(good)
    tally.failed += len(settled.outcomes) - len(good)
    given_up = {outcome.ordinal for outcome in settled.outcomes}
    tally.retried += [t.failure.kind for t in settled.failed_tries if t.ordinal not in given_up]
    tally.handed_back += sum(row.tried is Tried.HANDED_BACK for row in rows)
    tally.seconds += [row.seconds for row in rows if row.tried is Tried.SUCCEEDED]
    tally.failures += [failed.failure for failed in settled.failed_tries]


def _learn(
    tx: SchedulerTx,
    settled: Sequence[Settled],
    parts: Sequence[_Part],
    resolved_of: Callable[[SchedulerTx, CampaignId], ResolvedCampaign],
) -> None:
    """What a UNet step costs, per engine key, from a few renders of each shard; loading is not part of it."""
    seconds = {(shard, row.ordinal): row.seconds.gpu - row.seconds.load for _, shard, _, rows in parts for row in rows}
    spent: dict[tuple[TeamId, str], list[tuple[float, int]]] = defaultdict(list)
    for one in settled:
        good = [outcome for outcome in one.outcomes if outcome.succeeded]
        for outcome in good[:: max(1, len(good) // _SAMPLE)]:
            steps = unet_steps_at(resolved_of(tx, one.shard.campaign), outcome.ordinal)
            spent[one.shard.team, one.shard.engine_key].append((seconds[one.shard.id, outcome.ordinal], steps))
    for (team, engine_key), costs in sorted(spent.items()):
        per_step = sum(s for s, _ in costs) / sum(n for _, n in costs)
        tx.learn(team, engine_key, step_seconds=per_step, renders=len(costs))
