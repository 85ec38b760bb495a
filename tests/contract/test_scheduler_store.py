"""What `SchedulerStore` and `SchedulerTx` promise: leading, leasing, settling, losing."""

import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from farm.core.errors import LeadershipLost
from farm.core.ids import CampaignId, RendererName, Session, ShardId, mint
from farm.core.placement import Backlog, Placed
from farm.core.plan import Reclaim, Release
from farm.core.records import Heartbeat
from farm.core.settle import ShardRow, reuse
from farm.core.shard import ordinals_of
from farm.usecases.reclaim_shards import reclaim_shards
from farm.usecases.settle_reports import From, settle_reports
from schemas.campaign import CampaignState
from schemas.report import FailureKind, RenderReport
from tests.support.store_farm import (
    MEASURED,
    NOW,
    OURS,
    OVER,
    PRICES,
    RENDERER,
    RENDITIONS,
    THEIRS,
    TTL,
    Farm,
    all_good,
    back,
    bad,
    good,
    resolved_in,
)

# leading


def test_one_leads_until_its_time_is_over_and_every_leader_has_a_higher_epoch(farm: Farm) -> None:
    assert farm.leadership.epoch == 1
    assert farm.store.elect("second", TTL) is None
    assert farm.store.renew(farm.leadership, OVER)
    second = farm.store.elect("second", TTL)
    assert second is not None
    assert second.epoch == 2
    assert not farm.store.renew(farm.leadership, TTL)
    assert farm.store.renew(second, TTL)
    farm.store.resign(farm.leadership)  # of a former leader: nothing happens
    assert farm.store.elect("third", TTL) is None
    farm.store.resign(second)
    third = farm.store.elect("third", TTL)
    assert third is not None
    assert third.epoch == 3


def test_a_leadership_that_ran_out_cannot_be_renewed(farm: Farm) -> None:
    assert farm.store.renew(farm.leadership, OVER)
    assert not farm.store.renew(farm.leadership, TTL)


def test_a_transaction_of_an_old_epoch_is_refused_before_it_begins(farm: Farm) -> None:
    farm.store.resign(farm.leadership)
    with farm.store.as_scheduler(farm.leadership) as tx:  # nobody else has begun yet
        tx.now()
    assert farm.store.elect("second", TTL) is not None
    with pytest.raises(LeadershipLost), farm.store.as_scheduler(farm.leadership):
        pytest.fail("an old leader was let in")


def test_a_takeover_waits_for_the_transaction_of_the_old_leader(farm: Farm) -> None:
    """Else a write of the old leader could follow the first look of the new one."""
    farm.store.renew(farm.leadership, OVER)
    with ThreadPoolExecutor(1) as pool:
        with farm.leading() as tx:
            election = pool.submit(farm.store.elect, "second", TTL)
            with pytest.raises(TimeoutError):
                election.result(0.3)
            tx.now()
        assert election.result(20) is not None


def test_a_lead_that_had_to_be_waited_for_lasts_as_long_as_any(farm: Farm) -> None:
    """An old leader may stop in the middle of a transaction, and stay so for longer than a lead lasts."""
    brief = timedelta(seconds=1)
    farm.store.renew(farm.leadership, OVER)
    with ThreadPoolExecutor(1) as pool:
        with farm.leading() as tx:
            election = pool.submit(farm.store.elect, "second", brief)
            with pytest.raises(TimeoutError):
                election.result(1.2 * brief.total_seconds())
            tx.now()
        second = election.result(20)
    assert second is not None
    assert farm.store.renew(second, TTL)


def test_only_one_of_many_who_stand_is_elected(farm: Farm) -> None:
    farm.store.resign(farm.leadership)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: farm.store.elect(f"holder {n}", TTL), range(4)))
    assert [leadership.epoch for leadership in found if leadership is not None] == [2]


# leasing


