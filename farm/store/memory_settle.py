"""What a settled report changes in the store's twin."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from farm.core.ids import CampaignId, ShardId, TeamId
from farm.core.records import SpentRow
from farm.core.settle import Child, FailedTry, NewOutcome, Settled, ShardRow
from farm.core.shard import ranges_of, size_of
from farm.store.memory_looks import month_of
from farm.store.memory_rows import Attempt, Outcome, Picture, S, Shard
from farm.store.memory_state import State
from schemas.campaign import CampaignState
from schemas.event import EventKind

Event = tuple[TeamId, CampaignId, EventKind, dict[str, object]]


class Written:
    """What one transaction of the leader writes of reports. Charges and events are kept until its end."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._charges: dict[tuple[TeamId, CampaignId], SpentRow] = {}

    def write(self, state: State, settled: Sequence[Settled]) -> list[str]:
        """Returns the keys of pictures that lost to an earlier one of their fingerprint."""
        unwanted: list[str] = []
        for one in settled:
            for outcome in one.outcomes:
                _add_outcome(state, outcome, unwanted)
            for failed in one.failed_tries:
                _add_attempt(state, failed)
            _shrink(state, one)
            for child in one.children:
                _add_child(state, one.shard, child)
            if one.gpu_seconds or one.money:
                key, spent = (one.shard.team, one.shard.campaign), SpentRow(one.gpu_seconds, one.money)
                self._charges[key] = self._charges[key] + spent if key in self._charges else spent
        self.events += _settled_events(settled)
        self.finish(state, sorted({one.shard.campaign for one in settled if not one.todo}))
        return unwanted

    def finish(self, state: State, campaigns: Sequence[CampaignId]) -> int:
        """Moves on those that are through, and returns how many."""
        ended = 0
        for campaign in campaigns:
            found, to = state.campaigns.rows[campaign], _through(state, campaign)
            if to is None:
                continue
            finished_at = None if to is S.AWAITING_APPROVAL else state.clock()
            row = replace(found.row, state=to, finished_at=finished_at, paused_by=None)
            state.campaigns.put(campaign, found._replace(row=row))
            self.events.append((row.team, campaign, EventKind.CAMPAIGN_STATE, {"state": to.value}))
            ended += 1
        return ended

    def flush(self, state: State) -> None:
        """Last in the transaction."""
        month = month_of(state.began)
        for (owner, campaign), spent in sorted(self._charges.items(), key=lambda charge: charge[0]):
            state.spend.charge(owner, month, campaign, spent)
            team = state.team(owner)
            state.teams.put(owner, team._replace(vtime=team.vtime + spent.gpu_seconds / team.row.weight))
        for owner, campaign, kind, data in sorted(self.events, key=lambda event: event[0]):
            state.add_event(owner, kind, campaign, data)
        self._charges.clear()
        self.events.clear()


def _add_outcome(state: State, new: NewOutcome, unwanted: list[str]) -> None:
    picture = new.picture_id
    if new.picture is not None:
        picture = state.pictures.by_fingerprint.get((new.team, new.fingerprint))
        if picture is None:
            picture = next(state.picture_ids)
            state.pictures.put(picture, Picture(picture, new.team, new.fingerprint, new.picture))
        elif state.pictures.rows[picture].published.key != new.picture.key:
            unwanted.append(new.picture.key)
    if (new.campaign, new.ordinal) in state.outcomes.rows:
        return
    failure = new.failure
    row = Outcome(
        team=new.team,
        campaign=new.campaign,
        ordinal=new.ordinal,
        picture=picture,
        reused=new.picture_id is not None,
        tries=new.tries,
        gpu_seconds=new.gpu_seconds,
        money=new.money,
        renderer=new.renderer,
        numerics=new.numerics,
        code=None if failure is None else failure.code,
        detail=None if failure is None else failure.detail,
        finished_at=state.began,
    )
    state.outcomes.put((new.campaign, new.ordinal), row)


def _add_attempt(state: State, failed: FailedTry) -> None:
    shard = state.shards.rows[failed.shard]
    session = None if shard.session is None else state.sessions.rows.get(shard.session)
    attempt = Attempt(
        id=next(state.attempt_ids),
        team=shard.team,
        campaign=shard.campaign,
        shard=shard.id,
        ordinal=failed.ordinal,
        fence=shard.fence,
        renderer=failed.renderer or (None if session is None else session.name),
        kind=str(failed.failure.kind),
        code=failed.failure.code,
        detail=failed.failure.detail,
        at=state.began,
    )
    state.attempts.put(attempt.id, attempt)


def _shrink(state: State, one: Settled) -> None:
    shard = state.shards.rows[one.shard.id]
    good = sum(outcome.succeeded for outcome in one.outcomes)
    new = shard._replace(
        todo=one.todo,
        renders=size_of(one.todo),
        state=shard.state if one.todo else "done",
        session=shard.session if one.todo else None,
        succeeded=shard.succeeded + good,
        failed=shard.failed + len(one.outcomes) - good,
        reused=shard.reused + sum(outcome.picture_id is not None for outcome in one.outcomes),
    )
    state.shards.put(shard.id, new)


def _add_child(state: State, parent: ShardRow, child: Child) -> None:
    shard = ShardId(next(state.shard_ids))
    row = Shard(
        id=shard,
        team=parent.team,
        campaign=parent.campaign,
        engine_key=parent.engine_key,
        checkpoint=parent.checkpoint,
        state=child.state,
        place=child.todo[0][0],
        todo=child.todo,
        renders=size_of(child.todo),
        seconds=parent.seconds,
        ready_at=child.ready_at or state.clock(),
        tries=child.tries,
        lost=child.lost,
        depot_tries=child.depot_tries,
        avoid=child.avoid,
        step_seconds=state.shards.rows[parent.id].step_seconds,
    )
    state.shards.put(shard, row)


def _settled_events(settled: Sequence[Settled]) -> list[Event]:
    """One event a campaign, however many renders."""
    by_campaign: dict[tuple[TeamId, CampaignId], list[NewOutcome]] = {}
    for one in settled:
        if one.outcomes:
            by_campaign.setdefault((one.shard.team, one.shard.campaign), []).extend(one.outcomes)
    return [
        (team, campaign, EventKind.RENDERS_SETTLED, {"succeeded": _ended(done, True), "failed": _ended(done, False)})
        for (team, campaign), done in sorted(by_campaign.items())
    ]


def _ended(outcomes: Iterable[NewOutcome], good: bool) -> list[list[int]]:
    return [list(part) for part in ranges_of([o.ordinal for o in outcomes if o.succeeded == good])]


def _through(state: State, campaign: CampaignId) -> CampaignState | None:
    """What follows once nothing of it is ready or leased."""
    tally, now = state.shards.tally(campaign), state.campaigns.rows[campaign].row.state
    if tally.busy():
        return None
    match now:
        case S.CANCELLING:
            return S.CANCELLED
        case S.PROOFING:
            return S.AWAITING_APPROVAL if tally.piles["held"].ids else S.DONE
        case S.ACTIVE | S.PAUSED:
            return None if tally.piles["held"].ids else S.DONE
        case _:
            return None
