"""Weighted fair share between teams, by GPU seconds."""

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.core.fairshare import LAG, LEAD, Rejoin, Rest, Shares, TeamShare, turns
from farm.core.ids import Session, TeamId

A, B, C = TeamId(1), TeamId(2), TeamId(3)


def team(number: int, **changes: object) -> TeamShare:
    return TeamShare(TeamId(number), **changes)  # type: ignore[arg-type]


def waiting(*teams: int) -> frozenset[TeamId]:
    return frozenset(TeamId(number) for number in teams)


def test_what_is_under_way_counts_as_used_by_weight() -> None:
    shares = Shares([team(1, weight=2.0, vtime=10.0), team(2, vtime=12.0)])
    assert (shares.served(A), shares.served(B)) == (10.0, 12.0)
    shares.lease(A, Session("s"), 30.0)
    shares.lease(A, Session("s"), 10.0)
    assert (shares.served(A), shares.seconds_under_way(A), shares.renderers(A)) == (30.0, 40.0, 1)
    assert shares.served(B) == 12.0


def test_a_quota_counts_renderers_not_shards() -> None:
    shares = Shares([team(1, quota=1, burst=2)])
    shares.lease(A, Session("s"), 30.0)
    assert shares.within_quota(A, Session("s")), "a second shard at the same renderer uses no other"
    assert not shares.within_quota(A, Session("t"))
    assert shares.within_burst(A, Session("t"))
    shares.lease(A, Session("t"), 30.0)
    assert not shares.within_burst(A, Session("u"))
    assert shares.within_quota(B, Session("u")), "a team that nobody has told of has no limit"


def test_a_team_begins_where_the_least_served_of_those_that_wait_stands() -> None:
    found = turns([team(1, vtime=500.0), team(2, vtime=700.0), team(3, backlogged=False)], waiting(1, 2, 3))
    assert found == [Rejoin(C, 500.0)]


def test_who_has_had_more_than_the_others_keeps_it_within_bounds() -> None:
    found = turns([team(1, vtime=500.0), team(3, vtime=700.0, backlogged=False)], waiting(1, 3))
    assert found == [Rejoin(C, 700.0)]
    one = [team(1, vtime=500.0), team(3, vtime=1e6, backlogged=False)]
    assert turns(one, waiting(1, 3)) == [Rejoin(C, 500.0 + LEAD)], "what it had alone was taken from nobody"
    assert turns(one, waiting(1, 3), under_way=[(A, 90.0)]) == [Rejoin(C, 590.0 + LEAD)]


def test_where_nobody_waits_a_team_begins_where_it_was() -> None:
    assert turns([team(1, vtime=5.0, backlogged=False)], waiting(1)) == [Rejoin(A, 5.0)]
    assert turns([team(1, backlogged=False), team(2, vtime=9.0)], waiting(1)) == [Rejoin(A, 0.0), Rest(B)]


def test_who_has_nothing_ready_rests_once() -> None:
    assert turns([team(1), team(2, backlogged=False)], waiting()) == [Rest(A)]


def test_who_waits_on_is_left_alone() -> None:
    assert turns([team(1, vtime=5.0), team(2, vtime=LAG)], waiting(1, 2)) == []


def test_what_was_missed_long_ago_is_forgotten() -> None:
    """Its work could not be rendered: another type of GPU, other hours, or a quota."""
    found = turns([team(1, vtime=0.0), team(2, vtime=10 * LAG)], waiting(1, 2))
    assert found == [Rejoin(A, 9.5 * LAG)]
    assert turns([team(1, vtime=9.5 * LAG), team(2, vtime=10 * LAG)], waiting(1, 2)) == []


def test_what_is_under_way_was_not_missed() -> None:
    """A thousand renderers work for it; it will be level with the other when they are through."""
    shares = [team(1, vtime=0.0), team(2, vtime=10 * LAG)]
    assert turns(shares, waiting(1, 2), under_way=[(A, 30.0)] * 1000 + [(A, 2 * LAG)]) == []


def test_a_newcomer_begins_beside_those_that_are_served() -> None:
    """One that waits for what the farm cannot give does not open the door for the idle."""
    found = turns([team(1), team(2, vtime=10 * LAG), team(3, backlogged=False)], waiting(1, 2, 3))
    assert found == [Rejoin(A, 9.5 * LAG), Rejoin(C, 9.5 * LAG)]


