"""Say what a campaign would cost and when it would be done, before it is submitted. Nothing is stored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from farm.core import quote as core
from farm.core.campaign import recipe_of
from farm.core.costs import ANY
from farm.core.fingerprint import fingerprint
from farm.core.ids import CampaignId, TeamId
from farm.core.matrix import Cell, cell_at, runs
from farm.core.records import FarmView, QueuedCampaign
from farm.core.reuse import at_least, to_look_up
from farm.ports import ApiStore, Clock, TeamTx
from farm.usecases.check_campaign import TO_BE_REPLACED, Checked, Terms, check_campaign
from schemas.campaign import Budget, CampaignSpec, CampaignState, ResolvedCampaign
from schemas.order import Lane
from schemas.quote import Quote
from schemas.recipe import Recipe

MAX_RECIPES = 4_000
"""Recipes that stand for the rest. With more kinds of render than that, one strength stands for all of a style."""

_AT_WORK = frozenset({"starting", "idle", "busy"})
_STANDS = frozenset({CampaignState.PAUSED, CampaignState.AWAITING_APPROVAL})


@dataclass(frozen=True, slots=True)
class Wishes:
    """What of a campaign is no matter of its pixels and yet decides when it is done."""

    priority: int
    lane: Lane
    gpu: str | None
    deadline: datetime | None
    budget: Budget | None
    parent: CampaignId | None


def quote_campaign(store: ApiStore, clock: Clock, team: TeamId, spec: CampaignSpec, terms: Terms) -> Quote:
    """Raises `BadRequest` with everything for which submitting would be refused."""
    now = clock.now()
    with store.as_team(team) as tx:
        checked = check_campaign(tx, spec, now, terms)
        return foretell(tx, checked, wishes_of(spec, checked.parent), now, terms.currency)


def wishes_of(spec: CampaignSpec, parent: CampaignId | None) -> Wishes:
    return Wishes(spec.priority, spec.lane, spec.gpu, spec.deadline, spec.budget, parent)


def foretell(tx: TeamTx, checked: Checked, wishes: Wishes, now: datetime, currency: str) -> Quote:
    """From what was measured, what the farm has, and what goes before."""
    view = tx.farm_view()
    gpus, cold = _gpus(view, wishes.gpu)
    return core.quote(
        recipes=recipes_of(checked.resolved),
        reused=_reused(tx, checked),
        costs=tx.costs(),
        load_costs=tx.load_costs(),
        prices=tx.prices(),
        gpus=gpus,
        most=view.most,
        team=core.TeamAhead(weight=tx.team().weight, ahead_seconds=_ahead(tx.queue(), wishes)),
        others=[(weight, seconds) for weight, _, seconds, ours in tx.standing() if not ours],
        deadline=wishes.deadline,
        budget=wishes.budget,
        currency=currency,
        now=now,
        cold=cold,
    )


def recipes_of(campaign: ResolvedCampaign) -> list[tuple[Recipe, int]]:
    """One recipe for each style, size and strength of each block, and how many renders it stands for."""
    return [(recipe_of(campaign, cell), renders) for cell, renders in _cells(campaign) if renders]


def _cells(campaign: ResolvedCampaign) -> Iterator[tuple[Cell, int]]:
    stretches = runs(campaign)
    kinds = sum(len(campaign.blocks[run.block].strengths) for run in stretches)
    for run in stretches:
        strengths = range(len(campaign.blocks[run.block].strengths))
        shown: Sequence[int] = strengths if kinds <= MAX_RECIPES else [len(strengths) // 2]
        for strength in shown:
            yield Cell(run.block, run.style, run.size, 0, 0, strength, 0), (run.hi - run.lo) // len(shown)


def _reused(tx: TeamTx, checked: Checked) -> int:
    ordinals = to_look_up(checked.renders)
    cells = (cell_at(checked.resolved, ordinal) for ordinal in ordinals)
    known = tx.known([fingerprint(recipe_of(checked.resolved, cell)) for cell in cells])
    return at_least(known, len(ordinals), checked.renders)


def _gpus(view: FarmView, only: str | None) -> tuple[dict[str, int], bool]:
    """Renderers by type of GPU: those at work; else what the fleets may have, and that they have to be woken first."""
    found: dict[str, int] = {}
    for gpu, state, renderers in view.renderers:
        if state in _AT_WORK and renderers and only in (None, gpu):
            found[gpu] = found.get(gpu, 0) + renderers
    if found or not view.most:
        return found, False
    types = [gpu for gpu in view.gpus if only in (None, gpu)]
    if not types and only is None:
        types = [ANY]
    return {gpu: max(1, view.most // len(types)) for gpu in types}, True


def _ahead(queue: Sequence[QueuedCampaign], wishes: Wishes) -> float:
    """GPU seconds of the team's own campaigns that go first; a parent that would be replaced is none of them."""
    return sum(one.seconds for one in queue if one.state not in _STANDS and _goes_first(one, wishes))


def _goes_first(one: QueuedCampaign, wishes: Wishes) -> bool:
    if one.id == wishes.parent and one.state in TO_BE_REPLACED:
        return False
    if one.lane is not wishes.lane:
        return one.lane is Lane.INTERACTIVE
    return one.priority >= wishes.priority
