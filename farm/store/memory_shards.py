"""Shards in memory, and what is known of them without looking at each: queues in order, leases, counts."""

from bisect import bisect_left, insort

from farm.core.ids import CampaignId, Session, ShardId
from farm.store.memory_rows import Shard
from farm.store.memory_table import Log, Table


class Pile:
    """Shards of one campaign in one state. Seconds are kept by what a render costs, so that they never drift."""

    __slots__ = ("ids", "mix")

    def __init__(self) -> None:
        self.ids: set[ShardId] = set()
        self.mix: dict[float, int] = {}  # expected seconds of a render -> renders

    @property
    def renders(self) -> int:
        return sum(self.mix.values())

    @property
    def seconds(self) -> float:
        return sum(seconds * renders for seconds, renders in self.mix.items())

    def add(self, shard: Shard) -> None:
        self.ids.add(shard.id)
        self._mix(shard.seconds, shard.renders)

    def take(self, shard: Shard) -> None:
        self.ids.discard(shard.id)
        self._mix(shard.seconds, -shard.renders)

    def _mix(self, seconds: float, renders: int) -> None:
        left = self.mix.get(seconds, 0) + renders
        if left:
            self.mix[seconds] = left
        else:
            self.mix.pop(seconds, None)


class Line(Pile):
    """The ready shards of one campaign and engine key, in order of their places."""

    __slots__ = ("order", "steps")

    def __init__(self) -> None:
        super().__init__()
        self.order: list[tuple[int, ShardId]] = []
        self.steps: dict[float, int] = {}  # seconds of a UNet step, as expected -> shards

    @property
    def step_seconds(self) -> float:
        return max(self.steps, default=0.0)

    def add(self, shard: Shard) -> None:
        super().add(shard)
        insort(self.order, (shard.place, shard.id))
        self.steps[shard.step_seconds] = self.steps.get(shard.step_seconds, 0) + 1

    def take(self, shard: Shard) -> None:
        super().take(shard)
        del self.order[bisect_left(self.order, (shard.place, shard.id))]
        self.steps[shard.step_seconds] -= 1
        if not self.steps[shard.step_seconds]:
            del self.steps[shard.step_seconds]


class Tally:
    """The shards of one campaign. Those that are done are counted only by what became of their renders."""

    __slots__ = ("failed", "lines", "piles", "reused", "succeeded")

    def __init__(self) -> None:
        self.piles = {state: Pile() for state in ("ready", "held", "leased", "cancelled")}
        self.lines: dict[str, Line] = {}  # by engine key; none that is empty
        self.succeeded = 0
        self.failed = 0
        self.reused = 0

    def busy(self) -> bool:
        """Something is ready or leased."""
        return bool(self.piles["ready"].ids or self.piles["leased"].ids)


_NOTHING = Tally()


class Shards(Table[ShardId, Shard]):
    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self.tallies: dict[CampaignId, Tally] = {}
        self.leased: set[ShardId] = set()
        self.by_session: dict[Session, set[ShardId]] = {}

    def tally(self, campaign: CampaignId) -> Tally:
        """To be read only."""
        return self.tallies.get(campaign, _NOTHING)

    def of(self, campaign: CampaignId, *states: str) -> list[Shard]:
        """By id."""
        piles = self.tally(campaign).piles
        return [self.rows[shard] for shard in sorted(i for state in states for i in piles[state].ids)]

    def into(self, row: Shard) -> None:
        tally = self.tallies.get(row.campaign)
        if tally is None:
            tally = self.tallies[row.campaign] = Tally()
        tally.succeeded += row.succeeded
        tally.failed += row.failed
        tally.reused += row.reused
        if row.state == "done":
            return
        tally.piles[row.state].add(row)
        if row.state == "ready":
            line = tally.lines.get(row.engine_key)
            if line is None:
                line = tally.lines[row.engine_key] = Line()
            line.add(row)
        elif row.state == "leased":
            self.leased.add(row.id)
            if row.session is not None:
                self.by_session.setdefault(row.session, set()).add(row.id)

    def out(self, row: Shard) -> None:
        tally = self.tallies[row.campaign]
        tally.succeeded -= row.succeeded
        tally.failed -= row.failed
        tally.reused -= row.reused
        if row.state == "done":
            return
        tally.piles[row.state].take(row)
        if row.state == "ready":
            line = tally.lines[row.engine_key]
            line.take(row)
            if not line.order:
                del tally.lines[row.engine_key]
        elif row.state == "leased":
            self.leased.discard(row.id)
            if row.session is not None:
                held = self.by_session[row.session]
                held.discard(row.id)
                if not held:
                    del self.by_session[row.session]