def test_a_shard_is_leased_once_under_a_fence_of_its_own(farm: Farm) -> None:
    campaign, session = farm.submit(renders=20), farm.greet()
    shards = farm.waiting()
    taken = farm.take(session)
    assert [shard.id for shard in taken] == shards
    assert [shard.todo for shard in taken] == [((0, 5),), ((5, 10),), ((10, 15),), ((15, 20),)]
    assert len({shard.fence for shard in taken}) == 4
    assert {shard.state for shard in taken} == {"leased"}
    assert farm.take(session, shards) == []
    assert farm.waiting() == []
    assert [(held.shard, held.session, held.expired, held.ended, held.cancelled) for held in farm.held()] == [
        (shard, session, False, False, False) for shard in shards
    ]
    assert farm.counts(campaign).running == 20


def test_two_who_take_the_same_shards_share_them(farm: Farm) -> None:
    farm.submit(renders=40, width=1)
    sessions = [farm.greet(RendererName(f"farm/a/1/{n}")) for n in range(2)]
    shards = farm.waiting()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda session: farm.take(session, shards), sessions)
    assert sorted([shard.id for shard in (*first, *second)]) == shards


def test_a_paused_campaign_is_neither_shown_nor_leased(farm: Farm) -> None:
    campaign, session = farm.submit(), farm.greet()
    shards = farm.waiting()
    farm.move(campaign, CampaignState.ACTIVE, CampaignState.PAUSED)
    assert farm.waiting() == []
    assert farm.take(session, shards) == []
    farm.move(campaign, CampaignState.PAUSED, CampaignState.ACTIVE)
    assert len(farm.take(session, shards)) == 2


def test_nothing_is_leased_to_a_session_that_is_unknown_over_or_unheard_of(farm: Farm) -> None:
    farm.submit()
    ended = farm.greet()
    with farm.leading() as tx:
        tx.end_sessions([ended])
    silent = farm.greet(RendererName("farm/a/1/1"), ttl=OVER)
    for session in (ended, silent, Session(str(uuid.uuid4()))):
        assert farm.take(session) == []


def test_only_the_heads_of_each_queue_are_shown_and_all_are_counted(farm: Farm) -> None:
    farm.submit(1, renders=20, width=1)
    farm.submit(2, renders=20, width=1, team=THEIRS)
    found = farm.queues(3)
    assert [(queue.team, [head.shard for head in queue.heads]) for queue in found] == [
        (OURS, [1, 2, 3]),
        (THEIRS, [21, 22, 23]),
    ]
    assert {head.seconds for queue in found for head in queue.heads} == {0.5}
    assert all(head.waited >= 0 for queue in found for head in queue.heads)
    with farm.leading() as tx:
        assert tx.backlog() == {
            (queue.campaign, "engine"): Backlog(shards=20, renders=20, seconds=10.0) for queue in found
        }


def test_the_backlog_is_in_shards_renders_and_gpu_seconds_and_what_is_leased_is_no_part_of_it(farm: Farm) -> None:
    campaign = farm.submit(renders=20)
    farm.take(farm.greet(), farm.waiting()[:1])
    with farm.leading() as tx:
        assert tx.backlog() == {(campaign, "engine"): Backlog(shards=3, renders=15, seconds=7.5)}
    assert [(held.renders, held.gpu_seconds, held.team, held.campaign) for held in farm.held()] == [
        (5, 2.5, OURS, campaign)
    ]


def test_what_a_step_was_taken_to_cost_stays_with_the_shard_and_its_children(farm: Farm) -> None:
    campaign = farm.submit(renders=10, step=0.25)
    (shard, _) = farm.take(farm.greet(), farm.waiting())
    assert [held.step_seconds for held in farm.held()] == [0.25, 0.25]
    farm.settle(shard, [back(0), good(shard, 1)])
    with farm.leading() as tx:
        assert tx.backlog() == {(campaign, "engine"): Backlog(shards=1, renders=1, seconds=0.5, step_seconds=0.25)}
        assert [queue.step_seconds for queue in tx.queues(9)] == [0.25]


