"""Which pictures look alike, and which missed their checks."""

from hypothesis import given
from hypothesis import strategies as st

from farm.core.ids import Ordinal
from farm.usecases.find_duplicates import MAX_DISTANCE, _Leaders


@st.composite
def hashes(draw: st.DrawFn) -> list[int]:
    """Some far apart, some a few bits away from one another: only then is there something to find."""
    bases = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    flips = st.sets(st.integers(0, 63), max_size=MAX_DISTANCE + 2)
    picked = draw(st.lists(st.tuples(st.sampled_from(bases), flips), min_size=1, max_size=40))
    return [base ^ sum(1 << bit for bit in bits) for base, bits in picked]


@given(hashes(), st.integers(0, MAX_DISTANCE))
def test_groups_hold_what_is_near_their_first_and_no_two_firsts_are_near_each_other(
    found: list[int], distance: int
) -> None:
    leaders = _Leaders(distance)
    for ordinal, phash in enumerate(found):
        leaders.add(Ordinal(ordinal), phash)
    members = [member for group in leaders.members.values() for member in group]
    assert sorted(ordinal for ordinal, _ in members) == list(range(len(found)))
    for leader, group in leaders.members.items():
        assert found[group[0][0]] == leader
        assert [far for _, far in group] == [(leader ^ found[ordinal]).bit_count() for ordinal, _ in group]
        assert max(far for _, far in group) <= distance
        others = [other for other in leaders.members if other != leader]
        assert all((leader ^ other).bit_count() > distance for other in others)
