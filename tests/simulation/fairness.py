"""Fair shares, by an account of our own: who waits, who is served, what it took."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from farm.core.placement import LEEWAY_SECONDS, SLOTS
from farm.core.settle import ShardRow
from farm.core.shard import size_of
from farm.store.memory import MemoryStore
from farm.store.memory_rows import RUNNABLE, Campaign
from schemas.order import Lane
from tests.simulation.kernel import Kernel

NOTICED = 5.0
"""Seconds after which a leader that is well has seen what was submitted."""


@dataclass(slots=True)
class Newcomer:
    """A team that has begun to wait with nothing under way, and has had less than any other that waits."""

    since: float
    bound: int  # shards of others that may go first
    overtaken: int = 0


@dataclass(slots=True)
class Fairness:
    """*renderers* is how many there can be at most. Both checks return what is wrong, or None."""

    kernel: Kernel
    store: MemoryStore
    renderers: int
    newcomers: dict[int, Newcomer] = field(default_factory=dict)
    largest: float = 0.0  # expected GPU seconds of the largest shard leased
    _begun: dict[int, float] = field(default_factory=dict)  # weighted seconds at the beginning of the race
    _racing: tuple[int, ...] = ()

    def submitted(self, team: int) -> None:
        """Called when the campaign is in the database."""
        state = self.store.state
        others = [other for other in self._waiting() if other != team]
        mine = [self._busy(campaign) for campaign in self._campaigns(team)]
        if sum(mine) > 1 or not self._plain(team) or team in self.newcomers:
            return
        least = min((state.teams.rows[other].vtime for other in others), default=0.0)  # type: ignore[index]
        if others and state.teams.rows[team].vtime <= least:  # type: ignore[index]
            self.newcomers[team] = Newcomer(self.kernel.now, SLOTS * self.renderers + len(others))

    def leased(self, taken: Sequence[ShardRow]) -> str | None:
        for shard in taken:
            self.newcomers.pop(shard.team, None)
            self.largest = max(self.largest, shard.seconds * size_of(shard.todo))
        bulk = sum(shard.lane is Lane.BULK for shard in taken)
        for team, newcomer in list(self.newcomers.items()):
            if not self._plain(team) or not any(self._ready(campaign) for campaign in self._campaigns(team)):
                del self.newcomers[team]
            elif self.kernel.now > newcomer.since + NOTICED:
                newcomer.overtaken += bulk
                if newcomer.overtaken > newcomer.bound:
                    return f"team {team} waits since {newcomer.since:.3f} s; {newcomer.overtaken} shards went before"
        return None

    def race(self) -> str | None:
        """Compares what teams got that have waited, all of them, since the last change among them."""
        racing = tuple(team for team in self._waiting() if self._plain(team))
        used = {team: self._used(team) for team in racing}
        if racing != self._racing:
            self._racing, self._begun = racing, used
            return None
        got = {team: used[team] - self._begun[team] for team in racing}
        lightest = min((self._weight(team) for team in racing), default=1.0)
        bound = LEEWAY_SECONDS + 2 * SLOTS * self.renderers * self.largest / lightest
        if len(racing) > 1 and max(got.values()) - min(got.values()) > bound:
            return f"weighted GPU seconds since the race began: {got}, further apart than {bound:.0f}"
        return None

    def _used(self, team: int) -> float:
        """Settled and under way, divided by weight."""
        state = self.store.state
        spent = sum(
            (
                found.gpu_seconds
                for c in self._campaigns(team)
                if (found := state.spend.by_campaign(c.row.team, c.row.id))
            ),
            0.0,
        )
        under_way = sum(state.shards.tally(c.row.id).piles["leased"].seconds for c in self._campaigns(team))
        return (spent + under_way) / self._weight(team)

    def _waiting(self) -> list[int]:
        return [team for team in sorted(self.store.state.teams.rows) if any(map(self._ready, self._campaigns(team)))]

    def _campaigns(self, team: int) -> list[Campaign]:
        state = self.store.state
        return [state.campaigns.rows[campaign] for campaign in sorted(state.campaigns.by_team.get(team, ()))]  # type: ignore[call-overload]

    def _ready(self, campaign: Campaign) -> bool:
        """Something that any renderer could take now."""
        state, now = self.store.state, self.kernel.clock()
        row = campaign.row
        if row.state not in RUNNABLE or row.gpu is not None:
            return False
        shards = (state.shards.rows[shard] for shard in state.shards.tally(row.id).piles["ready"].ids)
        return any(shard.ready_at <= now and not shard.avoid for shard in shards)

    def _busy(self, campaign: Campaign) -> bool:
        return self.store.state.shards.tally(campaign.row.id).busy()

    def _plain(self, team: int) -> bool:
        """No limit of its own or of a campaign keeps it from its share."""
        row = self.store.state.teams.rows[team].row  # type: ignore[index]
        limits = (row.quota, row.burst, row.budget)
        open_ = [campaign.row for campaign in self._campaigns(team) if campaign.row.finished_at is None]
        return limits == (None, None, None) and all(one.budget is None and one.gpu is None for one in open_)

    def _weight(self, team: int) -> float:
        return self.store.state.teams.rows[team].row.weight  # type: ignore[index]