def test_of_a_campaign_with_very_many_weights_64_queues_are_looked_at_and_the_others_follow(farm: Farm) -> None:
    farm.submit(1, renders=67, width=1, keys=67)
    farm.submit(2, renders=3, width=1, keys=3, team=THEIRS)
    found = [(queue.team, queue.engine_key) for queue in farm.queues(2)]
    firsts = [(OURS, f"engine {n:03}") for n in range(64)]
    assert found == [*firsts, *((THEIRS, f"engine {n:03}") for n in range(3))]
    with farm.leading() as tx:
        assert len(tx.backlog()) == 70, "all are counted"
    session, taken = farm.greet(), [head.shard for queue in farm.queues(2)[:2] for head in queue.heads]
    farm.take(session, taken)
    assert [queue.engine_key for queue in farm.queues(2) if queue.team == OURS][-1] == "engine 065"


# renderer sessions


def test_a_new_session_ends_the_former_ones_of_its_name(farm: Farm) -> None:
    farm.submit()
    former, other = farm.greet(), farm.greet(RendererName("farm/a/1/1"))
    first, second = farm.waiting()
    farm.take(former, [first])
    farm.take(other, [second])
    newer = farm.greet()
    assert {held.session: held.ended for held in farm.held()} == {former: True, other: False}
    assert farm.take(newer, []) == []


def test_a_lease_expires_with_its_session_and_one_heartbeat_renews_all(farm: Farm) -> None:
    farm.submit()
    session = farm.greet()
    farm.take(session)
    farm.greet(session=session, ttl=OVER)
    assert [held.expired for held in farm.held()] == [True, True]
    beat = Heartbeat(session=session, state="busy", doing="render", waiting=3, checkpoint="c")
    with farm.leading() as tx:
        tx.heartbeat([beat], TTL)
    assert [held.expired for held in farm.held()] == [False, False]
    with farm.api.as_team(OURS) as team:
        (row,) = team.renderers()
    assert (row.state, row.doing, row.waiting, row.shards) == ("busy", "render", 3, 2)


def test_a_session_that_was_given_up_too_early_lives_again_once_it_speaks(farm: Farm) -> None:
    farm.submit()
    session = farm.greet()
    with farm.leading() as tx:
        tx.end_sessions([session])
    assert farm.take(session) == []
    farm.greet(session=session)
    assert len(farm.take(session)) == 2


# settling


def test_a_settled_shard_leaves_outcomes_counts_and_a_finished_campaign(farm: Farm) -> None:
    campaign = farm.submit()
    first, second = farm.take(farm.greet())
    tally = farm.settle(first, all_good(first))
    assert (tally.succeeded, tally.failed, tally.unwanted) == (5, 0, [])
    assert farm.state(campaign) == CampaignState.ACTIVE
    farm.settle(second, [*all_good(second)[:4], bad(9, FailureKind.BAD_SOURCE)])
    assert farm.state(campaign) == CampaignState.DONE
    counts = farm.counts(campaign)
    assert (counts.succeeded, counts.failed, counts.queued, counts.running) == (9, 1, 0, 0)
    with farm.api.as_team(OURS) as tx:
        outcomes = tx.outcomes(campaign, 0, 10)
        assert tx.campaign(campaign).finished_at is not None
    assert [(row.ordinal, row.outcome) for row in outcomes] == [(n, "succeeded") for n in range(9)] + [(9, "failed")]
    assert (outcomes[0].sha256, outcomes[0].bytes, outcomes[0].reused) == ("a" * 64, 9, False)
    assert (outcomes[9].code, outcomes[9].detail, outcomes[9].key) == ("it_broke", "It broke.", None)
    assert farm.events("renders.settled") == [
        {"succeeded": [[0, 5]], "failed": []},
        {"succeeded": [[5, 9]], "failed": [[9, 10]]},
    ]
    assert farm.events("campaign.state") == [{"state": "done"}]


