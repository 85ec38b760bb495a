"""Budgets: who is near, who is through, and what may still start."""

from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.budget import Budgets, Pause, Purse, Resume, TeamPurse, Unwarn, Warn, judge_budgets
from farm.core.ids import CampaignId, TeamId
from farm.core.records import SpentRow
from schemas.campaign import Budget, CampaignState, PausedBy
from schemas.order import Lane

A, B = CampaignId(1), CampaignId(2)
TEAM = TeamId(7)
PER_SECOND = 0.002


def purse(campaign: CampaignId = A, **changes: Any) -> Purse:
    plain = Purse(campaign, TEAM, CampaignState.ACTIVE, None, Lane.BULK, 50, 0.0, SpentRow())
    return replace(plain, **changes)


def seconds(limit: float, **changes: Any) -> Budget:
    return Budget(gpu_seconds=limit, **changes)


def judged(
    *purses: Purse, team: TeamPurse | None = None, under_way: dict[CampaignId, float] | None = None, per: float = 0.0
) -> Budgets:
    return judge_budgets(purses, [team] if team else [], under_way=under_way or {}, money_per_second=per)


def codes(found: Budgets) -> list[str]:
    return [type(d).__name__ + (f" {d.code}" if isinstance(d, Warn | Unwarn) else "") for d in found.decisions]


def test_a_campaign_without_a_budget_has_no_limit() -> None:
    assert judged(purse(spent=SpentRow(1e9, 1e9)), per=PER_SECOND) == Budgets((), {}, {})


@pytest.mark.parametrize(
    ("budget", "used"),
    [
        (Budget(gpu_seconds=100.0), 0.2),
        (Budget(money=50.0), 0.9),
        (Budget(gpu_seconds=100.0, money=50.0), 0.9),
        (Budget(gpu_seconds=10.0, money=50.0), 2.0),
    ],
)
def test_of_a_budget_that_share_is_used_of_which_least_is_left(budget: Budget, used: float) -> None:
    assert TeamPurse(TEAM, budget, SpentRow(20.0, 45.0)).used == pytest.approx(used)


def test_what_awaits_approval_is_warned_of_and_neither_paused_nor_resumed() -> None:
    found = judged(purse(state=CampaignState.AWAITING_APPROVAL, budget=seconds(100), spent=SpentRow(100)))
    assert codes(found) == ["Warn budget_spent"]


def test_room_is_what_is_neither_spent_nor_under_way() -> None:
    found = judged(purse(budget=seconds(100), spent=SpentRow(30)), under_way={A: 25.0})
    assert found.room == {A: 45.0}
    assert found.decisions == ()


def test_money_becomes_seconds_by_the_price() -> None:
    found = judged(purse(budget=Budget(money=1.0), spent=SpentRow(100, 0.2)), under_way={A: 10.0}, per=PER_SECOND)
    assert found.room == {A: pytest.approx(390.0)}


def test_of_two_limits_the_tighter_one_counts() -> None:
    both = Budget(money=1.0, gpu_seconds=50)
    assert judged(purse(budget=both), per=PER_SECOND).room == {A: 50.0}
    assert judged(purse(budget=Budget(money=0.01, gpu_seconds=50)), per=PER_SECOND).room == {A: pytest.approx(5.0)}


def test_where_nothing_has_a_price_a_limit_in_money_holds_only_what_has_reached_it() -> None:
    """Priced renderers come and go; a campaign that is through its money must not go on and off with them."""
    assert judged(purse(budget=Budget(money=10.0), spent=SpentRow(9.0, 5.0))) == Budgets((), {CampaignId(1): inf}, {})
    spent = judged(purse(budget=Budget(money=1.0), spent=SpentRow(9.0, 5.0)))
    assert [type(decision) for decision in spent.decisions] == [Pause, Warn]
    assert spent.room == {CampaignId(1): 0.0}


def test_people_are_warned_once_and_the_warning_ends_when_the_budget_is_raised() -> None:
    near = purse(budget=seconds(100), spent=SpentRow(80))
    found = judged(near)
    assert codes(found) == ["Warn budget_near"]
    (warning,) = found.decisions
    assert isinstance(warning, Warn)
    assert "1 min 20 s of 1 min 40 s of GPU time" in warning.detail
    assert "80%" in warning.detail
    assert warning.data == {"unit": "gpu_seconds", "spent": 80.0, "limit": 100.0}
    assert codes(judged(replace(near, warnings=("budget_near",)))) == []
    assert codes(judged(replace(near, warnings=("budget_near",), budget=seconds(200)))) == ["Unwarn budget_near"]
    assert codes(judged(replace(near, budget=seconds(100, warn_at=0.9)))) == []


def test_a_spent_budget_pauses_and_tells_why() -> None:
    found = judged(purse(budget=Budget(money=10), spent=SpentRow(1, 10.02), warnings=("budget_near",)), per=PER_SECOND)
    assert codes(found) == ["Pause", "Warn budget_spent", "Unwarn budget_near"]
    pause = found.decisions[0]
    assert isinstance(pause, Pause)
    assert pause.by is PausedBy.BUDGET
    assert "10.02 of 10.00" in pause.detail
    assert "Raise the budget" in pause.detail
    assert found.room == {A: 0.0}


def test_what_a_budget_paused_is_not_paused_again_and_goes_on_when_it_is_raised() -> None:
    paused = purse(
        state=CampaignState.PAUSED,
        paused_by=PausedBy.BUDGET,
        budget=seconds(100),
        spent=SpentRow(100),
        warnings=("budget_spent",),
    )
    assert codes(judged(paused)) == []
    assert judged(replace(paused, budget=seconds(300))).decisions == (Resume(A), Unwarn(A, "budget_spent"))
    assert judged(replace(paused, budget=None)).decisions == (Resume(A), Unwarn(A, "budget_spent"))