def test_the_large_steps_of_a_light_team_do_not_move_the_others() -> None:
    assert turns([team(1), team(2, weight=0.01, vtime=30.0 / 0.01)], waiting(1, 2)) == []
    assert turns([team(1, weight=0.01), team(2, vtime=50 * LAG)], waiting(1, 2)) == []


shares_of_teams = st.lists(
    st.builds(
        lambda weight, vtime, backlogged: (weight, vtime, backlogged),
        st.floats(0.01, 100),
        st.floats(0, 1e7),
        st.booleans(),
    ),
    max_size=6,
).map(lambda found: [team(n, weight=w, vtime=v, backlogged=b) for n, (w, v, b) in enumerate(found)])


@given(shares_of_teams, st.sets(st.integers(0, 5)), st.data())
def test_turns_are_taken_once(teams: list[TeamShare], numbers: set[int], data: st.DataObject) -> None:
    """Carried out and asked again, nothing is left to say, and every team is marked as it is."""
    ready = frozenset(t.team for t in teams if t.team in numbers)
    leases = [(t.team, data.draw(st.floats(0, 1e5))) for t in teams]
    after = {t.team: t for t in teams}
    for turn in turns(teams, ready, under_way=leases):
        share = after[turn.team]
        match turn:
            case Rejoin(_, vtime):
                after[turn.team] = TeamShare(share.team, share.weight, vtime)
            case Rest(_):
                after[turn.team] = TeamShare(share.team, share.weight, share.vtime, backlogged=False)
    assert {t for t, share in after.items() if share.backlogged} == ready
    again = turns(after.values(), ready, under_way=leases)
    moved = [turn for turn in again if isinstance(turn, Rejoin)]
    assert not [turn for turn in again if isinstance(turn, Rest)]
    # Those that began now, behind one another, may be drawn together once more; after that nothing moves.
    for turn in moved:
        share = after[turn.team]
        after[turn.team] = TeamShare(share.team, share.weight, turn.vtime)
    assert turns(after.values(), ready, under_way=leases) == []


# A farm in small: whoever is least served gets the next free renderer


@dataclass
class SmallFarm:
    weights: dict[TeamId, float]
    renderers: int
    random: Random
    vtime: dict[TeamId, float] = field(default_factory=dict)
    used: dict[TeamId, float] = field(default_factory=dict)
    backlogged: set[TeamId] = field(default_factory=set)
    leases: list[tuple[float, TeamId, Session, float]] = field(default_factory=list)  # until, team, session, expected
    used_by: dict[Session, float] = field(default_factory=dict)  # seconds that its shard takes
    now: float = 0.0

    def shares(self) -> list[TeamShare]:
        return [
            TeamShare(t, weight, self.vtime.get(t, 0.0), backlogged=t in self.backlogged)
            for t, weight in self.weights.items()
        ]

    def tick(self, ready: frozenset[TeamId], able: frozenset[TeamId]) -> None:
        """*ready* have any amount of work, of which only that of *able* can be rendered."""
        for turn in turns(self.shares(), ready, under_way=[(t, seconds) for _, t, _, seconds in self.leases]):
            match turn:
                case Rejoin(t, vtime):
                    self.backlogged.add(t)
                    self.vtime[t] = vtime
                case Rest(t):
                    self.backlogged.discard(t)
        shares = Shares(self.shares())
        for _, t, session, seconds in self.leases:
            shares.lease(t, session, seconds)
        taken = {session for _, _, session, _ in self.leases}
        for number in range(self.renderers):
            session = Session(str(number))
            if session in taken or not ready & able:
                continue
            t = min(ready & able, key=lambda t: (shares.served(t), t))
            shares.lease(t, session, 30.0)
            taken_for = self.random.uniform(5.0, 60.0)
            self.used_by[session] = taken_for
            self.leases.append((self.now + taken_for, t, session, 30.0))
        self._settle()

    def _settle(self) -> None:
        """Time passes until the next shard is through; it may have taken other than expected."""
        if not self.leases:
            self.now += 30.0
            return
        first = min(self.leases)
        self.leases.remove(first)
        seconds = self.used_by.pop(first[2])
        self.now = first[0]
        self.used[first[1]] = self.used.get(first[1], 0.0) + seconds
        self.vtime[first[1]] = self.vtime.get(first[1], 0.0) + seconds / self.weights[first[1]]

    def run(self, ticks: int, ready: frozenset[TeamId], able: frozenset[TeamId] | None = None) -> dict[TeamId, float]:
        """GPU seconds that each team was given meanwhile."""
        before = dict(self.used)
        for _ in range(ticks):
            self.tick(ready, ready if able is None else able)
        return {t: self.used.get(t, 0.0) - before.get(t, 0.0) for t in self.weights}