def test_what_was_measured_and_made_of_a_picture_is_read_back_as_it_was_reported(farm: Farm) -> None:
    campaign, session = farm.submit(1, renders=5), farm.greet()
    (shard,) = farm.take(session)
    same, other = good(shard, 0, fingerprint="f" * 64), good(shard, 1)
    assert same.picture is not None
    made = same.picture.model_copy(update={"renditions": RENDITIONS, "measured": MEASURED})
    farm.settle(shard, [same.model_copy(update={"picture": made, "numerics": "H100 batch=2"}), other])
    with farm.api.as_team(OURS) as tx:
        first, second = tx.outcomes(campaign, 0, 2)
        assert tx.outcomes_after(campaign, outcome="succeeded", after=-1, limit=2) == [first, second]
    assert (first.renditions, first.measured, first.numerics) == (RENDITIONS, MEASURED, "H100 batch=2")
    assert (second.renditions, second.measured, second.numerics) == ((), None, "H100 torch")


def test_a_picture_that_is_taken_over_brings_its_renditions_and_measures(farm: Farm) -> None:
    first, session = farm.submit(1, renders=1, width=1), farm.greet()
    (shard,) = farm.take(session)
    row = good(shard, 0, fingerprint="f" * 64)
    assert row.picture is not None
    made = row.picture.model_copy(update={"renditions": RENDITIONS, "measured": MEASURED})
    farm.settle(shard, [row.model_copy(update={"picture": made})])
    second = farm.submit(2, renders=1, width=1)
    (again,) = farm.take(session)
    with farm.leading() as tx:
        tx.write([reuse(tx.lock([again.id])[again.id], [(0, "f" * 64, tx.pictures(OURS, ["f" * 64])["f" * 64])])])
    with farm.api.as_team(OURS) as team:
        (before,), (after,) = team.outcomes(first, 0, 1), team.outcomes(second, 0, 1)
    assert after.reused
    assert (after.key, after.renditions, after.measured) == (before.key, RENDITIONS, MEASURED)


def test_a_report_that_comes_twice_changes_nothing(farm: Farm) -> None:
    campaign = farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    rows = [*all_good(shard)[:3], bad(3, FailureKind.ENGINE), back(4)]
    farm.settle(shard, rows)
    before = (farm.counts(campaign), farm.events("renders.settled"), len(farm.waiting()))
    tally = farm.settle(shard, rows)
    assert (tally.succeeded, tally.failed, tally.retried, tally.refused) == (0, 0, [], 0)
    assert (farm.counts(campaign), farm.events("renders.settled"), len(farm.waiting())) == before


def test_a_report_under_an_old_fence_is_refused_and_its_pictures_are_nobodys(farm: Farm) -> None:
    campaign, session = farm.submit(renders=5), farm.greet()
    (old,) = farm.take(session)
    farm.end(Release)
    (new,) = farm.take(session)
    assert new.fence != old.fence
    tally = farm.settle(old, all_good(old))
    assert (tally.succeeded, tally.refused) == (0, 5)
    assert len(tally.unwanted) == 5
    assert farm.counts(campaign).running == 5
    assert tally.ended == {(old.id, old.fence)}, "the same shard under its new fence goes on"
    assert farm.settle(new, all_good(new)).succeeded == 5


def test_a_late_report_counts_until_somebody_else_takes_the_shard(farm: Farm) -> None:
    campaign = farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    farm.end(Reclaim)
    assert farm.waiting() == [], "a lost lease backs off"
    farm.later()
    assert farm.waiting() == [shard.id]
    assert farm.settle(shard, all_good(shard)[:2]).succeeded == 2
    assert farm.waiting() == [shard.id]
    (rest,) = farm.take(farm.greet())
    assert (rest.todo, rest.lost) == (((2, 5),), 1)
    assert farm.settle(rest, all_good(rest)).succeeded == 3
    assert farm.state(campaign) == CampaignState.DONE


