"""Who leaves when there is no room for all."""

from hypothesis import given
from hypothesis import strategies as st

from actors.residency import Resident, leaving

names = st.text("abcdef", min_size=1, max_size=2)
residents = st.lists(
    st.builds(Resident, names, st.integers(0, 100), st.integers(0, 20)), max_size=12, unique_by=lambda r: r.name
)


@given(residents, st.integers(0, 400), st.sets(names))
def test_rest_fits_or_is_pinned(held: list[Resident], budget: int, pinned: set[str]) -> None:
    gone = leaving(held, budget_bytes=budget, pinned=pinned)
    rest = [each for each in held if each.name not in gone]
    assert not pinned & set(gone)
    assert sum(each.bytes for each in rest) <= budget or all(each.name in pinned for each in rest)


@given(residents, st.integers(0, 400))
def test_nobody_leaves_before_one_that_was_used_earlier(held: list[Resident], budget: int) -> None:
    gone = set(leaving(held, budget_bytes=budget))
    for each in held:
        if each.name not in gone:
            assert all((other.used, other.name) < (each.used, each.name) for other in held if other.name in gone)


@given(residents, st.integers(0, 400))
def test_nobody_leaves_without_need(held: list[Resident], budget: int) -> None:
    gone = leaving(held, budget_bytes=budget)
    if gone:
        last = next(each for each in held if each.name == gone[-1])
        rest = sum(each.bytes for each in held if each.name not in gone)
        assert rest + last.bytes > budget
