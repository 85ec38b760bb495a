"""Why a campaign waits, in one sentence with figures."""

from collections.abc import Callable, Sequence
from datetime import datetime

from farm.core.campaign import ENDED
from farm.core.ids import show
from farm.core.records import QueuedCampaign, SpentRow, WhyFacts
from farm.core.words import duration, listed, many, nth
from schemas.campaign import Budget, CampaignState, PausedBy
from schemas.order import Lane
from schemas.why import Why, WhyCode

Facts = dict[str, int | float | str | None]
_Reason = tuple[str, Facts]

S = CampaignState


def explain(facts: WhyFacts) -> Why:
    """The first reason that holds, in the order of `WhyCode`."""
    for code in WhyCode:
        if (reason := _REASONS[code](facts)) is not None:
            sentence, figures = reason
            return Why(campaign=_id(facts), code=code, sentence=sentence, facts=figures)
    raise AssertionError("to be queued is the last reason, and always holds")


def _id(facts: WhyFacts) -> str:
    return show("cmp", facts.campaign.id)


def _ended(facts: WhyFacts) -> _Reason | None:
    if facts.campaign.state not in ENDED:
        return None
    counts = facts.counts
    word = "is done" if facts.campaign.state is S.DONE else "was cancelled"
    parts = [f"{counts.succeeded:,} succeeded", f"{counts.failed:,} failed"]
    parts += [f"{counts.cancelled:,} were cancelled"] if counts.cancelled else []
    figures: Facts = {"succeeded": counts.succeeded, "failed": counts.failed, "cancelled": counts.cancelled}
    return f"It {word}: of {many(facts.campaign.renders, 'render')} {listed(parts)}.", figures


def _cancelling(facts: WhyFacts) -> _Reason | None:
    if facts.campaign.state is not S.CANCELLING:
        return None
    running = facts.counts.running
    what = f"{many(running, 'render')} that {_are(running)} in a renderer" if running else "the scheduler to note it"
    return f"It is being cancelled and waits for {what}.", {"running": running}


def _awaiting_approval(facts: WhyFacts) -> _Reason | None:
    if facts.campaign.state is not S.AWAITING_APPROVAL:
        return None
    shown, rest = facts.counts.succeeded + facts.counts.failed, facts.counts.queued
    return (
        f"Its proof of {many(shown, 'render')} is there: look at it, and approve it for the other {rest:,} to begin.",
        {"proof": shown, "failed": facts.counts.failed, "held": rest},
    )


def _paused(facts: WhyFacts) -> _Reason | None:
    row = facts.campaign
    if row.state is not S.PAUSED or row.paused_by in (PausedBy.BUDGET, PausedBy.TEAM_BUDGET):
        return None
    running = facts.counts.running
    left = f" What a renderer has of it already ({many(running, 'render')}) is finished." if running else ""
    return f"Somebody of your team has paused it: it goes on when it is resumed.{left}", {"running": running}


def _budget(facts: WhyFacts) -> _Reason | None:
    return _of_budget(
        facts, PausedBy.BUDGET, _used_up(facts.campaign.budget, facts.spent), "its budget", "Raise it and it goes on."
    )


def _team_budget(facts: WhyFacts) -> _Reason | None:
    used_up = _used_up(facts.team.budget, facts.team_spent)
    what_helps = "It goes on next month, or when an operator raises that budget."
    return _of_budget(facts, PausedBy.TEAM_BUDGET, used_up, "your team's budget for this month", what_helps)


def _of_budget(facts: WhyFacts, by: PausedBy, used_up: _Reason | None, whose: str, what_helps: str) -> _Reason | None:
    """Also before the scheduler has paused it, once nothing of it is under way any more."""
    if facts.campaign.paused_by is not by and (used_up is None or facts.campaign_renderers):
        return None
    how, figures = used_up or ("", {})
    return f"It is stopped: {whose} is spent{how}. {what_helps}", figures