def test_an_outcome_never_changes(farm: Farm) -> None:
    campaign = farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    farm.settle(shard, [good(shard, 0)])
    unwanted = farm.settle(shard, [good(shard, 0, try_=2)]).unwanted
    farm.settle(shard, [bad(0, FailureKind.BAD_SOURCE)])
    with farm.api.as_team(OURS) as tx:
        (row,) = tx.outcomes(campaign, 0, 5)
    assert [one.key for one in unwanted] == [f"outputs/{campaign}/0-2/picture.png"], "the later picture is nobody's"
    assert row.key == f"outputs/{campaign}/0-1/picture.png"


def test_of_two_pictures_with_one_fingerprint_the_first_is_kept(farm: Farm) -> None:
    campaign, session = farm.submit(), farm.greet()
    first, second = farm.take(session)
    same = "f" * 64
    tally = farm.settle(first, [good(first, 0, fingerprint=same), good(first, 1, fingerprint=same)])
    (kept,) = {f"outputs/{campaign}/{n}-1/picture.png" for n in (0, 1)} - {one.key for one in tally.unwanted}
    assert len(tally.unwanted) == 1
    later = farm.settle(second, [good(second, 5, fingerprint=same)])
    assert [one.key for one in later.unwanted] == [f"outputs/{campaign}/5-1/picture.png"]
    with farm.leading() as tx:
        assert tx.keys_in_use([kept, *(one.key for one in (*tally.unwanted, *later.unwanted))]) == {kept}
        assert list(tx.pictures(OURS, [same, "e" * 64])) == [same]
        assert tx.pictures(THEIRS, [same]) == {}
    with farm.api.as_team(OURS) as team:
        assert [row.key for row in team.outcomes(campaign, 0, 10)] == [kept] * 3


def test_retries_wait_in_a_child_until_their_time_and_hand_backs_do_not(farm: Farm) -> None:
    campaign, session = farm.submit(renders=5), farm.greet()
    (shard,) = farm.take(session)
    tally = farm.settle(shard, [good(shard, 0), bad(1, FailureKind.ENGINE), bad(2, FailureKind.ENGINE), back(3)])
    assert (tally.retried, tally.handed_back) == ([FailureKind.ENGINE] * 2, 1)
    (child,) = farm.waiting()
    with farm.leading() as tx:
        locked = tx.lock([shard.id, child, ShardId(child - 1), ShardId(child + 1)])
    found = {row.todo: (row.tries, row.depot_tries, row.avoid, row.state) for row in locked.values()}
    assert found == {
        ((4, 5),): (0, 0, (), "leased"),
        ((3, 4),): (0, 0, (), "ready"),
        ((1, 3),): (1, 0, (RENDERER,), "ready"),
    }
    with farm.api.as_team(OURS) as team:
        why = team.why_facts(campaign, {})
    assert why.backing_off == 1
    assert why.next_ready_at is not None
    counts = farm.counts(campaign)
    assert (counts.succeeded, counts.running, counts.queued) == (1, 1, 3)
    with farm.leading() as tx:
        ((name, failed),) = [(found.name, found.failed) for found in tx.accusations(timedelta(hours=1))]
    assert (name, failed) == (RENDERER, 2)
    assert farm.state(campaign) == CampaignState.ACTIVE, "retries are still to come"


def test_what_renders_cost_is_learned_without_their_loading(farm: Farm) -> None:
    farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    farm.settle(shard, all_good(shard))
    with farm.api.as_team(OURS) as tx:
        (cost,) = tx.costs()
    assert (cost.engine_key, cost.gpu, cost.renders) == ("engine", "H100", 5)
    assert cost.step_seconds == pytest.approx(3.0)  # strength 0.01 of 30 steps is one
    assert cost.spread == pytest.approx(0.0)
    with farm.leading() as scheduler:
        scheduler.learn(OURS, "engine", "H100", step_seconds=1.0, squares=1.0, renders=5)
        scheduler.learn(OURS, "engine", "A10", step_seconds=4.0, squares=25.0, renders=5)
        scheduler.learn(THEIRS, "engine", "H100", step_seconds=9.0, squares=81.0, renders=5)
    with farm.api.as_team(OURS) as tx:
        ten, hundred = tx.costs()
    assert (ten.gpu, ten.step_seconds, ten.spread) == ("A10", 4.0, 3.0)
    assert (hundred.step_seconds, hundred.spread, hundred.renders) == (2.0, 1.0, 10)
    with farm.leading() as scheduler:
        assert [(team, row.gpu) for team, row in scheduler.costs()] == [(OURS, "A10"), (OURS, "H100"), (THEIRS, "H100")]


