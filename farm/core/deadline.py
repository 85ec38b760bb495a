"""Deadlines: which campaigns must hurry, and which will be late whatever is done."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import heappop, heappush
from math import ceil

from farm.core.budget import Purse, Unwarn, Warn
from farm.core.ids import CampaignId, TeamId, show
from farm.core.words import duration, many
from schemas.campaign import CampaignState
from schemas.order import Lane

CODE = "deadline_at_risk"

MARGIN, LEAST_MARGIN = 0.05, 30.0
"""A campaign hurries when less than this part of the time until its deadline would be left over, or fewer seconds.
The same stands between warning and ceasing to warn, so that the two do not take turns."""


@dataclass(frozen=True, slots=True)
class Demand:
    purse: Purse
    left_seconds: float  # GPU seconds, of what is ready and what is under way
    held_seconds: float = 0.0  # of what waits for the proof to be approved
    starts_in: float = 0.0  # seconds until its hours begin: the same of all that wait for off-peak hours


@dataclass(frozen=True, slots=True)
class Forecast:
    """*urgent*: who goes before the rest of its team, and in what order; *finish*: when each will be through.

    Whoever gets no GPU time has no *finish*.
    """

    decisions: tuple[Warn | Unwarn, ...]
    urgent: Mapping[CampaignId, int]
    finish: Mapping[CampaignId, datetime]


def forecast(
    demands: Sequence[Demand],
    *,
    capacity: Mapping[TeamId, float],
    most: Mapping[TeamId, float],
    now: datetime,
) -> Forecast:
    """*capacity* and *most* are GPU seconds per second that each team may count on now, and at full strength.

    While no renderer runs it is reckoned with full strength: they are woken when there is work. What waits for approval
    takes nothing from others, and is itself reckoned as if it were approved now.
    """
    decisions: list[Warn | Unwarn] = []
    urgent: dict[CampaignId, int] = {}
    finish: dict[CampaignId, datetime] = {}
    for team in sorted({demand.purse.team for demand in demands}):
        mine = [demand for demand in demands if demand.purse.team == team]
        strongest = most.get(team, 0.0)
        queue = _Queue(now, capacity.get(team, 0.0) or strongest, strongest)
        running = [demand for demand in mine if demand.purse.state not in _STANDING]
        ranks, order = queue.hurry(running)
        urgent |= ranks
        held = [demand for demand in mine if demand.held_seconds > 0 and demand.purse.deadline is not None]
        approved = {demand.purse.campaign for demand in held}
        orders = [(order, {demand.purse.campaign for demand in running} - approved)]
        orders += [(queue.approved(demand, running), {demand.purse.campaign}) for demand in held]
        for found, of in orders:
            ends = [(purse.campaign, at) for purse, at in queue.ends(found) if purse.campaign in of]
            finish |= {campaign: now + timedelta(seconds=at) for campaign, at in ends if at < _NEVER}
            decisions += queue.told(found, of)
        decisions += [Unwarn(one.purse.campaign, CODE) for one in mine if _needless(one.purse)]
    return Forecast(tuple(decisions), urgent, finish)


_STANDING = frozenset({CampaignState.PAUSED, CampaignState.AWAITING_APPROVAL})

_NEVER = 100 * 365 * 86_400.0
"""Seconds. What would take longer than this does not move at all."""


def _needless(purse: Purse) -> bool:
    return purse.deadline is None and CODE in purse.warnings


def _as_queued(demand: Demand) -> tuple[bool, int, float, CampaignId]:
    purse = demand.purse
    return (purse.lane is not Lane.INTERACTIVE, -purse.priority, purse.position, purse.campaign)


@dataclass(frozen=True, slots=True)
class _Queue:
    """The campaigns of one team, one after the other."""

    now: datetime
    capacity: float
    most: float

    def left(self, purse: Purse) -> float:
        """Seconds until the deadline; below 0 when it has passed."""
        return _NEVER if purse.deadline is None else (purse.deadline - self.now).total_seconds()

    def margin(self, purse: Purse) -> float:
        return max(LEAST_MARGIN, MARGIN * self.left(purse))

    def takes(self, seconds: float) -> float:
        if seconds <= 0:
            return 0.0
        return min(_NEVER, seconds / self.capacity) if self.capacity > 0 else _NEVER

    def ends(self, order: Sequence[Demand]) -> list[tuple[Purse, float]]:
        """When each will be through, in seconds from now. What has nothing left waits for nobody.

        What waits for its hours lets the others by until these begin.
        """
        found, before, later, begins = [], 0.0, 0.0, 0.0
        for demand in order:
            if demand.starts_in:
                later, begins = later + demand.left_seconds, demand.starts_in
                at = max(self.takes(before + later), begins + self.takes(later))
            else:
                before += demand.left_seconds
                at = self.takes(before)
                if at > begins:
                    at = self.takes(before + later)
            found.append((demand.purse, at if demand.left_seconds > 0 else 0.0))
        return found

    def approved(self, demand: Demand, running: Sequence[Demand]) -> list[Demand]:
        """The order if what is held of one were ready now. The rest of a proof's campaign is no proof any more."""
        purse = demand.purse
        lane = Lane.BULK if purse.state is CampaignState.PROOFING else purse.lane
        whole = replace(demand, purse=replace(purse, lane=lane), left_seconds=demand.left_seconds + demand.held_seconds)
        others = [one for one in running if one.purse.campaign != purse.campaign]
        return self.hurry([*others, whole])[1]

    def hurry(self, demands: Sequence[Demand]) -> tuple[dict[CampaignId, int], list[Demand]]:
        """Ranks of the urgent, and the order that comes of them.

        Who is moved ahead may make another late, which then is urgent too: so it is done again until nobody new is.
        """
        queued = sorted(demands, key=_as_queued)
        risky: set[CampaignId] = set()
        while True:
            ranks = self._ranks([demand for demand in queued if demand.purse.campaign in risky])
            order = sorted(queued, key=lambda d: (_as_queued(d)[0], ranks.get(d.purse.campaign, len(ranks))))
            late = {
                purse.campaign for purse, at in self.ends(order) if at > self.left(purse) - self.margin(purse)
            } - risky
            if not late:
                return ranks, order
            risky |= late

    def _ranks(self, risky: Sequence[Demand]) -> dict[CampaignId, int]:
        """Earliest deadline first among as many as can be met together (Moore and Hodgson 1968), then the others."""
        met: list[tuple[float, CampaignId, Demand]] = []  # a heap, the longest on top
        hopeless: list[Demand] = []
        total = 0.0
        for demand in sorted(risky, key=self._by_deadline):
            if demand.starts_in + self.takes(demand.left_seconds) > self.left(demand.purse):
                hopeless.append(demand)  # by itself, whoever makes room for it
                continue
            heappush(met, (-demand.left_seconds, demand.purse.campaign, demand))
            total += demand.left_seconds
            if self.takes(total) > self.left(demand.purse):
                *_, longest = heappop(met)
                hopeless.append(longest)
                total -= longest.left_seconds
        hurry = sorted((demand for *_, demand in met), key=self._by_deadline)
        ranked = [*hurry, *sorted(hopeless, key=self._by_deadline)]
        return {demand.purse.campaign: rank for rank, demand in enumerate(ranked)}

    def _by_deadline(self, demand: Demand) -> tuple[float, CampaignId]:
        return self.left(demand.purse), demand.purse.campaign

    def told(self, order: Sequence[Demand], of: Collection[CampaignId]) -> Iterator[Warn | Unwarn]:
        for place, (purse, at) in enumerate(self.ends(order)):
            if purse.deadline is None or purse.campaign not in of:
                continue
            late = at - self.left(purse)
            if late > 0 and CODE not in purse.warnings:
                yield self._warning(order[: place + 1], late)
            elif late < -self.margin(purse) and CODE in purse.warnings:
                yield Unwarn(purse.campaign, CODE)

    def _warning(self, until: Sequence[Demand], late: float) -> Warn:
        """*until* is the campaign, and before it those that go first."""
        *before, mine = until
        purse, left = mine.purse, self.left(mine.purse) - mine.starts_in
        ahead = max(0.0, sum(demand.left_seconds for demand in before) - self.capacity * mine.starts_in)
        needed = ceil((ahead + mine.left_seconds) / left) if left > 0 else 0
        pause = self._to_pause(before, mine)
        fewer = min(1.0, max(0.0, 1 - (self.capacity * left - ahead) / max(mine.left_seconds, 1e-9)))
        data: dict[str, object] = {
            "late_seconds": round(late) if late < _NEVER / 2 else None,
            "renderers": round(self.capacity, 2),
            "needed_renderers": needed or None,
            "most_renderers": round(self.most, 2),
            "pause": None if pause is None else show("cmp", pause),
            "fewer": round(fewer, 2),
        }
        return Warn(purse.campaign, CODE, f"{self._how_late(mine, late)} {self._help(needed, pause, fewer)}", data)

    def _to_pause(self, before: Sequence[Demand], mine: Demand) -> CampaignId | None:
        """The smallest campaign of those that go first without which it would be in time."""
        total = sum(demand.left_seconds for demand in [*before, mine])
        left = self.left(mine.purse)
        enough = [one for one in before if self.takes(total - one.left_seconds) <= left]
        return min(enough, key=lambda one: one.left_seconds).purse.campaign if enough else None

    def _how_late(self, mine: Demand, late: float) -> str:
        left = self.left(mine.purse)
        if late >= _NEVER / 2:
            return "It will miss its deadline: its team gets no renderer."
        if left <= 0:
            return f"Its deadline has passed, and it will be done in about {duration(late + left)}."
        done = f"it will be done about {duration(late)} after its deadline"
        if mine.held_seconds:
            return f"Even if its proof is approved now, {done}."
        if mine.starts_in:
            return f"It waits for off-peak hours: {done}."
        return f"I{done[1:]}, although it goes as early as it can."

    def _help(self, needed: int, pause: CampaignId | None, fewer: float) -> str:
        found = []
        if needed:
            has = max(1, round(self.capacity)) if self.capacity else 0
            within = "" if needed <= self.most else f" (the fleets give the team at most {max(1, int(self.most))})"
            found.append(f"{many(max(needed, has + 1), 'renderer')} instead of {has}{within}")
        if pause is not None:
            found.append(f"pausing {show('cmp', pause)}")
        if needed:
            found.append(f"about {max(1, ceil(fewer * 100))} % fewer renders")
        found.append("a later deadline")
        return f"What would help: {', '.join(found[:-1])} or {found[-1]}." if found[1:] else f"It needs {found[0]}."
