"""Which rows share a pass."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from actors.packing import OVERTAKE, Waiting, chosen_weights, next_pass

BATCH = 3


@st.composite
def queues(draw: st.DrawFn) -> list[Waiting]:
    shards = draw(st.lists(st.sampled_from("xyz"), max_size=4))
    urgent_shard = draw(st.none() | st.integers(0, 3))
    rows: list[Waiting] = []
    for number, weights in enumerate(shards):
        for _ in range(draw(st.integers(1, 6))):
            group = draw(st.sampled_from("ab"))
            ready, urgent = draw(st.booleans()), number == urgent_shard
            rows.append(Waiting(len(rows), number, weights, group, ready, urgent))
    return rows


warmth = st.sampled_from([None, "x", "y", "z"])


@given(queues(), warmth)
def test_pass_agrees_in_weights_and_group_and_is_ready_and_fits(rows: list[Waiting], warm: str | None) -> None:
    chosen = [row for row in rows if row.id in next_pass(rows, batch=BATCH, warm=warm)]
    assert len(chosen) <= BATCH
    assert all(row.ready for row in chosen)
    assert len({(row.weights, row.group) for row in chosen}) <= 1


@given(queues(), warmth)
def test_rows_of_a_group_go_in_order_of_arrival_the_urgent_first(rows: list[Waiting], warm: str | None) -> None:
    chosen = next_pass(rows, batch=BATCH, warm=warm)
    if chosen:
        first = next(row for row in rows if row.id == chosen[0])
        ready = [row for row in rows if row.ready and row.shares == first.shares]
        in_turn = [row.id for row in ready if row.urgent] + [row.id for row in ready if not row.urgent]
        assert list(chosen) == in_turn[: len(chosen)]


@given(queues(), warmth)
def test_an_urgent_row_that_is_ready_goes_in_the_next_pass(rows: list[Waiting], warm: str | None) -> None:
    chosen = next_pass(rows, batch=BATCH, warm=warm)
    urgent = [row.id for row in rows if row.urgent and row.ready]
    assert not urgent or urgent[0] in chosen


@given(queues(), warmth)
def test_urgent_rows_whose_pictures_are_on_their_way_hold_up_nobody(rows: list[Waiting], warm: str | None) -> None:
    bulk = [row for row in rows if not row.urgent]
    coming = [replace(row, ready=False) for row in rows if row.urgent]
    assert next_pass([*coming, *bulk], batch=BATCH, warm=warm) == next_pass(bulk, batch=BATCH, warm=warm)


@given(queues(), warmth)
def test_partial_pass_goes_only_when_nobody_would_join_it(rows: list[Waiting], warm: str | None) -> None:
    chosen = next_pass(rows, batch=BATCH, warm=warm)
    if 0 < len(chosen) < BATCH and not any(row.urgent for row in rows if row.id in chosen):
        first = next(row for row in rows if row.id == chosen[0])
        rest = [row for row in rows if row.shares == first.shares and not row.urgent]
        assert len(rest) == len(chosen)


@given(queues(), warmth)
def test_when_all_is_ready_there_is_always_a_pass_until_nothing_waits(rows: list[Waiting], warm: str | None) -> None:
    left = [replace(row, ready=True) for row in rows]
    state: object = warm
    while left:
        chosen = next_pass(left, batch=BATCH, warm=state)
        assert chosen
        state = next(row.weights for row in left if row.id == chosen[0])
        left = [row for row in left if row.id not in chosen]


def test_warm_shard_goes_before_an_older_cold_one() -> None:
    rows = [Waiting("cold", 1, "x", "a", ready=True), Waiting("warm", 2, "y", "a", ready=True)]
    assert next_pass(rows, batch=BATCH, warm="y") == ("warm",)


def test_oldest_shard_goes_first_when_nothing_warm_waits() -> None:
    rows = [Waiting("older", 1, "x", "a", ready=True), Waiting("younger", 2, "y", "a", ready=True)]
    assert next_pass(rows, batch=BATCH, warm="z") == ("older",)


def test_cold_shard_is_overtaken_only_so_often() -> None:
    rows = [Waiting("cold", 1, "x", "a", ready=True), Waiting("warm", 1 + OVERTAKE, "y", "a", ready=True)]
    assert chosen_weights(rows, "y") == "x"


def test_bulk_rows_fill_the_pass_of_an_urgent_one_that_shares_their_weights() -> None:
    rows = [Waiting(number, 1, "x", "a", ready=True) for number in range(4)]
    urgent = Waiting("urgent", 2, "x", "a", ready=True, urgent=True)
    assert next_pass([*rows, urgent], batch=BATCH, warm="x") == ("urgent", 0, 1)


def test_an_urgent_row_goes_before_a_full_warm_pass() -> None:
    rows = [Waiting(number, 1, "x", "a", ready=True) for number in range(4)]
    urgent = Waiting("urgent", 2, "y", "a", ready=True, urgent=True)
    assert next_pass([*rows, urgent], batch=BATCH, warm="x") == ("urgent",)


def test_row_on_its_way_does_not_hold_up_a_full_pass() -> None:
    rows = [Waiting(number, 1, "x", "a", ready=number != 0) for number in range(4)]
    assert next_pass(rows, batch=BATCH, warm=None) == (1, 2, 3)
