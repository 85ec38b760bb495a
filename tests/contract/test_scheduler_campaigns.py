"""What `SchedulerTx` promises about proofs, queues, shares, charges and budgets."""

import time
from datetime import timedelta

from farm.core.budget import Purse, TeamPurse
from farm.core.fairshare import Rejoin, Rest, TeamShare
from farm.core.ids import TeamId
from farm.core.placement import Backlog
from farm.core.plan import Reclaim, Release
from farm.core.records import FarmView, SpentRow
from schemas.campaign import Budget, CampaignState, PausedBy
from schemas.order import Lane
from schemas.report import FailureKind
from tests.support.store_farm import OTHER, OURS, RENDERER, THEIRS, Farm, all_good, bad, good

S = CampaignState


# queues


def test_each_engine_key_of_each_open_campaign_is_a_queue(farm: Farm) -> None:
    first = farm.submit(1, engine_key="a", priority=70, gpu="H100", off_peak=True, lane=Lane.INTERACTIVE)
    second = farm.submit(2, engine_key="b")
    paused = farm.submit(3)
    farm.move(paused, S.ACTIVE, S.PAUSED)
    one, two = farm.queues(1)
    assert (one.campaign, one.engine_key, one.checkpoint, len(one.heads)) == (first, "a", "0" * 64, 1)
    assert (one.priority, one.gpu, one.off_peak, one.lane) == (70, "H100", True, Lane.INTERACTIVE)
    assert (two.campaign, two.engine_key, two.gpu, two.off_peak, two.lane) == (second, "b", None, False, Lane.BULK)
    assert one.position < two.position
    assert one.heads[0].seconds == 2.5


def test_a_queue_is_in_the_order_of_ordinals_and_what_comes_back_keeps_its_place(farm: Farm) -> None:
    farm.submit(renders=20)
    first, *_ = farm.take(farm.greet())
    farm.end(Release)
    (shard,) = farm.take(farm.greet(), [first.id])
    farm.settle(shard, [good(shard, 1), bad(2, FailureKind.ENGINE)])
    farm.end(Release)
    assert [head.shard for head in farm.queues()[0].heads] == [1, 2, 3, 4]
    farm.later()
    (queue,) = farm.queues()
    assert [head.shard for head in queue.heads] == [1, 5, 2, 3, 4]
    assert [head.avoid for head in queue.heads] == [(), (RENDERER,), (), (), ()]


# proofs


def test_a_proof_goes_ahead_and_then_awaits_approval(farm: Farm) -> None:
    campaign = farm.submit(renders=20, proof=1)
    (queue,) = farm.queues()
    assert ([head.shard for head in queue.heads], queue.lane) == ([1], Lane.INTERACTIVE)
    assert farm.counts(campaign).queued == 20
    (shard,) = farm.take(farm.greet())
    assert (shard.lane, shard.state) == (Lane.INTERACTIVE, "leased")
    assert [held.lane for held in farm.held()] == [Lane.INTERACTIVE]
    farm.settle(shard, all_good(shard))
    assert farm.state(campaign) is S.AWAITING_APPROVAL
    with farm.leading() as tx:
        assert tx.finish_campaigns() == 0
        assert [purse.state for purse in tx.purses()[0]] == [S.AWAITING_APPROVAL]
    assert (farm.queues(), farm.counts(campaign).queued) == ([], 15)
    farm.move(campaign, S.AWAITING_APPROVAL, S.ACTIVE)
    (queue,) = farm.queues()
    assert ([head.shard for head in queue.heads], queue.lane) == ([2, 3, 4], Lane.BULK)
    assert all(head.waited < 60 for head in queue.heads), "they wait from their approval on"
    for shard in farm.take(farm.greet()):
        farm.settle(shard, all_good(shard))
    assert farm.state(campaign) is S.DONE
    assert [event["state"] for event in farm.events("campaign.state")] == ["awaiting_approval", "active", "done"]


