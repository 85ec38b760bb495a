"""What the leader may do in one transaction, in the store's twin."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import assert_never

from farm.core.campaign import ENDED
from farm.core.fairshare import Rejoin, Rest
from farm.core.ids import CampaignId, RendererName, Session, ShardId, TeamId
from farm.core.placement import Placed
from farm.core.records import FarmView, Heartbeat, LoadCost, Tombstone
from farm.core.settle import Settled, ShardRow
from farm.store import memory_health, memory_lasting
from farm.store.memory_farm import Seeing
from farm.store.memory_rows import GONE, RUNNABLE, Attempt, Campaign, Cost, S, SessionRow, Shard, lane_of
from farm.store.memory_settle import Written
from farm.store.memory_state import State
from schemas.campaign import PausedBy
from schemas.event import EventKind
from schemas.report import FailureKind, Hello

_RECENT, _RECENT_LOADS = 200, 50
"""So many renders and loads, at most, does what was learned before count for."""


class MemorySchedulerTx(Seeing):
    """`farm.ports.SchedulerTx` over the twin's tables."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._written = Written()

    def flush(self) -> None:
        """Last in the transaction: charges and events, which lock rows of teams in PostgreSQL."""
        self._written.flush(self._state)

    # renderer sessions
    def greet(self, hello: Hello, ttl: timedelta) -> None:
        state, now = self._state, self._state.clock()
        session, name = Session(hello.session), RendererName(hello.name)
        new = SessionRow(
            session, name, "idle", "", hello.gpu, hello.node, hello.numerics, 0, "", expires_at=now + ttl, seen_at=now
        )
        old = state.sessions.rows.get(session)
        if old is not None:  # one that was given up too early lives again once its process speaks
            new = old._replace(state="idle", expires_at=now + ttl, seen_at=now, ended_at=None)
        state.sessions.put(session, new)
        self._end(other for other in state.sessions.alive.get(name, ()) if other != session)

    def heartbeat(self, beats: Sequence[Heartbeat], ttl: timedelta) -> None:
        now = self._state.clock()
        for beat in beats:
            row = self._state.sessions.rows.get(Session(beat.session))
            if row is not None and row.ended_at is None:
                new = row._replace(
                    state=beat.state,
                    doing=beat.doing,
                    waiting=beat.waiting,
                    checkpoint=beat.checkpoint,
                    seen_at=now,
                    expires_at=now + ttl,
                )
                self._state.sessions.put(row.session, new)

    def end_sessions(self, sessions: Sequence[Session]) -> None:
        rows = self._state.sessions.rows
        self._end(session for session in sessions if session in rows and rows[session].ended_at is None)

    def end_absent(self, prefix: str, names: Sequence[RendererName]) -> None:
        absent = [name for name in self._state.sessions.alive if name.startswith(prefix) and name not in names]
        self._end(session for name in absent for session in self._state.sessions.alive[name])

    def _end(self, sessions: Iterable[Session]) -> None:
        now = self._state.clock()
        for session in sorted(sessions):
            row = self._state.sessions.rows[session]
            self._state.sessions.put(session, row._replace(state="lost", ended_at=now))

    # health
    def note_success(self, names: Sequence[RendererName]) -> None:
        memory_health.note_success(self._state, names)

    def quarantine(self, name: RendererName, *, why: str, lasts: timedelta) -> None:
        memory_health.quarantine(self._state, name, why, lasts)

    def release(self, name: RendererName) -> None:
        memory_health.release(self._state, name)

    # shards
    def take(self, placed: Sequence[Placed]) -> list[tuple[ShardRow, Placed]]:
        state, now = self._state, self._state.clock()
        found = []
        for shard, place in {place.shard: place for place in placed}.items():
            row, session = state.shards.rows.get(shard), state.sessions.rows.get(place.session)
            if row is None or row.state != "ready" or state.campaigns.rows[row.campaign].row.state not in RUNNABLE:
                continue
            if session is None or session.ended_at is not None or session.expires_at <= now:
                continue  # a lease for a renderer that has been given up would be lost as soon as it is given
            fence = state.new_fence()
            row = row._replace(state="leased", fence=fence, session=place.session, leased_at=now)
            state.shards.put(shard, row)
            found.append((self._row(row), place))
        return found

    def lock(self, shards: Sequence[ShardId]) -> dict[ShardId, ShardRow]:
        rows = self._state.shards.rows
        return {shard: self._row(rows[shard]) for shard in sorted(set(shards)) if shard in rows}

    def _row(self, shard: Shard) -> ShardRow:
        campaign = self._state.campaigns.rows[shard.campaign].row
        return ShardRow(
            id=shard.id,
            team=shard.team,
            campaign=shard.campaign,
            engine_key=shard.engine_key,
            checkpoint=shard.checkpoint,
            priority=campaign.priority,
            state=shard.state,
            fence=shard.fence,
            todo=shard.todo,
            tries=shard.tries,
            lost=shard.lost,
            seconds=shard.seconds,
            cancelling=campaign.state in GONE,
            depot_tries=shard.depot_tries,
            avoid=shard.avoid,
            lane=lane_of(campaign),
        )

    def write(self, settled: Sequence[Settled]) -> list[str]:
        return self._written.write(self._state, settled)

    def put_back(self, shard: ShardRow, *, lost: int, delay: timedelta, avoid: RendererName | None = None) -> None:
        row = self._state.shards.rows.get(shard.id)
        if row is None or row.state != "leased" or row.fence != shard.fence:
            return
        cancelling = self._state.campaigns.rows[row.campaign].row.state in GONE
        new = row._replace(
            state="cancelled" if cancelling else "ready",
            session=None,
            lost=lost,
            ready_at=self._state.clock() + delay,
            avoid=row.avoid if avoid is None or avoid in row.avoid else (*row.avoid, avoid),
        )
        self._state.shards.put(row.id, new)
        if avoid is not None:
            self._add_loss(row, avoid)

    def _add_loss(self, row: Shard, name: RendererName) -> None:
        attempt = Attempt(
            id=next(self._state.attempt_ids),
            team=row.team,
            campaign=row.campaign,
            shard=row.id,
            ordinal=None,
            fence=row.fence,
            renderer=name,
            kind=str(FailureKind.RENDERER_DIED),
            code="renderer_died",
            detail="The renderer ended, or was not heard of any more, while it had the shard.",
            at=self._state.began,
        )
        self._state.attempts.put(attempt.id, attempt)

    # learning
    def learn(
        self, team: TeamId, engine_key: str, gpu: str, *, step_seconds: float, squares: float, renders: int
    ) -> None:
        if not renders:
            return
        old = self._state.costs.rows.get((team, engine_key, gpu), Cost(0.0, 0.0, 0))
        n = min(old.renders, _RECENT)
        new = Cost(
            (old.step_seconds * n + step_seconds * renders) / (n + renders),
            (old.squares * n + squares * renders) / (n + renders),
            old.renders + renders,
        )
        self._state.costs.put((team, engine_key, gpu), new)

    def learn_load(self, gpu: str, kind: str, *, seconds: float, loads: int) -> None:
        if not loads:
            return
        old = self._state.load_costs.rows.get((gpu, kind), LoadCost(gpu, kind, 0.0, 0))
        n = min(old.loads, _RECENT_LOADS)
        mean = (old.seconds * n + seconds) / (n + loads)
        self._state.load_costs.put((gpu, kind), LoadCost(gpu, kind, mean, old.loads + loads))

    # campaigns and teams
    def finish_campaigns(self) -> int:
        found = self._state.campaigns.in_states(S.CANCELLING, S.PROOFING)
        for campaign in found:
            if campaign.row.state is S.CANCELLING:
                for shard in self._state.shards.of(campaign.row.id, "ready", "held"):
                    self._state.shards.put(shard.id, shard._replace(state="cancelled"))
        return self._written.finish(self._state, [campaign.row.id for campaign in found])

    def pause(self, campaign: CampaignId, by: PausedBy, detail: str) -> bool:
        found = self._state.campaigns.rows.get(campaign)
        if found is None:
            return False
        other = found.row.state is S.PAUSED and found.row.paused_by not in (None, PausedBy.USER, by)
        if found.row.state not in RUNNABLE and not other:
            return False
        self._change(found, state=S.PAUSED, paused_by=by)
        data: dict[str, object] = {"state": "paused", "paused_by": by.value, "detail": detail}
        self._tell(found, EventKind.CAMPAIGN_STATE, data)
        return True

    def resume(self, campaign: CampaignId) -> bool:
        found = self._state.campaigns.rows.get(campaign)
        if found is None or found.row.state is not S.PAUSED or found.row.paused_by in (None, PausedBy.USER):
            return False
        to = S.PROOFING if self._state.shards.tally(campaign).piles["held"].ids else S.ACTIVE
        self._change(found, state=to, paused_by=None)
        self._tell(found, EventKind.CAMPAIGN_STATE, {"state": to.value})
        return True

    def warn(self, campaign: CampaignId, code: str, detail: str, data: dict[str, object]) -> None:
        found = self._state.campaigns.rows.get(campaign)
        if found is not None and found.row.state not in ENDED and code not in found.row.warnings:
            self._change(found, warnings=(*found.row.warnings, code))
            self._tell(found, EventKind.CAMPAIGN_WARNING, {**data, "code": code, "detail": detail})

    def unwarn(self, campaign: CampaignId, code: str) -> None:
        found = self._state.campaigns.rows.get(campaign)
        if found is not None and code in found.row.warnings:
            self._change(found, warnings=tuple(other for other in found.row.warnings if other != code))

    def _change(self, found: Campaign, **changes: object) -> None:
        row = replace(found.row, **changes)  # type: ignore[arg-type]  # by name
        self._state.campaigns.put(row.id, found._replace(row=row))

    def _tell(self, found: Campaign, kind: EventKind, data: dict[str, object]) -> None:
        self._written.events.append((found.row.team, found.row.id, kind, data))

    def turn(self, turns: Sequence[Rejoin | Rest]) -> None:
        for turn in turns:
            team = self._state.teams.rows.get(turn.team)
            if team is None:
                continue
            match turn:
                case Rejoin(vtime=vtime):
                    self._state.teams.put(turn.team, team._replace(vtime=vtime, backlogged=True))
                case Rest():
                    self._state.teams.put(turn.team, team._replace(backlogged=False))
                case _:
                    assert_never(turn)

    def show_farm(self, view: FarmView) -> None:
        self._state.views.put("farm", replace(view, at=self._state.clock()))

    # lasting
    def doomed(self, keys: Sequence[str], reason: str) -> None:
        memory_lasting.doomed(self._state, keys, reason)

    def tombstones(self, older: timedelta, limit: int) -> list[Tombstone]:
        return memory_lasting.tombstones(self._state, older, limit)

    def spare(self, keys: Sequence[str]) -> None:
        memory_lasting.spare(self._state, keys)

    def prunable(self, limit: int) -> list[tuple[TeamId, CampaignId]]:
        return memory_lasting.prunable(self._state, limit)

    def prune(self, campaign: CampaignId, limit: int) -> tuple[int, list[str]]:
        return memory_lasting.prune(self._state, campaign, limit)

    def sweep(self, *, events: timedelta, attempts: timedelta, sessions: timedelta, limit: int) -> dict[str, int]:
        return memory_lasting.sweep(self._state, events=events, attempts=attempts, sessions=sessions, limit=limit)
