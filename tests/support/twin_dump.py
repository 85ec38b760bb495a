"""All that can be seen of a store, as both twins should show it."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from farm.core.ids import CampaignId, ShardId, TeamId
from farm.core.lease import Leadership
from farm.ports import SchedulerTx, TeamTx
from tests.support.twins import BEGIN, HOUR, TEAMS, Side


@dataclass
class Names:
    """What differs between the two sides though it means the same."""

    now: datetime
    shards: dict[ShardId, str]
    positions: list[float]

    def plain(self, value: Any, field: str = "") -> Any:
        """*value* as both sides should show it: moments as hours from now, shards by what they hold."""
        if field == "shard" or isinstance(value, float | datetime) or is_dataclass(value):
            return self._one(value, field)
        match value:
            case Enum():
                return value.value
            case dict():
                return {key: self.plain(part, f"{key} told") for key, part in sorted(value.items())}
            case list() | tuple():
                return [self.plain(part, field) for part in value]
            case _:
                return value

    def _one(self, value: Any, field: str) -> Any:
        if is_dataclass(value):
            shard = "shard" if type(value).__name__ == "ShardRow" else "id"
            named = {f.name: shard if f.name == "id" else f.name for f in fields(value)}
            return {f: self.plain(getattr(value, f), name) for f, name in named.items() if f != "fence"}
        if field == "shard":
            return self.shards[value]
        if field == "deadline":
            return value.isoformat()
        if field == "position told":  # as it was then
            return "somewhere"
        if field == "position":
            return self.positions.index(value)
        if field in ("age", "waited"):
            return round(value / HOUR.total_seconds())
        if isinstance(value, datetime) and value.year == 1970:
            return "never"
        if isinstance(value, datetime):
            return round((value - self.now) / HOUR)
        return float(f"{value:.5g}")


Look = Callable[[], Any]
EVERYTHING = 10**6


def seen_by_scheduler(tx: SchedulerTx, keys: list[str]) -> dict[str, Look]:
    return {
        "queues": lambda: tx.queues(3),
        "backlog": lambda: [[*key, work] for key, work in sorted(tx.backlog().items())],
        "held": tx.held,
        "held back": lambda: [[*key, work] for key, work in sorted(tx.held_back().items())],
        "teams": tx.teams,
        "purses": lambda: [
            sorted(tx.purses()[0], key=lambda p: p.campaign),
            sorted(tx.purses()[1], key=lambda p: p.team),
        ],
        "costs": lambda: sorted(tx.costs(), key=lambda row: (row[0], row[1].engine_key, row[1].gpu)),
        "load_costs": lambda: sorted(tx.load_costs(), key=lambda row: (row.gpu, row.kind)),
        "prices": tx.prices,
        "quarantined": tx.quarantined,
        "accusations": lambda: tx.accusations(7 * HOUR),
        "in use": lambda: sorted(tx.keys_in_use(keys)),
        "picture_count": tx.picture_count,
        "tombstones": lambda: sorted(tx.tombstones(HOUR, 100), key=lambda row: row.key),
        "prunable": lambda: tx.prunable(100),
    }


def seen_by_team(tx: TeamTx, campaigns: list[CampaignId], fingerprints: list[str]) -> dict[str, Look]:
    weights = {"0" * 64: "base", "1" * 64: "gone"}
    return {
        "team": tx.team,
        "campaigns": lambda: tx.campaigns(before=None, limit=100),
        "held back": lambda: [tx.has_held(c) for c in campaigns],
        "queue": tx.queue,
        "counts": lambda: sorted(tx.counts(campaigns).items()),
        "costs": lambda: sorted(tx.costs(), key=lambda row: (row.engine_key, row.gpu)),
        "load_costs": lambda: sorted(tx.load_costs(), key=lambda row: (row.gpu, row.kind)),
        "prices": tx.prices,
        "spent": lambda: sorted(tx.spent(campaigns).items()),
        "team_spent": tx.team_spent,
        "known": lambda: tx.known(fingerprints),
        "standing": lambda: sorted(tx.standing()),
        "why": lambda: [tx.why_facts(c, weights) for c in campaigns[-1:]],  # a dozen statements each
        "farm_view": tx.farm_view,
        "unfinished": tx.unfinished,
        "outcomes": lambda: [tx.outcomes(c, 0, EVERYTHING) for c in campaigns],
        "failed": lambda: [tx.outcomes_after(c, outcome="failed", after=0, limit=2) for c in campaigns],
        "open": lambda: [tx.open_ranges(c, lo=1, hi=EVERYTHING) for c in campaigns],
        "events": lambda: tx.events(after=0, limit=1000),
        "renderers": tx.renderers,
    }


@dataclass
class Known:
    """What the trace has made so far, so that it can be asked for."""

    campaigns: dict[TeamId, list[CampaignId]]
    fingerprints: list[str]
    keys: list[str]


def dump(side: Side, leadership: Leadership, known: Known) -> dict[str, Any]:
    """All that can be seen of a store, as it should look on both sides."""
    names = Names(BEGIN, {}, _positions(side))
    with side.store.as_scheduler(leadership) as tx:
        names.now = tx.now()
        shards = tx.lock([ShardId(n) for n in range(1, MOST_SHARDS)])
        names.shards = {shard: f"{row.campaign} {row.todo}" for shard, row in shards.items()}
        found = {name: names.plain(look()) for name, look in seen_by_scheduler(tx, known.keys).items()}
        found["shards"] = _sorted(names.plain(list(shards.values())))
        found["held"] = _sorted(found["held"])
    for team in TEAMS:
        with side.api.as_team(team) as team_tx:
            looks = seen_by_team(team_tx, known.campaigns[team], known.fingerprints)
            found |= {f"{name} of {team}": names.plain(look()) for name, look in looks.items()}
    return found


MOST_SHARDS = 500


def _positions(side: Side) -> list[float]:
    found: set[float] = set()
    for team in TEAMS:
        with side.api.as_team(team) as tx:
            found |= {row.position for row in tx.campaigns(before=None, limit=1000)}
    return sorted(found)


def _sorted(rows: list[Any]) -> list[Any]:
    return sorted(rows, key=repr)