def test_a_proof_that_is_approved_while_it_is_rendered_does_not_await_approval(farm: Farm) -> None:
    campaign = farm.submit(renders=10, proof=1)
    (shard,) = farm.take(farm.greet())
    farm.move(campaign, S.PROOFING, S.ACTIVE)
    farm.settle(shard, all_good(shard))
    assert farm.state(campaign) is S.ACTIVE
    assert farm.waiting() == [2]


def test_a_proof_of_everything_is_done_when_it_is_through(farm: Farm) -> None:
    campaign = farm.submit(renders=10, proof=2)
    for shard in farm.take(farm.greet()):
        farm.settle(shard, all_good(shard))
    assert farm.state(campaign) is S.DONE


def test_a_proof_that_was_paused_awaits_approval_once_it_goes_on(farm: Farm) -> None:
    campaign = farm.submit(renders=10, proof=1)
    (shard,) = farm.take(farm.greet())
    with farm.leading() as tx:
        assert tx.pause(campaign, PausedBy.BUDGET, "The budget is spent.")
    farm.settle(shard, all_good(shard))
    assert farm.state(campaign) is S.PAUSED
    with farm.leading() as tx:
        assert tx.finish_campaigns() == 0
        assert tx.resume(campaign)
    assert farm.state(campaign) is S.PROOFING
    with farm.leading() as tx:
        assert tx.finish_campaigns() == 1
    assert farm.state(campaign) is S.AWAITING_APPROVAL


def test_a_cancelled_proof_cancels_what_was_held(farm: Farm) -> None:
    campaign = farm.submit(renders=20, proof=1)
    farm.take(farm.greet())
    farm.move(campaign, S.PROOFING, S.CANCELLING)
    assert farm.counts(campaign).cancelled == 15
    farm.end(Reclaim)
    with farm.leading() as tx:
        assert tx.finish_campaigns() == 1
    assert farm.state(campaign) is S.CANCELLED
    assert farm.counts(campaign).cancelled == 20


# leases that are lost


def test_a_lost_lease_backs_off_avoids_its_renderer_and_is_on_record(farm: Farm) -> None:
    farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    with farm.leading() as tx:
        tx.put_back(shard, lost=1, delay=timedelta(hours=1), avoid=RENDERER)
        tx.put_back(shard, lost=7, delay=timedelta(0), avoid=OTHER)  # it is over
    assert farm.waiting() == []
    with farm.leading() as tx:
        (again,) = tx.lock([shard.id]).values()
        (accused,) = tx.accusations(timedelta(hours=1))
    assert (again.state, again.lost, again.avoid, again.tries) == ("ready", 1, (RENDERER,), 0)
    assert (accused.name, accused.failed, accused.last_code) == (RENDERER, 1, "renderer_died")
    farm.later()
    (shard,) = farm.take(farm.greet())
    with farm.leading() as tx:
        tx.put_back(shard, lost=2, delay=timedelta(0), avoid=RENDERER)
    with farm.leading() as tx:
        assert tx.lock([shard.id])[shard.id].avoid == (RENDERER,), "once is enough"


# charges


def test_every_try_is_charged_to_campaign_team_and_virtual_time(farm: Farm) -> None:
    campaign, other = farm.submit(renders=5), farm.submit(2, renders=5, team=THEIRS)
    shard, theirs = farm.take(farm.greet())
    farm.settle(shard, [good(shard, 0), good(shard, 1), bad(2, FailureKind.ENGINE)])
    farm.settle(shard, [good(shard, 0)])  # settled before: not charged again
    farm.settle(theirs, [good(theirs, 0)])
    # A second of a GPU costs one; a good render takes four.
    with farm.api.as_team(OURS) as tx:
        assert tx.spent([campaign, other]) == {campaign: SpentRow(8.0, 8.0)}
        assert tx.team_spent() == SpentRow(8.0, 8.0)
    farm.settle(shard, [good(shard, 3)])
    with farm.api.as_team(OURS) as tx:
        assert tx.team_spent() == SpentRow(12.0, 12.0)
    with farm.leading() as scheduler:
        found = {share.team: (share.vtime, share.weight) for share in scheduler.teams()}
        purses, _ = scheduler.purses()
    assert found == {OURS: (12.0, 1.0), THEIRS: (4.0, 1.0)}
    assert {purse.campaign: purse.spent for purse in purses} == {
        campaign: SpentRow(12.0, 12.0),
        other: SpentRow(4.0, 4.0),
    }


