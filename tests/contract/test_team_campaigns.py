"""What `TeamTx` promises about proofs, queues, changes, money, and why something waits."""

from dataclasses import replace
from datetime import timedelta

import pytest

from farm.core.errors import NotFound
from farm.core.ids import CampaignId, RendererName, ShardId
from farm.core.plan import Release
from farm.core.records import Amend, QueuedCampaign, SpentRow
from schemas.campaign import Budget, CampaignState, PausedBy
from schemas.order import Lane
from schemas.quote import Quote, Range
from schemas.report import FailureKind
from tests.support.store_farm import NOW, OTHER, OURS, THEIRS, Farm, all_good, bad, good

S = CampaignState
HOUR = timedelta(hours=1)


def one_quote() -> Quote:
    about = Range(low=1, expected=2, high=3)
    return Quote(
        renders=10,
        reused=1,
        gpu_seconds=about,
        money=None,
        currency="EUR",
        wait_seconds=about,
        finish_at=None,
        measured=0.5,
        gpus={"H100": 1.0},
        notes=("A note.",),
    )


def test_a_campaign_keeps_all_that_was_said_when_it_was_submitted(farm: Farm) -> None:
    budget, quote = Budget(money=7.25, warn_at=0.5), one_quote()
    plain = farm.submit(1)
    campaign = farm.submit(
        2, budget=budget, quote=quote, deadline=NOW + HOUR, gpu="H100", off_peak=True, lane=Lane.INTERACTIVE, priority=3
    )
    with farm.api.as_team(OURS) as tx:
        row, other = tx.campaign(campaign), tx.campaign(plain)
    assert (row.budget, row.quote, row.deadline, row.gpu) == (budget, quote, NOW + HOUR, "H100")
    assert (row.off_peak, row.lane, row.priority, row.paused_by, row.warnings) == (True, Lane.INTERACTIVE, 3, None, ())
    assert (other.budget, other.quote, other.deadline, other.gpu, other.off_peak) == (None, None, None, None, False)
    assert row.position == pytest.approx(row.created_at.timestamp(), abs=1e-5)
    assert other.position < row.position


def test_held_renders_are_queued_unfinished_and_open(farm: Farm) -> None:
    campaign = farm.submit(renders=10, proof=1)
    with farm.api.as_team(OURS) as tx:
        assert tx.campaign(campaign).state is S.PROOFING
        assert tx.has_held(campaign)
        assert (tx.counts([campaign])[campaign].queued, tx.unfinished()) == (10, 10)
        assert [(part.lo, part.hi, part.state) for part in tx.open_ranges(campaign, lo=3, hi=8)] == [
            (3, 5, "ready"),
            (5, 8, "held"),
        ]
        assert tx.move(campaign, frm=[S.PROOFING, S.AWAITING_APPROVAL], to=S.ACTIVE)
        assert not tx.has_held(campaign)
    with farm.api.as_team(THEIRS) as tx:
        assert not tx.has_held(campaign)
        assert not tx.move(campaign, frm=list(S), to=S.CANCELLING)
    assert farm.waiting() == [1, 2]


def test_going_on_after_a_pause_approves_nothing(farm: Farm) -> None:
    campaign = farm.submit(renders=10, proof=1)
    with farm.api.as_team(OURS) as tx:
        assert tx.move(campaign, frm=[S.PROOFING], to=S.PAUSED, paused_by=PausedBy.USER)
        assert tx.campaign(campaign).paused_by is PausedBy.USER
        assert tx.move(campaign, frm=[S.PAUSED], to=S.PROOFING)
        assert tx.campaign(campaign).paused_by is None
        assert tx.has_held(campaign)
    assert farm.waiting() == [1]


def test_a_child_takes_the_place_of_a_parent_whose_proof_was_not_approved(farm: Farm) -> None:
    parent = farm.submit(1, renders=10, proof=1)
    farm.submit(2, parent=parent)
    assert farm.state(parent) is S.CANCELLING
    assert farm.counts(parent).cancelled == 10
    with farm.api.as_team(OURS) as tx:
        kinds = [(event.kind, event.campaign == parent) for event in tx.events(after=0, limit=9)]
    assert kinds == [("campaign.submitted", True), ("campaign.submitted", False), ("campaign.state", True)]
    active = farm.submit(3)
    farm.submit(4, parent=active)
    assert farm.state(active) is S.ACTIVE, "what was approved goes on"


def test_only_its_own_team_can_supersede_a_campaign(farm: Farm) -> None:
    parent = farm.submit(1, renders=10, proof=1)
    farm.submit(2, parent=parent, team=THEIRS)
    assert farm.state(parent) is S.PROOFING


def test_a_campaign_is_amended_until_it_has_ended(farm: Farm) -> None:
    campaign = farm.submit(renders=5)
    with farm.api.as_team(OURS) as tx:
        assert tx.amend(campaign, Amend())
        assert tx.amend(campaign, Amend(priority=90, budget=Budget(money=3)))
        assert tx.amend(campaign, Amend(deadline=NOW))
        row = tx.campaign(campaign)
        assert (row.priority, row.budget, row.deadline) == (90, Budget(money=3), NOW)
    with farm.api.as_team(THEIRS) as tx:
        assert not tx.amend(campaign, Amend(priority=1))
        assert not tx.reposition(campaign, 1.0)
    assert farm.queues()[0].priority == 90
    (shard,) = farm.take(farm.greet())
    assert shard.priority == 90
    farm.settle(shard, all_good(shard))
    with farm.api.as_team(OURS) as tx:
        assert not tx.amend(campaign, Amend(priority=1))
        assert not tx.reposition(campaign, 1.0)
    assert farm.events("campaign.changed") == [
        {"priority": 90, "budget": {"gpu_seconds": None, "money": 3.0, "warn_at": 0.8}},
        {"deadline": NOW.isoformat()},
    ]


