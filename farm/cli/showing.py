"""A campaign as the commands show it."""

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from farm.cli.exits import USAGE, Stop
from farm.cli.output import day, say, show_json, show_list
from farm.cli.quoting import spent_facts
from farm.cli.words import clock
from schemas.campaign import Campaign, CampaignDetail, CampaignState, PausedBy
from schemas.findings import CheckCounts

COLUMNS = ("id", "name", "state", "renders", "succeeded", "failed", "reused", "submitted")

WARNINGS = {
    "deadline_at_risk": "its deadline will probably be missed",
    "budget_near": "its budget is nearly spent",
    "budget_spent": "its budget is spent",
    "team_budget_near": "the team's budget of this month is nearly spent",
    "team_budget_spent": "the team's budget of this month is spent",
}

_PAUSED = {
    PausedBy.USER: "paused",
    PausedBy.BUDGET: "paused, its budget is spent",
    PausedBy.TEAM_BUDGET: "paused, the team's budget of this month is spent",
}


def _campaign_id(given: str | None) -> str | None:
    """A render's id holds its campaign's, and is easily taken for it."""
    render = re.fullmatch(r"rnd_([0-9a-z]{13})(_\d+)?", given or "")
    if render:
        raise Stop(f"{given} is the id of a render. Its campaign is cmp_{render[1]}.", USAGE)
    return given


Id = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Such as cmp_06yd2k7h00004.", callback=_campaign_id)]


def show_row(campaign: Campaign, *, as_json: bool) -> None:
    if as_json:
        show_json(campaign.model_dump(mode="json"))
    else:
        show_list([campaign], COLUMNS, cells, as_json=False)


def cells(row: Campaign) -> Sequence[object]:
    c = row.counts
    return (row.id, row.name, row.state.value, c.total, c.succeeded, c.failed, c.reused, day(row.created_at))


def facts(found: CampaignDetail) -> list[tuple[str, object]]:
    counts = found.counts
    pairs: list[tuple[str, object]] = [("id", found.id), ("name", found.name), ("state", state_of(found))]
    pairs += [(label, value) for label, value in counts.model_dump().items()]
    pairs += [("submitted", day(found.created_at)), ("ended", day(found.finished_at) or "not yet")]
    if found.deadline is not None:
        pairs.append(("deadline", clock(found.deadline)))
    pairs += spent_facts(found)
    pairs += [("warning", sentence) for sentence in warnings_in_full(found)]
    return pairs if found.parent is None else [*pairs, ("parent", found.parent)]


def check_facts(counts: CheckCounts) -> list[tuple[str, object]]:
    """Nothing when the styles have no checks, or nothing was rendered yet."""
    if not counts.checked:
        return []
    which = ", ".join(f"{name} {missed:,}" for name, missed in counts.by_check.items())
    missed = f"{counts.missed:,} of {counts.checked:,}" + (f" ({which})" if which else "")
    return [("missed checks", missed), ("tried again", f"{counts.rerolled:,} ({counts.tries:,} tries in all)")]


def state_of(found: Campaign) -> str:
    if found.state is CampaignState.PAUSED and found.paused_by is not None:
        return _PAUSED[found.paused_by]
    return found.state.value


def warnings(found: Campaign) -> list[str]:
    """In words; one of a newer farm by its code."""
    return [WARNINGS.get(code, code) for code in found.warnings]


def warnings_in_full(found: CampaignDetail) -> list[str]:
    """Sentences that say by how much, and what would help; of an older farm only what it is about."""
    return [found.warning_details.get(code) or f"{WARNINGS.get(code, code)}." for code in found.warnings]


def say_proof(found: Campaign) -> None:
    """How to look at a proof that waits, and what may be done about it."""
    if found.state is not CampaignState.AWAITING_APPROVAL:
        return
    waiting = found.counts.queued
    say(f"The proof is ready: {found.counts.succeeded} renders to look at; {waiting} more wait for your approval.")
    say(f"  look at it     `farm campaign sheet {found.id} proof.png` or `farm campaign download {found.id} proof/`")
    say(f"  render it all  `farm campaign approve {found.id}`")
    say(f"  change it      `farm campaign edit {found.id} --style old=new`")
    say(f"  drop it        `farm campaign cancel {found.id}`")