# shares


def test_teams_that_wait_have_leases_or_are_marked_are_shown(farm: Farm) -> None:
    def shown() -> list[TeamShare]:
        with farm.leading() as tx:
            return tx.teams()

    assert shown() == []
    campaign = farm.submit(renders=5)
    idle = TeamShare(OURS, 1.0, 0.0, backlogged=False)
    assert shown() == [idle]
    farm.move(campaign, S.ACTIVE, S.PAUSED)
    assert shown() == []
    farm.move(campaign, S.PAUSED, S.ACTIVE)
    farm.take(farm.greet())
    farm.move(campaign, S.ACTIVE, S.PAUSED)
    assert shown() == [idle], "it has a lease"
    farm.end(Release)
    with farm.leading() as tx:
        tx.turn([Rejoin(OURS, 5.0), Rejoin(THEIRS, 3.0), Rejoin(TeamId(99), 1.0)])
    assert [(share.team, share.vtime, share.backlogged) for share in shown()] == [
        (OURS, 5.0, True),
        (THEIRS, 3.0, True),
    ]
    with farm.leading() as tx:
        tx.turn([Rejoin(OURS, 1.0), Rest(THEIRS)])
    assert [(share.team, share.vtime, share.backlogged) for share in shown()] == [(OURS, 1.0, True)]


# budgets


def test_a_purse_shows_what_its_campaign_may_spend(farm: Farm) -> None:
    budget = Budget(money=9.5)
    campaign = farm.submit(renders=10, proof=1, budget=budget, deadline=None, off_peak=True)
    farm.submit(2, team=THEIRS)
    with farm.leading() as tx:
        (purse, _), teams = tx.purses()
    with farm.api.as_team(OURS) as team:
        row = team.campaign(campaign)
    assert purse == Purse(
        campaign, OURS, S.PROOFING, None, Lane.INTERACTIVE, 50, row.position, SpentRow(), budget, None, True, ()
    )
    assert teams == [], "no team has a budget"


def test_a_purse_says_what_type_of_gpu_its_campaign_asks_for(farm: Farm) -> None:
    farm.submit(gpu="L4")
    with farm.leading() as tx:
        assert [purse.gpu for purse in tx.purses()[0]] == ["L4"]


def test_what_awaits_approval_has_a_purse_and_its_held_work_is_counted(farm: Farm) -> None:
    farm.limit(OURS, budget=Budget(gpu_seconds=100))
    campaign = farm.submit(renders=10, proof=1, step=0.25)
    held = {(campaign, "engine"): Backlog(shards=1, renders=5, seconds=2.5, step_seconds=0.25)}
    (proof,) = farm.take(farm.greet())
    with farm.leading() as tx:
        assert (tx.backlog(), tx.held_back()) == ({}, held)
    farm.settle(proof, all_good(proof))
    with farm.leading() as tx:
        (purse,), (team,) = tx.purses()
        assert tx.held_back() == held
    assert (purse.state, purse.lane, team.team) == (S.AWAITING_APPROVAL, Lane.BULK, OURS)
    farm.move(campaign, S.AWAITING_APPROVAL, S.ACTIVE)
    with farm.leading() as tx:
        assert (tx.backlog(), tx.held_back()) == (held, {})


def test_the_purse_of_a_team_holds_what_it_has_spent_this_month(farm: Farm) -> None:
    for team in (OURS, THEIRS):
        farm.limit(team, budget=Budget(gpu_seconds=100))
    campaign = farm.submit(renders=10)
    first, second = farm.take(farm.greet())
    farm.settle(first, all_good(first))
    with farm.leading() as tx:
        _, teams = tx.purses()
    assert teams == [TeamPurse(OURS, Budget(gpu_seconds=100), SpentRow(20.0, 20.0))], "the other team has nothing open"
    farm.settle(second, all_good(second))
    assert farm.state(campaign) is S.DONE
    with farm.leading() as tx:
        assert tx.purses() == ([], [])


