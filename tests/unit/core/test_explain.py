"""Why a campaign waits, in one sentence."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.explain import explain
from farm.core.ids import CampaignId, TeamId
from farm.core.records import (
    CampaignCounts,
    CampaignRow,
    FarmView,
    QueuedCampaign,
    SpentRow,
    TeamRow,
    WhyFacts,
)
from schemas.campaign import Budget, CampaignState, PausedBy
from schemas.order import Lane
from schemas.why import Why, WhyCode

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
S, C = CampaignState, WhyCode
Change = Callable[[WhyFacts], WhyFacts]


def queued(number: int, **changes: Any) -> QueuedCampaign:
    plain = QueuedCampaign(CampaignId(number), S.ACTIVE, Lane.BULK, 50, float(number), None, False, 620, 360.0, 0)
    return replace(plain, **changes)


ROW = CampaignRow(CampaignId(3), TeamId(1), "spring", "hash", S.ACTIVE, 100, 50, None, NOW, None)
FACTS = WhyFacts(
    campaign=ROW,
    counts=CampaignCounts(running=0, succeeded=0, failed=0, cancelled=0, reused=0, queued=100),
    team=TeamRow(TeamId(1), "acme", 1000),
    spent=SpentRow(),
    team_spent=SpentRow(),
    queue=tuple(queued(n) for n in range(1, 6)),
    next_ready_at=None,
    backing_off=0,
    renderers_used=2,
    campaign_renderers=0,
    others_waiting=0,
    missing=(),
    farm=FarmView(NOW, leading=True, renderers=(("H100", "busy", 2),), wanted=4, most=8, gpus=("H100", "L40S")),
)


def row(**changes: Any) -> Change:
    return lambda facts: replace(facts, campaign=replace(facts.campaign, **changes))


def counts(**changes: int) -> Change:
    return lambda facts: replace(facts, counts=replace(facts.counts, **changes))


def team(**changes: Any) -> Change:
    return lambda facts: replace(facts, team=replace(facts.team, **changes))


def farm(**changes: Any) -> Change:
    return lambda facts: replace(facts, farm=replace(facts.farm, **changes))


def changed(**changes: Any) -> Change:
    return lambda facts: replace(facts, **changes)


def why(*changes: Change) -> Why:
    facts = FACTS
    for change in changes:
        facts = change(facts)
    return explain(facts)


REASONS: dict[WhyCode, tuple[tuple[Change, ...], str]] = {
    C.ENDED: (
        (row(state=S.DONE), counts(succeeded=95, failed=5, queued=0)),
        "It is done: of 100 renders 95 succeeded and 5 failed.",
    ),
    C.CANCELLING: (
        (row(state=S.CANCELLING), counts(running=12)),
        "It is being cancelled and waits for 12 renders that are in a renderer.",
    ),
    C.AWAITING_APPROVAL: (
        (row(state=S.AWAITING_APPROVAL), counts(succeeded=12, queued=88)),
        "Its proof of 12 renders is there: look at it, and approve it for the other 88 to begin.",
    ),
    C.PAUSED: (
        (row(state=S.PAUSED, paused_by=PausedBy.USER),),
        "Somebody of your team has paused it: it goes on when it is resumed.",
    ),
    C.BUDGET: (
        (
            row(state=S.PAUSED, paused_by=PausedBy.BUDGET, budget=Budget(money=10)),
            changed(spent=SpentRow(9.0, 10.02)),
        ),
        "It is stopped: its budget is spent (10.02 of 10.00). Raise it and it goes on.",
    ),
    C.TEAM_BUDGET: (
        (
            row(state=S.PAUSED, paused_by=PausedBy.TEAM_BUDGET),
            team(budget=Budget(gpu_seconds=3600)),
            changed(team_spent=SpentRow(3660.0)),
        ),
        (
            "It is stopped: your team's budget for this month is spent (1 h 1 min of 1 h of GPU time). "
            "It goes on next month, or when an operator raises that budget."
        ),
    ),
    C.NO_SCHEDULER: (
        (farm(leading=False),),
        (
            "No scheduler has been at work since 12:00:00 UTC on 23 November, so nothing is handed out. "
            "An operator has to start one."
        ),
    ),
    C.DEPOT_DOWN: (
        (farm(depot_up=False),),
        "The object store does not answer, so nothing is handed out until it does.",
    ),
    C.MISSING_WEIGHTS: (
        (changed(missing=("watercolour", "anime")),),
        "Weights that it needs are gone: anime and watercolour. What needs them fails until they are added again.",
    ),
    C.NO_SUCH_GPU: (
        (row(gpu="B200"),),
        "It may run on B200 only, and the farm has none: it has H100 and L40S.",
    ),
    C.OFF_PEAK: (
        (row(off_peak=True), farm(off_peak=False)),
        "It was submitted for off-peak hours, and these have not begun.",
    ),
    C.RENDERING: (
        (changed(campaign_renderers=2), counts(running=8, succeeded=30, failed=2, queued=60)),
        "It is being rendered by 2 renderers: 32 of 100 renders are through.",
    ),
    C.BACKING_OFF: (
        (changed(backing_off=3, next_ready_at=NOW + timedelta(seconds=42)),),
        "What is left of it (3 shards) failed, or was lost with its renderer; it is tried again in 42 s.",
    ),
    C.NO_RENDERER: (
        (farm(renderers=(("", "starting", 2), ("H100", "quarantined", 1))),),
        "No renderer takes work now: 2 starting and 1 in quarantine.",
    ),
    C.QUOTA: (
        (team(quota=2), changed(others_waiting=3)),
        "Your team uses all the 2 renderers that it may use while others wait, and 3 other teams wait.",
    ),
    C.QUEUED: (
        (),
        "It is the third of 5 campaigns of your team; about 1,240 renders go before it, some 12 min of GPU time.",
    ),
}


@pytest.mark.parametrize("code", C)
def test_each_reason_has_its_sentence(code: WhyCode) -> None:
    changes, sentence = REASONS[code]
    found = why(*changes)
    assert (found.code, found.sentence) == (code, sentence)
    assert found.campaign == "cmp_0000000000003"


@given(st.sets(st.sampled_from(list(C)), min_size=1))
def test_of_several_reasons_the_first_holds(codes: set[WhyCode]) -> None:
    """States exclude one another, so only one of those is put on; all else adds up."""
    of_state = [C.ENDED, C.CANCELLING, C.AWAITING_APPROVAL, C.PAUSED, C.BUDGET, C.TEAM_BUDGET]
    first = next((code for code in C if code in codes and code in of_state), None)
    kept = [code for code in C if code in codes and (code == first or code not in of_state)]
    found = why(*(change for code in kept for change in REASONS[code][0]))
    assert found.code == kept[0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ((row(state=S.CANCELLED), counts(succeeded=5, cancelled=95)),
         "It was cancelled: of 100 renders 5 succeeded, 0 failed and 95 were cancelled."),
        ((row(state=S.CANCELLING),), "It is being cancelled and waits for the scheduler to note it."),
        ((row(state=S.CANCELLING), counts(running=1)),
         "It is being cancelled and waits for 1 render that is in a renderer."),
        ((row(state=S.PROOFING), changed(campaign_renderers=1)),
         "Its proof is being rendered by 1 renderer: 0 of 100 renders are through."),
        ((changed(missing=tuple("abcdefgh")),),
         "Weights that it needs are gone: a, b, c, d, e and 3 more. What needs them fails until they are added again."),
        ((farm(renderers=(), most=8),), "No renderer runs yet; one is started when a node for it is found."),
        ((farm(renderers=(), most=0),), "The farm is set up without any renderer."),
        ((row(gpu="L40S"),), "No renderer with a L40S runs yet; one is started when a node for it is found."),
        ((row(gpu="L40S"), farm(renderers=(("", "starting", 1), ("H100", "busy", 1)))),
         "No renderer with a L40S takes work now: 1 starting."),
        ((team(burst=2),), "Your team uses all the 2 renderers that it may use at once; other campaigns have them."),
        ((row(id=CampaignId(1)),), "It is the next of your team, and waits for a renderer to be free."),
        ((row(id=CampaignId(1)), changed(others_waiting=1)),
         ("It is the next of your team, and waits for a renderer to be free. "
          "1 other team waits too, and each gets its share.")),
    ],
)  # fmt: skip
def test_sentences_fit_the_case(changes: tuple[Change, ...], sentence: str) -> None:
    assert why(*changes).sentence == sentence


def test_what_stands_still_does_not_go_before() -> None:
    queue = (
        queued(1, state=S.PAUSED),
        queued(2, state=S.AWAITING_APPROVAL),
        queued(4, off_peak=True, priority=90),
        queued(5, renders=0, priority=90),
        queued(3),
    )
    assert why(changed(queue=queue), farm(off_peak=False)).facts["position"] == 1


def test_proofs_the_interactive_lane_and_higher_priorities_go_before() -> None:
    queue = (queued(3), queued(4, state=S.PROOFING), queued(5, lane=Lane.INTERACTIVE), queued(6, priority=51))
    found = why(changed(queue=queue))
    assert found.facts == {"position": 4, "campaigns": 4, "renders_ahead": 1860, "seconds_ahead": 1080.0, "teams": 0}
    assert "It is the fourth of 4 campaigns" in found.sentence


def test_a_quota_does_not_bite_while_nobody_waits() -> None:
    assert why(team(quota=2)).code is C.QUEUED


def test_a_spent_budget_is_named_even_before_the_scheduler_has_paused() -> None:
    found = why(row(budget=Budget(gpu_seconds=60)), changed(spent=SpentRow(61.0)))
    assert found.code is C.BUDGET
    assert found.facts == {"spent": 61.0, "limit": 60.0, "unit": "gpu_seconds"}
