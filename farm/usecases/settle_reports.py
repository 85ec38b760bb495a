"""Reports become outcomes."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from farm.core.costs import price_of
from farm.core.ids import CampaignId, ShardId, TeamId, fleet_of
from farm.core.records import SpentRow
from farm.core.settle import Ends, Refusal, Settled, settle
from farm.core.work import unet_steps_at
from farm.ports import SchedulerTx
from schemas.campaign import ResolvedCampaign
from schemas.report import Failure, FailureKind, Published, RenderReport, RowReport, Seconds, Tried

_SAMPLE = 8
"""Renders of a settled shard that the cost of a step is learned from, about; more would not make it truer."""


@dataclass(frozen=True, slots=True)
class From:
    """Reports of one renderer, in the order in which it made them."""

    renderer: str
    numerics: str
    gpu: str  # its type
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
    succeeded_on: set[str] = field(default_factory=set)
    """Names of renderers on which something was rendered."""

    ended: frozenset[tuple[ShardId, str]] = frozenset()
    """Shards, each under its fence, of which nothing is left to do for whoever reported."""

    unwanted: list[Published] = field(default_factory=list)
    """Pictures to which nothing may refer; whoever deletes them looks once more."""

    rerolls: int = 0
    """Tries that were made because an earlier one missed a check."""

    missed: Counter[str] = field(default_factory=Counter)
    """Checks that kept pictures do not pass."""

    ends: Ends = field(default_factory=Ends)
    charged: dict[tuple[TeamId, str], SpentRow] = field(default_factory=dict)
    """By team and fleet, of failed tries too."""

    @property
    def gpu_seconds(self) -> float:
        return sum(spent.gpu_seconds for spent in self.charged.values())

    @property
    def money(self) -> float:
        return sum(spent.money for spent in self.charged.values())


_ResolvedOf = Callable[[SchedulerTx, CampaignId], ResolvedCampaign]


def settle_reports(
    tx: SchedulerTx, heard: Sequence[From], resolved_of: _ResolvedOf, prices: Mapping[str, float]
) -> Tally:
    """One transaction for any number of reports; a report that was settled before changes nothing.

    *prices*: money an hour by type of GPU.
    """
    tally = Tally()
    parts = list(_by_shard(heard))
    shards = tx.lock(sorted({shard for _, shard, _, _ in parts}))
    # Most batches are all good, and need not ask.
    now = tx.now() if any(row.tried is Tried.FAILED for _, _, _, rows in parts for row in rows) else None
    accepted: dict[ShardId, _Accepted] = {}
    ended: set[tuple[ShardId, str]] = set()
    for sender, shard, fence, rows in parts:
        verdict = settle(
            shards.get(shard),
            fence=fence,
            rows=rows,
            now=now,
            renderer=sender.renderer,
            numerics=sender.numerics,
            per_hour=price_of(prices, sender.gpu),
        )
        if isinstance(verdict, Refusal):
            tally.refused += len(rows)
            tally.unwanted += verdict.pictures
            ended.add((shard, fence))
        else:  # at most once a shard: two parts of one shard differ in their fence, and one fence is the newest
            accepted[shard] = _Accepted(sender, verdict, rows)
            _count(tally, accepted[shard])
            if not verdict.todo:
                ended.add((shard, fence))
    tally.ended = frozenset(ended)
    if accepted:
        known = set(tx.write([one.settled for one in accepted.values()]))
        if known:
            made = (row.picture for one in accepted.values() for row in one.rows if row.picture is not None)
            tally.unwanted += {picture.key: picture for picture in made if picture.key in known}.values()
        _learn(tx, list(accepted.values()), resolved_of)
    return tally


@dataclass(frozen=True, slots=True)
class _Accepted:
    sender: From
    settled: Settled
    rows: Sequence[RowReport]


def _unused(settled: Settled, rows: Sequence[RowReport]) -> list[Published]:
    """Pictures of renders that were settled before: by this very report, whose pictures are in use, or by another."""
    used = {outcome.picture.key for outcome in settled.outcomes if outcome.picture is not None}
    return [row.picture for row in rows if row.picture is not None and row.picture.key not in used]


_Part = tuple[From, ShardId, str, list[RowReport]]


def _by_shard(heard: Sequence[From]) -> Iterable[_Part]:
    for sender in heard:
        rows: dict[tuple[ShardId, str], list[RowReport]] = defaultdict(list)
        for report in sender.reports:
            rows[ShardId(report.shard), report.fence].extend(report.rows)
        for (shard, fence), found in rows.items():
            yield sender, shard, fence, found


def _count(tally: Tally, one: _Accepted) -> None:
    settled, rows = one.settled, one.rows
    good = [outcome for outcome in settled.outcomes if outcome.succeeded]
    tally.succeeded += len(good)
    tally.failed += len(settled.outcomes) - len(good)
    given_up = {outcome.ordinal for outcome in settled.outcomes}
    tally.retried += [t.failure.kind for t in settled.failed_tries if t.ordinal not in given_up]
    tally.handed_back += sum(row.tried is Tried.HANDED_BACK for row in rows)
    tally.seconds += [row.seconds for row in rows if row.tried is Tried.SUCCEEDED]
    tally.failures += [failed.failure for failed in settled.failed_tries]
    tally.ends.add(settled)
    whose = settled.shard.team, fleet_of(one.sender.renderer)
    tally.charged[whose] = tally.charged.get(whose, SpentRow()) + SpentRow(settled.gpu_seconds, settled.money)
    tally.unwanted += _unused(settled, rows)
    for outcome in good:
        if outcome.picture is not None and (measured := outcome.picture.measured) is not None:
            tally.rerolls += len(measured.tries) - 1
            tally.missed.update(measured.tries[measured.kept].missed)
    if good:
        tally.succeeded_on.add(one.sender.renderer)


def _learn(tx: SchedulerTx, accepted: Sequence[_Accepted], resolved_of: _ResolvedOf) -> None:
    """What a UNet step costs, per engine key and type of GPU, from a few renders of each shard.

    Loading is not part of it. Renders weigh by their steps, so that the mean foretells a sum without bias.
    """
    spent: dict[tuple[TeamId, str, str], list[tuple[float, int]]] = defaultdict(list)
    for one in accepted:
        shard = one.settled.shard
        seconds = {row.ordinal: row.seconds for row in one.rows}
        good = [outcome for outcome in one.settled.outcomes if outcome.succeeded]
        for outcome in good[:: max(1, len(good) // _SAMPLE)]:
            steps = unet_steps_at(resolved_of(tx, shard.campaign), outcome.ordinal)
            took = seconds[outcome.ordinal]
            spent[shard.team, shard.engine_key, one.sender.gpu].append((took.gpu - took.load, steps))
    for (team, engine_key, gpu), costs in sorted(spent.items()):
        steps = sum(n for _, n in costs)
        mean, squares = sum(s for s, _ in costs) / steps, sum(s * s / n for s, n in costs) / steps
        tx.learn(team, engine_key, gpu, step_seconds=mean, squares=squares, renders=len(costs))