def test_a_budget_pauses_and_only_a_budget_resumes(farm: Farm) -> None:
    campaign = farm.submit()
    with farm.leading() as tx:
        assert tx.pause(campaign, PausedBy.TEAM_BUDGET, "All is spent.")
        assert not tx.pause(campaign, PausedBy.TEAM_BUDGET, "Again.")
        assert tx.pause(campaign, PausedBy.BUDGET, "Its own, too.")
    with farm.leading() as tx:
        (purse,) = tx.purses()[0]
        assert (purse.state, purse.paused_by) == (S.PAUSED, PausedBy.BUDGET)
        assert tx.resume(campaign)
        assert not tx.resume(campaign)
    farm.move(campaign, S.ACTIVE, S.PAUSED)
    with farm.leading() as tx:
        assert tx.purses() == ([], []), "a user did that"
        assert not tx.resume(campaign)
    with farm.api.as_team(OURS) as team:
        assert team.campaign(campaign).paused_by is PausedBy.USER
    farm.move(campaign, S.PAUSED, S.ACTIVE)
    with farm.api.as_team(OURS) as team:
        assert team.campaign(campaign).paused_by is None
    assert farm.events("campaign.state") == [
        {"state": "paused", "paused_by": "team_budget", "detail": "All is spent."},
        {"state": "paused", "paused_by": "budget", "detail": "Its own, too."},
        {"state": "active"},
        {"state": "paused"},
        {"state": "active"},
    ]


def test_who_is_through_while_paused_is_not_paused_by_anybody_any_more(farm: Farm) -> None:
    campaign = farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    with farm.leading() as tx:
        assert tx.pause(campaign, PausedBy.BUDGET, "All is spent.")
    farm.settle(shard, all_good(shard))
    with farm.api.as_team(OURS) as team:
        row = team.campaign(campaign)
    assert (row.state, row.paused_by) == (S.DONE, None)


def test_people_are_warned_once_until_it_no_longer_holds(farm: Farm) -> None:
    campaign = farm.submit()
    for _ in range(2):
        with farm.leading() as tx:
            tx.warn(campaign, "budget_near", "Nearly spent.", {"left": 1.5})
            tx.warn(campaign, "deadline_at_risk", "Late.", {})
            tx.warn(campaign, "budget_near", "Nearly spent.", {})
    with farm.leading() as tx:
        assert tx.purses()[0][0].warnings == ("budget_near", "deadline_at_risk")
        tx.unwarn(campaign, "budget_near")
        tx.unwarn(campaign, "never")
    assert farm.events("campaign.warning") == [
        {"left": 1.5, "code": "budget_near", "detail": "Nearly spent."},
        {"code": "deadline_at_risk", "detail": "Late."},
    ]
    with farm.api.as_team(OURS) as team:
        assert team.campaign(campaign).warnings == ("deadline_at_risk",)
    for shard in farm.take(farm.greet()):
        farm.settle(shard, all_good(shard))
    with farm.leading() as tx:
        tx.warn(campaign, "late", "Too late.", {})
    assert len(farm.events("campaign.warning")) == 2, "it is over"


def test_what_was_warned_of_last_is_told_while_it_stands(farm: Farm) -> None:
    campaign, other = farm.submit(1), farm.submit(2)

    def told() -> dict[str, str]:
        with farm.api.as_team(OURS) as team:
            return team.warnings(campaign)

    assert told() == {}
    with farm.leading() as tx:
        tx.warn(other, "budget_near", "Another one's.", {})
        tx.warn(campaign, "deadline_at_risk", "An hour late.", {})
        tx.warn(campaign, "budget_near", "Nearly spent.", {})
    assert list(told().items()) == [("deadline_at_risk", "An hour late."), ("budget_near", "Nearly spent.")]
    with farm.leading() as tx:
        tx.unwarn(campaign, "deadline_at_risk")
    assert told() == {"budget_near": "Nearly spent."}
    with farm.leading() as tx:
        tx.warn(campaign, "deadline_at_risk", "Two hours late.", {})
    assert list(told().items()) == [("budget_near", "Nearly spent."), ("deadline_at_risk", "Two hours late.")]
    with farm.api.as_team(THEIRS) as team:
        assert team.warnings(campaign) == {}
    farm.later()
    with farm.leading() as tx:
        tx.sweep(events=timedelta(minutes=1), attempts=timedelta(days=1), sessions=timedelta(days=1), limit=100)
    assert told() == {}, "nobody remembers what was said"