def _used_up(budget: Budget | None, spent: SpentRow) -> _Reason | None:
    """The side of a budget that is used up."""
    if budget is not None and budget.money is not None and spent.money >= budget.money:
        figures: Facts = {"spent": round(spent.money, 4), "limit": budget.money, "unit": "money"}
        return f" ({spent.money:,.2f} of {budget.money:,.2f})", figures
    if budget is not None and budget.gpu_seconds is not None and spent.gpu_seconds >= budget.gpu_seconds:
        figures = {"spent": round(spent.gpu_seconds, 1), "limit": budget.gpu_seconds, "unit": "gpu_seconds"}
        return f" ({duration(spent.gpu_seconds)} of {duration(budget.gpu_seconds)} of GPU time)", figures
    return None


def _no_scheduler(facts: WhyFacts) -> _Reason | None:
    if facts.farm.leading:
        return None
    at = facts.farm.at
    since = f"No scheduler has been at work since {at:%H:%M:%S} UTC on {at:%d %B}, so nothing is handed out."
    return f"{since} An operator has to start one.", {"since": _iso(at)}


def _depot_down(facts: WhyFacts) -> _Reason | None:
    if facts.farm.depot_up:
        return None
    return "The object store does not answer, so nothing is handed out until it does.", {}


def _missing_weights(facts: WhyFacts) -> _Reason | None:
    if not facts.missing:
        return None
    names = sorted(facts.missing)
    shown = [*names[:5], f"{len(names) - 5} more"] if len(names) > 5 else names
    return (
        f"Weights that it needs are gone: {listed(shown)}. What needs them fails until they are added again.",
        {"missing": len(names), "first": names[0]},
    )


def _no_such_gpu(facts: WhyFacts) -> _Reason | None:
    wanted, there = facts.campaign.gpu, facts.farm.gpus
    if wanted is None or not there or wanted in there:
        return None
    has = listed(sorted(there))
    return f"It may run on {wanted} only, and the farm has none: it has {has}.", {"gpu": wanted, "has": has}


def _off_peak(facts: WhyFacts) -> _Reason | None:
    if not facts.campaign.off_peak or facts.farm.off_peak:
        return None
    return "It was submitted for off-peak hours, and these have not begun.", {}


def _rendering(facts: WhyFacts) -> _Reason | None:
    counts, at = facts.counts, facts.campaign_renderers
    if not (at or counts.running):
        return None
    what = "Its proof is" if facts.campaign.state is S.PROOFING else "It is"
    left = counts.queued + counts.running
    where = f" by {many(at, 'renderer')}" if at else ""
    through = counts.succeeded + counts.failed
    return (
        f"{what} being rendered{where}: {through:,} of {many(facts.campaign.renders, 'render')} are through.",
        {"renderers": at, "running": counts.running, "left": left},
    )


def _backing_off(facts: WhyFacts) -> _Reason | None:
    at = facts.next_ready_at
    if not facts.backing_off or at is None or at <= facts.farm.at:
        return None
    seconds = (at - facts.farm.at).total_seconds()
    what = f"What is left of it ({many(facts.backing_off, 'shard')}) failed, or was lost with its renderer"
    figures: Facts = {"shards": facts.backing_off, "seconds": round(seconds, 1), "at": _iso(at)}
    return f"{what}; it is tried again in {duration(seconds)}.", figures


def _no_renderer(facts: WhyFacts) -> _Reason | None:
    only = facts.campaign.gpu
    # One that is starting has not yet said what it is.
    mine = [(state, count) for gpu, state, count in facts.farm.renderers if only in (None, gpu) or not gpu]
    if any(state in ("idle", "busy") and count for state, count in mine):
        return None
    kind = "" if only is None else f" with a {only}"
    figures: Facts = {"wanted": facts.farm.wanted, "most": facts.farm.most}
    for state in _NOT_AT_WORK:
        figures[state] = sum(count for own, count in mine if own == state)
    there = [f"{figures[state]} {word}" for state, word in _NOT_AT_WORK.items() if figures[state]]
    if there:
        return f"No renderer{kind} takes work now: {listed(there)}.", figures
    if facts.farm.most == 0:
        return "The farm is set up without any renderer.", figures
    return f"No renderer{kind} runs yet; one is started when a node for it is found.", figures


