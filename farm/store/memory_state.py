"""All that the store's twin holds: tables, and their indexes."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from datetime import date, datetime
from itertools import count

from farm.core.errors import NotFound
from farm.core.ids import CampaignId, Fence, RendererName, Session, ShardId, TeamId
from farm.core.records import (
    CheckpointRow,
    EventRow,
    FarmView,
    KeyRow,
    LoadCost,
    LoraRow,
    SourceRow,
    SpentRow,
    StyleRow,
    Tombstone,
)
from farm.store.memory_rows import (
    Attempt,
    Campaign,
    Cost,
    Health,
    Leader,
    Outcome,
    Picture,
    SessionRow,
    Spending,
    Team,
)
from farm.store.memory_shards import Shards
from farm.store.memory_table import Log, Shelf, Table
from schemas.campaign import CampaignState
from schemas.event import EventKind


class Campaigns(Table[CampaignId, Campaign]):
    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self.by_key: dict[tuple[TeamId, str], CampaignId] = {}
        self.by_state: dict[CampaignState, set[CampaignId]] = {state: set() for state in CampaignState}
        self.by_team: dict[TeamId, set[CampaignId]] = {}

    def into(self, row: Campaign) -> None:
        self.by_key[row.row.team, row.submit_key] = row.row.id
        self.by_state[row.row.state].add(row.row.id)
        self.by_team.setdefault(row.row.team, set()).add(row.row.id)

    def out(self, row: Campaign) -> None:
        del self.by_key[row.row.team, row.submit_key]
        self.by_state[row.row.state].discard(row.row.id)
        self.by_team[row.row.team].discard(row.row.id)

    def in_states(self, *states: CampaignState) -> list[Campaign]:
        """By id."""
        return [self.rows[campaign] for campaign in sorted(c for state in states for c in self.by_state[state])]


class Outcomes(Table[tuple[CampaignId, int], Outcome]):
    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self.by_campaign: dict[CampaignId, dict[int, Outcome]] = {}
        self.uses: dict[int, int] = {}  # outcomes that refer to a picture

    def into(self, row: Outcome) -> None:
        self.by_campaign.setdefault(row.campaign, {})[row.ordinal] = row
        if row.picture is not None:
            self.uses[row.picture] = self.uses.get(row.picture, 0) + 1

    def out(self, row: Outcome) -> None:
        del self.by_campaign[row.campaign][row.ordinal]
        if row.picture is not None:
            self.uses[row.picture] -= 1
            if not self.uses[row.picture]:
                del self.uses[row.picture]


class Pictures(Table[int, Picture]):
    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self.by_fingerprint: dict[tuple[TeamId, str], int] = {}
        self.by_key: dict[str, int] = {}  # how many there are of each

    def into(self, row: Picture) -> None:
        self.by_fingerprint[row.team, row.fingerprint] = row.id
        key = row.published.key
        self.by_key[key] = self.by_key.get(key, 0) + 1

    def out(self, row: Picture) -> None:
        del self.by_fingerprint[row.team, row.fingerprint]
        key = row.published.key
        self.by_key[key] -= 1
        if not self.by_key[key]:
            del self.by_key[key]


class Attempts(Table[int, Attempt]):
    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self.by_renderer: dict[RendererName, list[int]] = {}  # those that are not forgiven, oldest first
        self.by_render: dict[tuple[CampaignId, int], set[int]] = {}
        self.by_shard: dict[ShardId, set[int]] = {}  # those without an ordinal

    def into(self, row: Attempt) -> None:
        if row.renderer is not None and not row.forgiven:
            insort(self.by_renderer.setdefault(row.renderer, []), row.id)
        if row.ordinal is None:
            self.by_shard.setdefault(row.shard, set()).add(row.id)
        else:
            self.by_render.setdefault((row.campaign, row.ordinal), set()).add(row.id)

    def out(self, row: Attempt) -> None:
        if row.renderer is not None and not row.forgiven:
            ids = self.by_renderer[row.renderer]
            del ids[bisect_left(ids, row.id)]
            if not ids:
                del self.by_renderer[row.renderer]
        if row.ordinal is None:
            _take(self.by_shard, row.shard, row.id)
        else:
            _take(self.by_render, (row.campaign, row.ordinal), row.id)


class Events(Table[tuple[TeamId, int], EventRow]):
    """Ids of a team have no gaps but where old events were swept away, at the beginning."""

    def __init__(self, log: Log) -> None:
        super().__init__(log)

    def after(self, team: TeamId, after: int, last: int) -> Iterator[EventRow]:
        for number in range(after + 1, last + 1):
            event = self.rows.get((team, number))
            if event is not None:
                yield event


class Sessions(Table[Session, SessionRow]):
    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self.alive: dict[RendererName, set[Session]] = {}

    def into(self, row: SessionRow) -> None:
        if row.ended_at is None:
            self.alive.setdefault(row.name, set()).add(row.session)

    def out(self, row: SessionRow) -> None:
        if row.ended_at is None:
            _take(self.alive, row.name, row.session)


class Spend(Table[tuple[TeamId, date, CampaignId], Spending]):
    """By team, first of the month, campaign."""

    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self.months: dict[tuple[TeamId, date], set[CampaignId]] = {}
        self.campaigns: dict[CampaignId, set[date]] = {}

    def into(self, row: Spending) -> None:
        self.months.setdefault((row.team, row.month), set()).add(row.campaign)
        self.campaigns.setdefault(row.campaign, set()).add(row.month)

    def out(self, row: Spending) -> None:
        _take(self.months, (row.team, row.month), row.campaign)
        _take(self.campaigns, row.campaign, row.month)

    def charge(self, team: TeamId, month: date, campaign: CampaignId, spent: SpentRow) -> None:
        key = (team, month, campaign)
        old = self.rows.get(key)
        self.put(key, Spending(team, month, campaign, spent if old is None else old.spent + spent))

    def by_team(self, team: TeamId, month: date) -> SpentRow:
        found = (self.rows[team, month, campaign].spent for campaign in sorted(self.months.get((team, month), ())))
        return sum(found, SpentRow())

    def by_campaign(self, team: TeamId, campaign: CampaignId) -> SpentRow | None:
        found = [self.rows[team, month, campaign].spent for month in sorted(self.campaigns.get(campaign, ()))]
        return sum(found, SpentRow()) if found else None


class State:
    """The tables. ``clock`` is the database's; *fence* gives a new fence each time."""

    def __init__(self, clock: Callable[[], datetime], fence: Callable[[], str]) -> None:
        self.clock = clock
        self.began = clock()  # the transaction under way
        self.new_fence: Callable[[], Fence] = lambda: Fence(fence())
        self.log = log = Log()
        self.news: set[TeamId] = set()  # teams with events of the transaction under way
        self.shard_ids, self.picture_ids, self.attempt_ids = count(1), count(1), count(1)
        self.teams: Table[TeamId, Team] = Table(log)
        self.keys: Table[bytes, KeyRow] = Table(log)
        self.sources: Shelf[SourceRow] = Shelf(log)
        self.checkpoints: Shelf[CheckpointRow] = Shelf(log)
        self.loras: Shelf[LoraRow] = Shelf(log)
        self.styles: Shelf[tuple[StyleRow, ...]] = Shelf(log)  # newest first
        self.campaigns = Campaigns(log)
        self.shards = Shards(log)
        self.outcomes = Outcomes(log)
        self.pictures = Pictures(log)
        self.attempts = Attempts(log)
        self.events = Events(log)
        self.sessions = Sessions(log)
        self.spend = Spend(log)
        self.costs: Table[tuple[TeamId, str, str], Cost] = Table(log)  # by team, engine key, GPU type
        self.load_costs: Table[tuple[str, str], LoadCost] = Table(log)  # by GPU type, kind
        self.prices: Table[str, float] = Table(log)
        self.health: Table[RendererName, Health] = Table(log)
        self.views: Table[str, FarmView] = Table(log)
        self.tombstones: Table[str, Tombstone] = Table(log)
        self.leaders: Table[str, Leader] = Table(log)

    def begin(self) -> None:
        self.began = self.clock()

    def commit(self) -> frozenset[TeamId]:
        """Returns the teams that have new events."""
        self.log.commit()
        news = frozenset(self.news)
        self.news.clear()
        return news

    def roll_back(self) -> None:
        self.log.roll_back()
        self.news.clear()

    def team(self, team: TeamId) -> Team:
        try:
            return self.teams.rows[team]
        except KeyError as gone:
            raise NotFound("There is no such team any more.") from gone

    def add_event(self, team: TeamId, kind: EventKind, campaign: CampaignId, data: dict[str, object]) -> None:
        row = self.team(team)
        number = row.event_id + 1
        self.teams.put(team, row._replace(event_id=number))
        self.events.put((team, number), EventRow(number, kind.value, campaign, data, self.clock()))
        self.news.add(team)


def _take(index: dict, key: object, member: object) -> None:  # type: ignore[type-arg]  # any index of sets
    members = index[key]
    members.discard(member)
    if not members:
        del index[key]