# what the API is shown


def test_the_api_sees_the_farm_as_the_leader_saw_it_last(farm: Farm) -> None:
    with farm.api.as_team(OURS) as team:
        before = team.farm_view()
    assert (before.at.year, before.leading, before.renderers) == (1970, True, ())
    with farm.leading() as tx:
        view = FarmView(
            tx.now(), False, depot_up=False, off_peak=False, renderers=(("H100", "busy", 3),), wanted=4, most=9,
            gpus=("H100",),
        )  # fmt: skip
        tx.show_farm(view)
    with farm.api.as_team(THEIRS) as team:
        after = team.farm_view()
    assert (after.depot_up, after.off_peak, after.renderers, after.wanted, after.most, after.gpus, after.leading) == (
        False,
        False,
        (("H100", "busy", 3),),
        4,
        9,
        ("H100",),
        True,
    )
    assert after.at >= view.at
    farm.store.resign(farm.leadership)
    with farm.api.as_team(OURS) as team:
        assert not team.farm_view().leading


def test_renders_of_one_report_that_fail_and_succeed_cost_what_they_took(farm: Farm) -> None:
    farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    tally = farm.settle(shard, [good(shard, 0), bad(1, FailureKind.BAD_SOURCE)])
    assert (tally.gpu_seconds, tally.money) == (4.0, 4.0)


def test_teams_have_names_and_those_that_are_not_there_have_none(farm: Farm) -> None:
    with farm.leading() as tx:
        assert tx.team_names([THEIRS, OURS, TeamId(99)]) == {OURS: "ours", THEIRS: "theirs"}
        assert tx.team_names([]) == {}


def test_campaigns_under_way_are_counted_by_state_and_those_that_ended_are_not(farm: Farm) -> None:
    with farm.leading() as tx:
        assert tx.campaign_states() == {}
    farm.submit(1)
    farm.submit(2, team=THEIRS)
    farm.submit(3, proof=1)
    paused, gone = farm.submit(4), farm.submit(5)
    farm.move(paused, CampaignState.ACTIVE, CampaignState.PAUSED)
    farm.move(gone, CampaignState.ACTIVE, CampaignState.CANCELLING)
    with farm.leading() as tx:
        counted = {CampaignState.ACTIVE: 2, CampaignState.PROOFING: 1, CampaignState.PAUSED: 1}
        assert tx.campaign_states() == counted, "one that is being cancelled is not under way"
        tx.finish_campaigns()
    with farm.leading() as tx:
        assert tx.campaign_states() == counted


def test_a_database_has_a_size(farm: Farm) -> None:
    farm.submit()
    with farm.leading() as tx:
        assert tx.database_bytes() > 1024


def heard(farm: Farm) -> bool:
    """PostgreSQL passes a notice on after the commit, in its own time."""
    deadline = time.monotonic() + 10
    while not (came := farm.store.work_came()) and time.monotonic() < deadline:
        pass
    return came


def test_the_scheduler_hears_when_people_send_or_change_work_and_not_of_its_own_doing(farm: Farm) -> None:
    farm.store.work_came()  # it listens from its first look on
    campaign = farm.submit()
    assert heard(farm)
    farm.move(campaign, CampaignState.ACTIVE, CampaignState.PAUSED)
    assert heard(farm)
    farm.move(campaign, CampaignState.PAUSED, CampaignState.ACTIVE)
    assert heard(farm)
    (shard, *_) = farm.take(farm.greet())
    farm.settle(shard, all_good(shard))
    farm.counts(campaign)
    assert not farm.store.work_came()