_NOT_AT_WORK = {"starting": "starting", "quarantined": "in quarantine", "draining": "about to end"}


def _quota(facts: WhyFacts) -> _Reason | None:
    team, used = facts.team, facts.renderers_used
    figures: Facts = {"renderers": used, "quota": team.quota, "burst": team.burst, "teams": facts.others_waiting}
    if team.burst is not None and used >= team.burst:
        most = many(team.burst, "renderer")
        return f"Your team uses all the {most} that it may use at once; other campaigns have them.", figures
    if team.quota is not None and facts.others_waiting and used >= team.quota:
        most, others = many(team.quota, "renderer"), many(facts.others_waiting, "other team")
        do = _wait(facts.others_waiting)
        return f"Your team uses all the {most} that it may use while others wait, and {others} {do}.", figures
    return None


def _queued(facts: WhyFacts) -> _Reason:
    ahead, count = _ahead(facts)
    renders, seconds = sum(one.renders for one in ahead), sum(one.seconds for one in ahead)
    figures: Facts = {
        "position": len(ahead) + 1,
        "campaigns": count,
        "renders_ahead": renders,
        "seconds_ahead": round(seconds, 1),
        "teams": facts.others_waiting,
    }
    tail = ""
    if facts.others_waiting:
        others = many(facts.others_waiting, "other team")
        tail = f" {others} {_wait(facts.others_waiting)} too, and each gets its share."
    if not ahead:
        return f"It is the next of your team, and waits for a renderer to be free.{tail}", figures
    place = f"It is the {nth(len(ahead) + 1)} of {many(count, 'campaign')} of your team"
    first = f"about {many(renders, 'render')} {_go(renders)} before it, some {duration(seconds)} of GPU time"
    return f"{place}; {first}.{tail}", figures


def _ahead(facts: WhyFacts) -> tuple[Sequence[QueuedCampaign], int]:
    """The team's campaigns that go first, and how many there are in all; what stands still is neither."""
    asleep = not facts.farm.off_peak
    moving = [
        one
        for one in facts.queue
        if one.id == facts.campaign.id
        or (one.state in (S.ACTIVE, S.PROOFING) and one.renders and not (one.off_peak and asleep))
    ]
    moving.sort(key=_order)
    place = next((n for n, one in enumerate(moving) if one.id == facts.campaign.id), len(moving))
    return moving[:place], max(len(moving), place + 1)


def _order(one: QueuedCampaign) -> tuple[bool, int, float, int]:
    """As placement takes them: what is looked at while somebody waits, then by priority and place."""
    interactive = one.lane is Lane.INTERACTIVE or one.state is S.PROOFING
    return (not interactive, -one.priority, one.position, one.id)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _go(count: int) -> str:
    return "goes" if count == 1 else "go"


def _wait(count: int) -> str:
    return "waits" if count == 1 else "wait"


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


_REASONS: dict[WhyCode, Callable[[WhyFacts], _Reason | None]] = {
    WhyCode.ENDED: _ended,
    WhyCode.CANCELLING: _cancelling,
    WhyCode.AWAITING_APPROVAL: _awaiting_approval,
    WhyCode.PAUSED: _paused,
    WhyCode.BUDGET: _budget,
    WhyCode.TEAM_BUDGET: _team_budget,
    WhyCode.NO_SCHEDULER: _no_scheduler,
    WhyCode.DEPOT_DOWN: _depot_down,
    WhyCode.MISSING_WEIGHTS: _missing_weights,
    WhyCode.NO_SUCH_GPU: _no_such_gpu,
    WhyCode.OFF_PEAK: _off_peak,
    WhyCode.RENDERING: _rendering,
    WhyCode.BACKING_OFF: _backing_off,
    WhyCode.NO_RENDERER: _no_renderer,
    WhyCode.QUOTA: _quota,
    WhyCode.QUEUED: _queued,
}