def test_the_queue_of_a_team_is_by_lane_priority_and_position(farm: Farm) -> None:
    first, second = farm.submit(1), farm.submit(2)
    urgent = farm.submit(3, priority=80, off_peak=True)
    proof = farm.submit(4, renders=20, proof=2)
    paused, ended = farm.submit(5), farm.submit(6)
    farm.submit(7, team=THEIRS)
    farm.move(paused, S.ACTIVE, S.PAUSED)
    farm.move(ended, S.ACTIVE, S.CANCELLING)
    farm.take(
        farm.greet(), [shard for queue in farm.queues(1) if queue.campaign == proof for shard in [queue.heads[0].shard]]
    )
    with farm.api.as_team(OURS) as tx:
        assert tx.reposition(second, tx.campaign(first).position - 1)
        found = tx.queue()
        row = tx.campaign(proof)
    assert [queued.id for queued in found] == [proof, urgent, second, first, paused]
    assert found[0] == QueuedCampaign(
        proof, S.PROOFING, Lane.INTERACTIVE, 50, row.position, None, off_peak=False, renders=5, seconds=2.5, leased=1
    )
    assert (found[1].off_peak, found[1].lane) == (True, Lane.BULK)
    (changed,) = farm.events("campaign.changed")
    assert changed == {"position": found[2].position}


def test_known_pictures_are_counted_once_and_only_the_teams_own(farm: Farm) -> None:
    farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    farm.settle(shard, [good(shard, 0, fingerprint="a" * 64), good(shard, 1, fingerprint="b" * 64)])
    with farm.api.as_team(OURS) as tx:
        assert tx.known(["a" * 64, "b" * 64, "a" * 64, "c" * 64]) == 2
        assert tx.known([]) == 0
    with farm.api.as_team(THEIRS) as tx:
        assert tx.known(["a" * 64]) == 0


def test_a_team_sees_how_much_work_others_have_and_not_whose(farm: Farm) -> None:
    with farm.api.as_team(OURS) as tx:
        assert tx.standing() == [(1.0, 0.0, 0.0, 1)]
    farm.submit(1, renders=10)
    theirs = farm.submit(2, renders=20, team=THEIRS)
    farm.take(farm.greet(), [ShardId(3)])
    held = farm.submit(3, renders=10, proof=1)
    with farm.api.as_team(OURS) as tx:
        assert tx.standing() == [(1.0, 0.0, 7.5, 1), (1.0, 0.0, 10.0, 0)]
        assert tx.move(held, frm=[S.PROOFING], to=S.PAUSED)
        assert tx.standing()[0] == (1.0, 0.0, 5.0, 1), "what is paused does not wait"
    with farm.api.as_team(THEIRS) as tx:
        assert tx.standing() == [(1.0, 0.0, 10.0, 1), (1.0, 0.0, 5.0, 0)]
        assert tx.move(theirs, frm=[S.ACTIVE], to=S.CANCELLING)
        assert tx.standing()[0] == (1.0, 0.0, 2.5, 1), "its lease is still there"


def test_why_facts_hold_all_that_a_sentence_may_need(farm: Farm) -> None:
    campaign = farm.submit(1, renders=15)
    other = farm.submit(2, renders=5)
    farm.submit(3, team=THEIRS)
    one, two = farm.greet(), farm.greet(OTHER)
    (first,) = farm.take(one, [ShardId(1)])
    farm.take(two, [ShardId(2)])
    farm.take(farm.greet(RendererName("farm/a/1/2")), [ShardId(4)])
    farm.settle(first, [good(first, 0), bad(1, FailureKind.ENGINE)])
    with farm.api.as_team(OURS) as tx:
        why = tx.why_facts(campaign, {"0" * 64: "tiny", "1" * 64: "glow"})
        row = tx.campaign(campaign)
    assert (why.campaign, why.team.name, why.spent, why.team_spent) == (row, "ours", SpentRow(4.0, 4.0), why.spent)
    assert [queued.id for queued in why.queue] == [campaign, other]
    assert (why.counts.succeeded, why.counts.running, why.backing_off) == (1, 8, 1)
    assert why.next_ready_at is not None
    assert (why.renderers_used, why.campaign_renderers, why.others_waiting) == (3, 2, 1)
    assert why.missing == ("glow", "tiny")
    assert why.farm.leading
    farm.later()
    farm.end(Release)
    with farm.api.as_team(OURS) as tx:
        why = tx.why_facts(campaign, {})
    assert (why.backing_off, why.next_ready_at, why.renderers_used, why.missing) == (0, None, 0, ())
    with farm.api.as_team(THEIRS) as tx, pytest.raises(NotFound):
        tx.why_facts(campaign, {})


def test_what_others_spend_is_not_shown(farm: Farm) -> None:
    campaign = farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    farm.settle(shard, all_good(shard))
    with farm.api.as_team(THEIRS) as tx:
        assert tx.spent([campaign]) == {}
        assert tx.team_spent() == SpentRow()
        assert tx.costs() == []
    with farm.api.as_team(OURS) as tx:
        assert tx.spent([campaign, CampaignId(1)]) == {campaign: SpentRow(20.0, 20.0)}
        assert replace(tx.team(), max_renders=0).budget is None