weights = st.lists(st.sampled_from([0.5, 1.0, 2.0, 5.0]), min_size=2, max_size=4).map(
    lambda found: {TeamId(n + 1): weight for n, weight in enumerate(found)}
)


def fairly(given_: dict[TeamId, float], weight: dict[TeamId, float], slack: float) -> None:
    each = {t: given_[t] / weight[t] for t in weight}
    for t, other in ((t, other) for t in weight for other in weight if t < other):
        assert abs(each[t] - each[other]) <= slack * (1 / weight[t] + 1 / weight[other]), each


@settings(deadline=None, max_examples=25)
@given(weights, st.integers(1, 12), st.integers(0, 2**32))
def test_teams_that_wait_together_share_by_weight(weight: dict[TeamId, float], renderers: int, seed: int) -> None:
    farm = SmallFarm(weight, renderers, Random(seed))
    fairly(farm.run(400, frozenset(weight)), weight, slack=61.0 * (renderers + 1))


@settings(deadline=None, max_examples=25)
@given(weights, st.integers(1, 8), st.integers(0, 2**32))
def test_idleness_earns_no_credit_and_work_done_alone_is_no_debt(
    weight: dict[TeamId, float], renderers: int, seed: int
) -> None:
    """After one team worked alone for long, whoever joins shares from then on, but for the bounded rest."""
    farm = SmallFarm(weight, renderers, Random(seed))
    farm.run(1000, waiting(1))
    given_ = farm.run(600, frozenset(weight))
    fairly(given_, weight, slack=61.0 * (renderers + 1))


@settings(deadline=None, max_examples=25)
@given(weights, st.integers(1, 8), st.integers(0, 2**32))
def test_who_worked_alone_before_is_not_starved_by_who_comes_first_afterwards(
    weight: dict[TeamId, float], renderers: int, seed: int
) -> None:
    farm = SmallFarm(weight, renderers, Random(seed))
    farm.run(1000, waiting(1))
    farm.run(renderers + 2, waiting())  # nobody has anything; then the second comes before the first
    farm.run(10, waiting(2))
    before = farm.run(1000, waiting(1, 2))
    assert before[A] > 0
    each = {t: before[t] / weight[t] for t in (A, B)}
    light = min(weight[A], weight[B])
    assert each[B] - each[A] <= LEAD / light + 61.0 * (renderers + 1) * (1 / weight[A] + 1 / weight[B])


@settings(deadline=None, max_examples=25)
@given(weights, st.integers(1, 8), st.integers(0, 2**32))
def test_waiting_for_what_the_farm_cannot_give_earns_little(
    weight: dict[TeamId, float], renderers: int, seed: int
) -> None:
    farm = SmallFarm(weight, renderers, Random(seed))
    everybody = frozenset(weight)
    assert farm.run(1000, everybody, able=everybody - {A})[A] == 0
    after = farm.run(2000, everybody)  # 65,000 GPU seconds: the most that it may catch up are 36,000
    each = {t: after[t] / weight[t] for t in weight}
    for t in everybody - {A}:
        assert each[A] - each[t] <= LAG / min(weight.values()) + 61.0 * (renderers + 1) * (
            1 / weight[A] + 1 / weight[t]
        )
        assert after[t] > 0


@pytest.mark.parametrize("renderers", [1, 4, 50])
def test_a_newcomer_gets_the_very_next_renderer_of_a_hot_team(renderers: int) -> None:
    farm = SmallFarm({A: 1.0, B: 1.0}, renderers, Random(1))
    farm.run(500, waiting(1))
    farm.tick(waiting(1, 2), waiting(1, 2))
    farm.tick(waiting(1, 2), waiting(1, 2))
    assert B in farm.used or any(t == B for _, t, _, _ in farm.leases)