def test_what_was_learned_long_ago_counts_as_much_as_200_renders(farm: Farm) -> None:
    with farm.leading() as tx:
        tx.learn(OURS, "engine", "H100", step_seconds=1.0, squares=1.0, renders=100_000)
        tx.learn(OURS, "engine", "H100", step_seconds=4.0, squares=16.0, renders=100)
        tx.learn(OURS, "engine", "H100", step_seconds=0.0, squares=0.0, renders=0)
        ((_, cost),) = tx.costs()
        tx.learn_load("H100", "lora", seconds=1_000.0, loads=1_000)
        tx.learn_load("H100", "lora", seconds=400.0, loads=100)
        tx.learn_load("H100", "checkpoint", seconds=30.0, loads=2)
        tx.learn_load("H100", "checkpoint", seconds=0.0, loads=0)
        loads = tx.load_costs()
    assert (cost.step_seconds, cost.renders) == (2.0, 100_100)
    assert [(load.kind, load.seconds, load.loads) for load in loads] == [
        ("checkpoint", 15.0, 2),
        ("lora", pytest.approx(3.0), 1_100),
    ]
    with farm.api.as_team(THEIRS) as team:
        assert team.load_costs() == loads


# losing, cancelling


def test_a_shard_that_loses_renderers_is_halved_down_to_the_one_that_is_given_up(farm: Farm) -> None:
    campaign = farm.submit(renders=4, width=4)
    widths = []
    for _ in range(8):
        shards = farm.take(farm.greet())
        widths.append(sorted(len(ordinals_of(shard.todo)) for shard in shards))
        farm.end(Reclaim)
        farm.later()
    assert widths == [[4], [4], [4], [2, 2], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], []]
    assert farm.state(campaign) == CampaignState.DONE
    with farm.api.as_team(OURS) as tx:
        assert [(row.outcome, row.code) for row in tx.outcomes(campaign, 0, 4)] == [("failed", "renderer_died")] * 4


def test_a_lease_that_was_settled_or_taken_over_meanwhile_is_left_alone(farm: Farm) -> None:
    farm.submit()
    session = farm.greet()
    first, _ = farm.take(session)
    decisions = [Reclaim(held) for held in farm.held()]
    farm.settle(first, all_good(first))
    farm.end(Release)
    (again,) = farm.take(session)
    with farm.leading() as tx:
        assert reclaim_shards(tx, decisions).expired == 0
    assert [(held.shard, held.fence) for held in farm.held()] == [(again.id, again.fence)]


def test_a_cancelled_campaign_ends_once_no_renderer_holds_anything_of_it(farm: Farm) -> None:
    campaign, session = farm.submit(renders=15), farm.greet()
    shard, other = farm.take(session, farm.waiting()[:2])
    farm.move(campaign, CampaignState.ACTIVE, CampaignState.CANCELLING)
    assert farm.waiting() == []
    assert [held.cancelled for held in farm.held()] == [True, True]
    with farm.leading() as tx:
        assert tx.finish_campaigns() == 0
    farm.settle(shard, [good(shard, 0), bad(1, FailureKind.ENGINE), *(back(n) for n in (2, 3, 4))])
    farm.end(Reclaim)
    with farm.leading() as tx:
        assert tx.finish_campaigns() == 1
        assert tx.finish_campaigns() == 0
    assert farm.state(campaign) == CampaignState.CANCELLED
    counts = farm.counts(campaign)
    assert (counts.succeeded, counts.cancelled, counts.queued, counts.running) == (1, 14, 0, 0)
    assert farm.events("campaign.state") == [{"state": "cancelling"}, {"state": "cancelled"}]
    # A last report from the renderer that was lost: what it finished counts, what it did not makes nothing ready again.
    tally = farm.settle(other, [good(other, 5), bad(6, FailureKind.ENGINE), back(7)])
    assert tally.succeeded == 1
    counts = farm.counts(campaign)
    assert (counts.succeeded, counts.cancelled, counts.queued) == (2, 13, 0)
    assert farm.state(campaign) == CampaignState.CANCELLED


