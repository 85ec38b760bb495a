"""What administrators do to the store's twin, and short cuts for tests of the API that need no scheduler."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta

from farm.core.errors import NotFound
from farm.core.ids import CampaignId, KeyId, RendererName, Session, TeamId
from farm.core.records import KeyRow, OutcomeRow, RendererRow, TeamRow
from farm.core.shard import contains, minus, size_of
from farm.store import memory_health
from farm.store.memory_rows import Health, Outcome, Picture, S, SessionRow, Shard, Team
from farm.store.memory_state import State
from schemas.event import EventKind
from schemas.report import Published

_A_DAY = timedelta(days=1)


class Backstage:
    """The part of `MemoryStore` that no port asks for."""

    change: Callable[[], AbstractContextManager[State]]

    def add_team(self, team: TeamRow) -> None:
        with self.change() as state:
            state.teams.put(team.id, Team(team))

    def set_limits(self, team: TeamRow) -> None:
        """All of its row, at once."""
        with self.change() as state:
            state.teams.put(team.id, state.team(team.id)._replace(row=team))

    def add_key(self, team: TeamId, digest: bytes, name: str = "key") -> None:
        with self.change() as state:
            state.keys.put(digest, KeyRow(KeyId(len(state.keys.rows) + 1), team, name, state.clock()))

    def revoke_key(self, digest: bytes) -> None:
        with self.change() as state:
            state.keys.drop(digest)

    def set_price(self, gpu: str, per_hour: float | None) -> None:
        with self.change() as state:
            if per_hour is None:
                state.prices.drop(gpu)
            else:
                state.prices.put(gpu, per_hour)

    def hold_renderer(self, name: RendererName, why: str) -> None:
        """A quarantine by hand. Raises `NotFound` when no renderer of that name has ever spoken."""
        with self.change() as state:
            if all(row.name != name for row in state.sessions.rows.values()):
                raise NotFound(f"There is no renderer {name!r}.")
            memory_health.forgive(state, name)
            health, now = state.health.rows.get(name, Health(name)), state.began
            since, until = health.quarantined_at or now, _in_a_hundred_years(now)
            state.health.put(name, health._replace(quarantined_at=since, until=until, why=why, by_hand=True))

    def release_renderer(self, name: RendererName) -> None:
        """What stood against it before is forgotten, as after a success. Raises `NotFound`."""
        with self.change() as state:
            health = state.health.rows.get(name)
            if health is None or health.quarantined_at is None:
                raise NotFound(f"The renderer {name!r} is not in quarantine.")
            state.health.put(name, Health(name, last_success=state.began))

    # short cuts
    def put_renderer(self, renderer: RendererRow) -> None:
        """A renderer session that lives for a day."""
        with self.change() as state:
            session = Session(renderer.session)
            row = SessionRow(
                session=session,
                name=RendererName(renderer.name),
                state=renderer.state,
                doing=renderer.doing,
                gpu=renderer.gpu,
                node=renderer.node,
                numerics=renderer.numerics,
                waiting=renderer.waiting,
                checkpoint=renderer.checkpoint,
                expires_at=state.clock() + _A_DAY,
                seen_at=renderer.seen_at,
            )
            state.sessions.put(session, row)

    def lease(self, team: TeamId, campaign: CampaignId, shards: int = 1) -> None:  # noqa: ARG002  (as `settle`)
        """Marks the first *shards* ready shards as leased, to no renderer."""
        with self.change() as state:
            for shard in state.shards.of(campaign, "ready")[:shards]:
                state.shards.put(shard.id, shard._replace(state="leased", leased_at=state.clock()))

    def settle(self, team: TeamId, outcomes: Sequence[OutcomeRow]) -> None:
        """Writes outcomes of one campaign, and ends it when they were the last. The first outcome of a render stays."""
        with self.change() as state:
            campaign = outcomes[0].campaign
            new = [o for o in outcomes if (campaign, o.ordinal) not in state.outcomes.rows]
            for outcome in new:
                _add(state, team, outcome)
            for shard in state.shards.of(campaign, "ready", "held", "leased", "cancelled"):
                _shrink(state, shard, [o for o in new if contains(shard.todo, o.ordinal)])
            state.add_event(team, EventKind.RENDERS_SETTLED, campaign, {"renders": len(new)})
            old = state.campaigns.rows[campaign]
            if len(state.outcomes.by_campaign[campaign]) == old.row.renders and old.row.finished_at is None:
                row = replace(old.row, state=S.DONE, finished_at=state.clock())
                state.campaigns.put(campaign, old._replace(row=row))
                state.add_event(team, EventKind.CAMPAIGN_STATE, campaign, {"state": "done"})


def _in_a_hundred_years(now: datetime) -> datetime:
    return now.replace(year=now.year + 100, day=min(now.day, 28) if now.month == 2 else now.day)


def _shrink(state: State, shard: Shard, outcomes: Sequence[OutcomeRow]) -> None:
    todo = minus(shard.todo, [o.ordinal for o in outcomes])
    good = sum(o.outcome == "succeeded" for o in outcomes)
    new = shard._replace(
        todo=todo,
        renders=size_of(todo),
        state=shard.state if todo else "done",
        succeeded=shard.succeeded + good,
        failed=shard.failed + len(outcomes) - good,
        reused=shard.reused + sum(o.reused for o in outcomes),
    )
    state.shards.put(shard.id, new)


def _add(state: State, team: TeamId, row: OutcomeRow) -> None:
    picture = None
    if row.key is not None:
        picture = next(state.picture_ids)
        published = Published(
            key=row.key,
            sha256=row.sha256 or "",
            bytes=row.bytes or 0,
            width=row.width or 0,
            height=row.height or 0,
            format=row.format or "",
            renditions=row.renditions,
            measured=row.measured,
        )
        state.pictures.put(picture, Picture(picture, team, f"{picture:064x}", published))
    new = Outcome(
        team=team,
        campaign=row.campaign,
        ordinal=row.ordinal,
        picture=picture,
        reused=row.reused,
        tries=1,
        gpu_seconds=0.0,
        money=0.0,
        renderer=None,
        numerics=row.numerics,
        code=row.code,
        detail=row.detail,
        finished_at=row.finished_at,
    )
    state.outcomes.put((row.campaign, row.ordinal), new)
