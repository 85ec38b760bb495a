"""Who is to blame: the render, or the renderer?"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.core.evidence import (
    ALONE_CAMPAIGNS,
    ALONE_ENOUGH,
    LONGEST,
    QUARANTINE,
    SUSPICION,
    Quarantine,
    Release,
    Verdict,
    judge,
)
from farm.core.ids import RendererName
from farm.core.records import Accusation, Quarantined
from farm.core.retry import MAX_TRIES

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def name(number: int) -> RendererName:
    return RendererName(f"farm/a/{number:03}")


def names(count: int) -> frozenset[RendererName]:
    return frozenset(name(n) for n in range(count))


def accused(number: int = 0, **changes: Any) -> Accusation:
    plain = Accusation(name(number), failed=3, cleared=0, shared=0, campaigns=1, last_code="cuda", last_at=NOW)
    return replace(plain, **changes)


def shut(number: int = 0, **changes: Any) -> Quarantined:
    plain = Quarantined(name(number), "why", NOW - QUARANTINE, NOW, probes=0)
    return replace(plain, **changes)


def verdict(
    accusations: Iterable[Accusation] = (),
    quarantined: Iterable[Quarantined] = (),
    *,
    renderers: int = 4,
    succeeded: Iterable[int] = (),
    now: datetime = NOW,
) -> Verdict:
    good = frozenset(name(n) for n in succeeded)
    return judge(list(accusations), list(quarantined), names=names(renderers), succeeded=good, now=now)


NOTHING = Verdict((), frozenset(), frozenset(), frozenset())


def test_nothing_is_made_of_one_or_two_failures() -> None:
    assert verdict([accused(failed=2, cleared=2)]) == NOTHING


@pytest.mark.parametrize("renderers", [2, 3, 100])
def test_a_renderer_is_closed_when_what_failed_there_succeeded_elsewhere(renderers: int) -> None:
    found = verdict([accused(failed=5, cleared=2, campaigns=2)], renderers=renderers)
    assert found.closed == {name(0)}
    (decision,) = found.decisions
    assert isinstance(decision, Quarantine)
    assert decision.lasts == QUARANTINE
    assert decision.why == "5 renders of 2 campaigns failed there in a row; 2 of them succeeded elsewhere. Last: cuda."


def test_until_others_have_tried_it_is_only_suspected() -> None:
    assert verdict([accused()]).suspects == {name(0)}
    assert verdict([accused()]).closed == frozenset()
    assert verdict([accused()], now=NOW + SUSPICION) == NOTHING, "and gets another chance when nobody has"


def test_what_fails_elsewhere_too_says_nothing_of_the_renderer() -> None:
    assert verdict([accused(failed=9, shared=9, campaigns=4)]) == NOTHING


def test_half_of_the_renderers_go_on_whatever_is_suspected() -> None:
    all_of_them = [accused(n, failed=3 + n) for n in range(4)]
    assert verdict(all_of_them).suspects == {name(2), name(3)}, "those with most against them"
    assert verdict([accused()], renderers=1) == NOTHING, "the only one is nobody's suspect"


def test_several_campaigns_that_nobody_tried_elsewhere_close_one_of_many() -> None:
    stale = accused(campaigns=2, last_at=NOW - SUSPICION)
    assert verdict([stale]).closed == {name(0)}
    assert verdict([replace(stale, campaigns=1)]).closed == frozenset()
    assert verdict([replace(stale, shared=1)]).closed == frozenset()


def test_when_many_fail_at_once_it_is_the_work() -> None:
    stale = [accused(n, campaigns=5, failed=50, last_at=NOW - SUSPICION) for n in range(100)]
    assert verdict(stale, renderers=100).closed == frozenset()
    assert len(verdict(stale[:25], renderers=100).closed) == 25
    assert verdict(stale[:26], renderers=100).closed == frozenset()
    others = [shut(n, until=NOW + QUARANTINE) for n in range(1, 26)]
    assert name(0) not in verdict(stale[:1], others, renderers=100).closed, "those that are closed count as well"


def test_the_only_renderer_is_closed_on_much_evidence_only() -> None:
    much = accused(failed=ALONE_ENOUGH, campaigns=ALONE_CAMPAIGNS)
    assert verdict([much], renderers=1).closed == {name(0)}
    assert verdict([replace(much, campaigns=ALONE_CAMPAIGNS - 1)], renderers=1) == NOTHING
    assert verdict([replace(much, failed=ALONE_ENOUGH - 1)], renderers=1) == NOTHING
    assert verdict([replace(much, failed=500, campaigns=1)], renderers=1) == NOTHING, "one bad campaign closes nothing"


def test_of_two_renderers_the_second_stays_open_without_proof() -> None:
    much = accused(0, failed=ALONE_ENOUGH, campaigns=ALONE_CAMPAIGNS)
    assert verdict([much], [shut(1, until=NOW + QUARANTINE)], renderers=2).closed == {name(1)}


def test_a_renderer_that_is_gone_is_not_judged() -> None:
    assert verdict([accused(9, cleared=3)], renderers=4) == NOTHING


def test_who_has_just_rendered_something_is_not_judged_by_what_was_before() -> None:
    assert verdict([accused(cleared=3)], succeeded=[0]) == NOTHING


def test_after_its_time_it_gets_a_probe() -> None:
    assert verdict((), [shut(until=NOW + timedelta(seconds=1))]).closed == {name(0)}
    found = verdict((), [shut()])
    assert found == replace(NOTHING, probing=frozenset({name(0)}))


def test_a_clean_probe_releases_and_a_success_before_its_time_does_not() -> None:
    assert verdict((), [shut()], succeeded=[0]) == replace(NOTHING, decisions=(Release(name(0)),))
    early = verdict((), [shut(until=NOW + timedelta(seconds=1))], succeeded=[0])
    assert early == replace(NOTHING, closed=frozenset({name(0)}))


def test_each_failed_probe_doubles_the_time_up_to_two_hours() -> None:
    lasts = []
    for probes in range(8):
        probe = accused(failed=1, last_at=NOW)
        (decision,) = verdict([probe], [shut(until=NOW - timedelta(seconds=1), probes=probes)]).decisions
        assert isinstance(decision, Quarantine)
        lasts.append(decision.lasts)
    assert lasts[:4] == [QUARANTINE * 2, QUARANTINE * 4, QUARANTINE * 8, QUARANTINE * 16]
    assert max(lasts) == lasts[-1] == LONGEST


def test_what_failed_while_it_was_closed_is_no_failed_probe() -> None:
    late = accused(last_at=NOW - timedelta(minutes=1))
    assert verdict([late], [shut()]).probing == {name(0)}


def test_what_an_operator_closed_only_an_operator_opens() -> None:
    by_hand = shut(until=NOW - timedelta(days=1), by_hand=True)
    assert verdict([accused()], [by_hand], succeeded=[0]) == replace(NOTHING, closed=frozenset({name(0)}))


# A farm in small: renderers that fail everything, renders that fail everywhere, and the rest


@dataclass
class Try:
    render: int
    name: RendererName
    at: datetime
    forgiven: bool = False


@dataclass
class Job:
    """A render that is still to do."""

    render: int
    campaign: int
    tries: int = 0
    avoid: set[RendererName] = field(default_factory=set)


@dataclass
class SmallFarm:
    renderers: frozenset[RendererName]
    bad: frozenset[RendererName]
    poisoned: frozenset[int]
    random: Random
    width: int  # renders in a shard
    now: datetime = NOW
    jobs: list[Job] = field(default_factory=list)
    campaign_of: dict[int, int] = field(default_factory=dict)
    failures: list[Try] = field(default_factory=list)
    last_success: dict[RendererName, datetime] = field(default_factory=dict)
    succeeded_at: dict[int, tuple[RendererName, datetime]] = field(default_factory=dict)
    given_up: set[int] = field(default_factory=set)
    quarantined: dict[RendererName, Quarantined] = field(default_factory=dict)
    just: set[RendererName] = field(default_factory=set)
    ever_closed: set[RendererName] = field(default_factory=set)

    def submit(self, campaign: int, renders: int) -> None:
        first = len(self.campaign_of)
        for render in range(first, first + renders):
            self.campaign_of[render] = campaign
            self.jobs.append(Job(render, campaign))

    def accusations(self) -> list[Accusation]:
        found = []
        for who in sorted(self.renderers):
            begin = self.last_success.get(who, NOW - timedelta(days=1))
            mine = [t for t in self.failures if t.name == who and t.at > begin and not t.forgiven]
            if not mine:
                continue
            renders = {t.render for t in mine}
            shared = {t.render for t in self.failures if t.name != who and t.render in renders and not t.forgiven}
            cleared = {r for r in renders if r in self.succeeded_at and self.succeeded_at[r][0] != who}
            campaigns = {self.campaign_of[r] for r in renders}
            last = max(t.at for t in mine)
            found.append(Accusation(who, len(renders), len(cleared), len(shared), len(campaigns), "cuda", last))
        return found

    def tick(self) -> Verdict:
        self.now += timedelta(seconds=5)
        found = judge(
            self.accusations(),
            list(self.quarantined.values()),
            names=self.renderers,
            succeeded=frozenset(self.just),
            now=self.now,
        )
        self.just.clear()
        for decision in found.decisions:
            match decision:
                case Quarantine(who, why, lasts):
                    self.close(who, why, lasts)
                case Release(who):
                    del self.quarantined[who]
        self.work(found)
        return found

    def close(self, who: RendererName, why: str, lasts: timedelta) -> None:
        before = self.quarantined.get(who)
        probes = 0 if before is None else before.probes + 1
        self.quarantined[who] = Quarantined(who, why, self.now, self.now + lasts, probes)
        self.ever_closed.add(who)
        for one in self.failures:
            if one.name == who:
                one.forgiven = True
        for job in self.jobs:
            if who in job.avoid:
                job.avoid.discard(who)
                job.tries = max(0, job.tries - 1)

    def work(self, found: Verdict) -> None:
        """Every renderer that may takes a shard of one campaign, in an order drawn by lot."""
        may = sorted(self.renderers - found.closed)
        clear = [who for who in may if who not in found.suspects and who not in found.probing]
        order = [who for who in may if who not in found.suspects or not clear]
        self.random.shuffle(order)
        for who in order:
            fit = [job for job in self.jobs if who not in job.avoid or not set(order) - job.avoid]
            mine = [job for job in fit if job.campaign == fit[0].campaign][: self.width] if fit else []
            for job in mine:
                self.render(job, who)

    def render(self, job: Job, who: RendererName) -> None:
        if who not in self.bad and job.render not in self.poisoned:
            self.jobs.remove(job)
            self.succeeded_at[job.render] = (who, self.now)
            self.last_success[who] = self.now
            self.just.add(who)
            return
        self.failures.append(Try(job.render, who, self.now))
        job.tries += 1
        job.avoid.add(who)
        if job.tries >= MAX_TRIES:
            self.jobs.remove(job)
            self.given_up.add(job.render)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bad_renderers_end_closed_good_ones_stay_open_and_good_renders_are_not_blamed(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 12), label="renderers")
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=min(MAX_TRIES - 1, count - 1)), label="bad")
    random = Random(data.draw(st.integers(0, 2**32), label="seed"))
    farm = SmallFarm(names(count), frozenset(name(n) for n in bad), frozenset(), random, random.choice([1, 3, 8]))
    for campaign in range(data.draw(st.integers(1, 5), label="campaigns")):
        farm.submit(campaign, random.randrange(1, 60))
    poisoned = data.draw(st.sampled_from([0.0, 0.05, 0.5]), label="share of poisoned renders")
    farm.poisoned = frozenset(r for r in farm.campaign_of if random.random() < poisoned)
    if data.draw(st.booleans(), label="a campaign that is bad throughout"):
        farm.poisoned |= {r for r, campaign in farm.campaign_of.items() if campaign == 0}
    found = NOTHING
    for tick in range(200):
        if tick % 10 == 0:  # good work comes in all the time
            farm.submit(100 + tick, 2 * count * farm.width)
        found = farm.tick()
    assert farm.ever_closed == farm.bad
    assert farm.bad <= found.closed | found.probing
    assert farm.given_up <= farm.poisoned


@pytest.mark.parametrize("count", [2, 3, 100])
def test_one_dead_renderer_among_others_costs_no_render(count: int) -> None:
    farm = SmallFarm(names(count), frozenset({name(0)}), frozenset(), Random(count), width=8)
    farm.submit(0, 40 * count)
    while farm.jobs:
        farm.tick()
    assert farm.ever_closed == {name(0)}
    assert not farm.given_up


def test_work_waits_for_the_only_renderer_to_get_well() -> None:
    farm = SmallFarm(names(1), names(1), frozenset(), Random(1), width=8)
    for campaign in range(5):
        farm.submit(campaign, 8)
    while not farm.ever_closed:
        farm.tick()
    before = set(farm.given_up)
    assert len(farm.jobs) >= 16, "two campaigns had to fail before that could be told from bad work; not the others"
    for _ in range(1000):
        farm.tick()
    assert farm.given_up == before, "what a probe fails is forgiven"
    farm.bad = frozenset()  # somebody has mended it
    while farm.jobs:
        farm.tick()
    assert farm.given_up == before
    assert not farm.quarantined


def test_a_bad_campaign_does_not_close_the_only_renderer() -> None:
    farm = SmallFarm(names(1), frozenset(), frozenset(range(50)), Random(1), width=8)
    farm.submit(0, 50)
    farm.submit(1, 50)
    while farm.jobs:
        assert farm.tick().closed == frozenset()
    assert farm.given_up == farm.poisoned