def test_what_the_api_had_to_skip_is_cancelled_at_the_next_tick(postgres_farm: Farm) -> None:
    farm = postgres_farm  # two transactions at once, of one thread
    campaign = farm.submit()
    with farm.leading() as tx:
        locked = tx.lock([ShardId(1), ShardId(2)])
        assert len(locked) == 2
        farm.move(campaign, CampaignState.ACTIVE, CampaignState.CANCELLING)
    assert farm.counts(campaign).queued == 10
    assert farm.take(farm.greet(), list(locked)) == []
    with farm.leading() as tx:
        assert tx.finish_campaigns() == 1
    assert farm.counts(campaign).cancelled == 10
    assert farm.state(campaign) == CampaignState.CANCELLED


def test_a_failed_transaction_leaves_nothing_behind(farm: Farm) -> None:
    campaign, session = farm.submit(), farm.greet()

    def take_and_fail() -> None:
        with farm.leading() as tx:
            for shard, _ in tx.take([Placed(s, RENDERER, session) for s in (ShardId(1), ShardId(2))]):
                report = RenderReport(
                    seq=1, shard=shard.id, fence=shard.fence or "", epoch=1, rows=tuple(all_good(shard))
                )
                settle_reports(tx, [From(RENDERER, "H100 torch", "H100", [report])], resolved_in, PRICES)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        take_and_fail()
    assert (farm.counts(campaign).queued, farm.held(), farm.events("renders.settled")) == (10, [], [])


# several at once


def test_events_are_gapless_and_a_reader_who_follows_them_misses_none(farm: Farm) -> None:
    farm.submit(renders=40, width=1)
    halves = farm.take(farm.greet())
    done, seen = threading.Event(), list[int]()

    def write(mine: Sequence[ShardRow]) -> None:
        for shard in mine:
            farm.settle(shard, all_good(shard))

    def read() -> None:
        last = False
        while not last:
            last = done.is_set()  # and then one more look
            with farm.api.as_team(OURS) as tx:
                seen.extend(event.id for event in tx.events(after=seen[-1] if seen else 0, limit=100))

    with ThreadPoolExecutor(3) as pool:
        reader = pool.submit(read)
        writers = [pool.submit(write, halves[n::2]) for n in range(2)]
        try:
            for writer in writers:
                writer.result(60)
        finally:
            done.set()
        reader.result(60)
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) >= 41  # submitted, and forty times settled


def test_two_who_claim_and_settle_at_once_lose_and_double_nothing(farm: Farm) -> None:
    campaign = farm.submit(renders=120, width=3)
    farm.submit(2, renders=30, width=3)
    shards = farm.waiting()

    def work(number: int) -> int:
        session, settled = farm.greet(RendererName(f"farm/a/1/{number}")), 0
        order = shards[number:] + shards[:number]
        for at in range(0, len(order), 4):
            for shard in farm.take(session, order[at : at + 4]):
                rows = all_good(shard)
                settled += farm.settle(shard, rows[:2]).succeeded
                settled += farm.settle(shard, rows).succeeded
        return settled

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(work, range(2))) == 150
    for one, renders in ((campaign, 120), (CampaignId(mint(NOW, 2)), 30)):
        counts = farm.counts(one)
        assert (counts.succeeded, counts.queued, counts.running) == (renders, 0, 0)
    with farm.leading() as tx:
        assert tx.picture_count() == 150