def test_a_raised_budget_does_not_resume_while_the_teams_is_spent() -> None:
    paused = purse(state=CampaignState.PAUSED, paused_by=PausedBy.BUDGET, budget=seconds(300), spent=SpentRow(100))
    empty = TeamPurse(TEAM, seconds(1000), SpentRow(1000))
    (other,) = judged(paused, team=empty).decisions
    assert isinstance(other, Pause)
    assert other.by is PausedBy.TEAM_BUDGET, "people are told what to raise"
    assert codes(judged(replace(paused, paused_by=PausedBy.TEAM_BUDGET), team=empty)) == []
    assert codes(judged(paused, team=replace(empty, spent=SpentRow(10)))) == ["Resume"]


def test_what_a_user_paused_stays_paused() -> None:
    paused = purse(state=CampaignState.PAUSED, paused_by=PausedBy.USER, budget=seconds(300))
    assert codes(judged(paused)) == []


def test_a_teams_budget_pauses_all_its_campaigns_and_nobody_elses() -> None:
    other = purse(CampaignId(3), team=TeamId(8))
    found = judged(purse(A), purse(B), other, team=TeamPurse(TEAM, seconds(50), SpentRow(50)))
    assert [(d.campaign, d.by) for d in found.decisions if isinstance(d, Pause)] == [
        (A, PausedBy.TEAM_BUDGET),
        (B, PausedBy.TEAM_BUDGET),
    ]
    assert found.team_room == {TEAM: 0.0}


def test_a_new_month_lets_a_teams_campaigns_go_on() -> None:
    paused = purse(state=CampaignState.PAUSED, paused_by=PausedBy.TEAM_BUDGET, spent=SpentRow(50))
    found = judged(paused, team=TeamPurse(TEAM, seconds(50), SpentRow(0)))
    assert found.decisions == (Resume(A),)


def test_each_campaign_of_a_team_is_warned_of_the_teams_budget_once() -> None:
    near = TeamPurse(TEAM, seconds(100), SpentRow(85))
    found = judged(purse(A), purse(B, warnings=("team_budget_near",)), team=near)
    assert codes(found) == ["Warn team_budget_near"]
    assert found.decisions[0].campaign == A
    cleared = judged(purse(B, warnings=("team_budget_near",)), team=TeamPurse(TEAM, seconds(100), SpentRow(0)))
    assert codes(cleared) == ["Unwarn team_budget_near"]


def test_a_teams_room_counts_what_all_its_campaigns_have_under_way() -> None:
    found = judged(purse(A), purse(B), team=TeamPurse(TEAM, seconds(100), SpentRow(20)), under_way={A: 10.0, B: 30.0})
    assert found.team_room == {TEAM: 40.0}


@given(
    limit=st.floats(0.5, 500),
    warn_at=st.floats(0.1, 1),
    shards=st.lists(st.tuples(st.floats(0.1, 40), st.floats(0.2, 3)), min_size=1, max_size=60),
    renderers=st.integers(1, 4),
    in_money=st.booleans(),
)
def test_a_campaign_ends_or_is_paused_and_overspends_by_less_than_what_was_under_way(
    limit: float, warn_at: float, shards: list[tuple[float, float]], renderers: int, in_money: bool
) -> None:
    """Shards are (expected seconds, how wrong that is). Each round starts what the room allows, then one ends."""
    budget = Budget(
        warn_at=warn_at, **{"money" if in_money else "gpu_seconds": limit * (PER_SECOND if in_money else 1)}
    )
    waiting, under_way = list(shards), list[tuple[float, float]]()
    now = purse(budget=budget)
    for _ in range(4 * len(shards) + 4):
        found = judged(now, under_way={A: sum(s for s, _ in under_way)}, per=PER_SECOND)
        if any(isinstance(d, Pause) for d in found.decisions):
            now = replace(now, state=CampaignState.PAUSED, paused_by=PausedBy.BUDGET)
        assert not any(isinstance(d, Resume) for d in found.decisions), "nothing was raised"
        room = found.room[A]
        while waiting and now.state is CampaignState.ACTIVE and room > 0 and len(under_way) < renderers:
            under_way.append(waiting.pop())
            room -= under_way[-1][0]
        if not under_way:
            break
        expected, factor = under_way.pop(0)
        spent = now.spent + SpentRow(expected * factor, expected * factor * PER_SECOND)
        now = replace(now, spent=spent)
    assert not under_way
    assert not waiting or now.state is CampaignState.PAUSED, "it does not hang with a little room"
    most = sum(sorted((s * f for s, f in shards), reverse=True)[:renderers])
    assert now.spent.gpu_seconds <= limit + most
    if waiting:
        assert now.spent.gpu_seconds >= limit - min(limit * 0.001, 1.0) - 1e-6, "and not before it is spent"


@given(st.floats(0.01, 1e6), st.floats(0, 2e6), st.floats(0.01, 1), st.sampled_from(["budget_near", "budget_spent"]))
def test_a_warning_does_not_flap(limit: float, spent: float, warn_at: float, code: str) -> None:
    """Told and asked again with the same figures, nothing more is said."""
    now = purse(budget=seconds(limit, warn_at=warn_at), spent=SpentRow(spent), warnings=(code,))
    first = judged(now)
    told = {d.code for d in first.decisions if isinstance(d, Warn)}
    over = {d.code for d in first.decisions if isinstance(d, Unwarn)}
    paused = any(isinstance(d, Pause) for d in first.decisions)
    then = replace(
        now,
        warnings=tuple((set(now.warnings) | told) - over),
        state=CampaignState.PAUSED if paused else now.state,
        paused_by=PausedBy.BUDGET if paused else None,
    )
    assert judged(then).decisions == ()
