"""Which rows share a pass, who joins it, and who waits."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.packing import OVERTAKE, Packed, Place, Turn, going_on, next_turn

BATCH = {"a": 3, "b": 2, "lone": 1}
STEPS = 3

Row = Packed[int, str]


def place(weights: str, group: str = "a") -> Place[str]:
    """The first letter of the weights is their checkpoint."""
    return Place(weights[0], weights, group)


def turn(waiting: list[Row], active: list[Row] | None = None, warm: Place[str] | None = None) -> Turn[int, str] | None:
    return next_turn(waiting, active or [], capacity=BATCH.__getitem__, warm=warm)


places = st.builds(place, st.sampled_from(["x1", "x2", "y1"]), st.sampled_from(["a", "b"]))


@st.composite
def queues(draw: st.DrawFn, urgent: bool = True) -> list[Row]:
    """Shards of one state of the weights each, as they arrive; the urgent one stands in front."""
    weights = draw(st.lists(st.sampled_from(["x1", "x2", "y1"]), max_size=4))
    first = draw(st.none() | st.integers(0, 3)) if urgent else None
    rows: list[Row] = []
    for shard, each in enumerate(weights):
        for _ in range(draw(st.integers(1, 6))):
            group = draw(st.sampled_from(["a", "b", "lone"] if shard == first else ["a", "b"]))
            rows.append(Packed(len(rows), shard, place(each, group), draw(st.booleans()), shard == first))
    return sorted(rows, key=lambda row: not row.urgent)


@st.composite
def under_way(draw: st.DrawFn) -> list[Row]:
    """What may be in an engine: one checkpoint, each group under one state of the weights, no group too full."""
    checkpoint = draw(st.sampled_from("xy"))
    rows: list[Row] = []
    for group, most in BATCH.items():
        weights = f"{checkpoint}{draw(st.integers(1, 2))}"
        for _ in range(draw(st.integers(0, most))):
            number = 100 + len(rows)
            urgent = group == "lone" or draw(st.booleans())
            rows.append(Packed(number, draw(st.integers(0, 3)), place(weights, group), urgent=urgent))
    return rows


@settings(deadline=None)  # the machine may be busy
@given(queues(), under_way(), st.none() | places)
def test_a_turn_takes_only_rows_that_are_ready_and_fit(
    waiting: list[Row], active: list[Row], warm: Place[str] | None
) -> None:
    chosen = turn(waiting, active, warm)
    if chosen is None:
        return
    joining = [row for row in waiting if row.id in chosen.joining]
    assert len(joining) == len(chosen.joining)
    assert all(row.ready and row.place == chosen.place for row in joining)
    there = [row for row in active if row.place == chosen.place]
    assert len(there) + len(joining) > 0
    assert len(joining) <= max(0, BATCH[chosen.place.group] - len(there))


@settings(deadline=None)  # the machine may be busy
@given(queues(), under_way(), st.none() | places)
def test_nothing_under_way_is_lost_and_nothing_meets_other_weights(
    waiting: list[Row], active: list[Row], warm: Place[str] | None
) -> None:
    chosen = turn(waiting, active, warm)
    if chosen is not None:
        assert {row.place.checkpoint for row in active} <= {chosen.place.checkpoint}
        assert {row.place.weights for row in active if row.place.group == chosen.place.group} <= {chosen.place.weights}


@settings(deadline=None)  # the machine may be busy
@given(queues(), under_way(), st.none() | places)
def test_what_is_under_way_always_goes_on(waiting: list[Row], active: list[Row], warm: Place[str] | None) -> None:
    assert not active or turn(waiting, active, warm) is not None


@settings(deadline=None)  # the machine may be busy
@given(queues(), under_way(), st.none() | places)
def test_an_urgent_row_that_can_go_goes_and_no_bulk_joins_while_one_cannot(
    waiting: list[Row], active: list[Row], warm: Place[str] | None
) -> None:
    chosen = turn(waiting, active, warm)
    urgent = [row for row in (*active, *waiting) if row.urgent and row.ready]
    if chosen is None or not urgent:
        assert not urgent
        return
    can = [row for row in urgent if not _conflicts(row, active)]
    if can:
        assert chosen.place == can[0].place
    if len(can) < len(urgent):
        assert all(row.urgent for row in waiting if row.id in chosen.joining)


def _conflicts(row: Row, active: list[Row]) -> bool:
    return any(
        other.place.checkpoint != row.place.checkpoint
        or (other.place.group == row.place.group and other.place.weights != row.place.weights)
        for other in active
    )


@settings(deadline=None)  # the machine may be busy
@given(queues(urgent=False), under_way(), st.none() | places)
def test_urgent_rows_whose_pictures_are_on_their_way_hold_up_nobody(
    bulk: list[Row], active: list[Row], warm: Place[str] | None
) -> None:
    coming = [Packed(200 + n, 9, place("x1", "lone"), ready=False, urgent=True) for n in range(2)]
    assert turn([*coming, *bulk], active, warm) == turn(bulk, active, warm)


@settings(deadline=None)  # the machine may be busy
@given(queues(urgent=False), under_way(), st.none() | places)
def test_a_full_place_goes_on_as_if_the_queue_had_been_looked_at(
    waiting: list[Row], active: list[Row], warm: Place[str] | None
) -> None:
    active = [replace(row, urgent=False) for row in active]
    there = going_on(active, capacity=BATCH.__getitem__, warm=warm)
    assert there is None or turn(waiting, active, warm) == Turn(there, ())


@settings(deadline=None)  # the machine may be busy
@given(queues(urgent=False), st.none() | places)
def test_a_pass_that_is_not_full_begins_only_when_nobody_is_on_the_way_to_it(
    waiting: list[Row], warm: Place[str] | None
) -> None:
    chosen = turn(waiting, [], warm)
    if chosen is not None and len(chosen.joining) < BATCH[chosen.place.group]:
        there = [row for row in waiting if row.place == chosen.place]
        limit = min(row.shard for row in waiting) + OVERTAKE
        assert all(row.ready for row in there) or sum(row.ready for row in there) >= BATCH[chosen.place.group]
        assert {row.id for row in there if row.ready and row.shard < limit} <= set(chosen.joining)


@settings(deadline=None)  # the machine may be busy
@given(queues(), st.none() | places, st.data())
def test_everything_ends_and_no_shard_is_overtaken_too_far(
    rows: list[Row], warm: Place[str] | None, data: st.DataObject
) -> None:
    """A whole life: pictures arrive in any order, rows take their steps, new shards come when old ones end."""
    waiting, active, taken = rows, list[Row](), dict[int, int]()
    for _ in range(len(rows) * STEPS + 1):
        if data.draw(st.booleans()):
            waiting = [replace(row, ready=True) if data.draw(st.booleans()) else row for row in waiting]
        chosen = turn(waiting, active, warm)
        if chosen is None:
            waiting = [replace(row, ready=True) for row in waiting]
            chosen = turn(waiting, active, warm)
            if chosen is None:
                break
        warm = chosen.place
        _check_overtaking(waiting, active, chosen)
        active += [row for row in waiting if row.id in chosen.joining]
        waiting = [row for row in waiting if row.id not in chosen.joining]
        for row in active:
            taken[row.id] = taken.get(row.id, 0) + (row.place == chosen.place)
        active = [row for row in active if taken[row.id] < STEPS]
    assert (waiting, active) == ([], [])


def _check_overtaking(waiting: list[Row], active: list[Row], chosen: Turn[int, str]) -> None:
    """Bulk joins only where no bulk row that could have begun or gone on elsewhere is that much older."""
    elsewhere = [row for row in active if row.place != chosen.place and not row.urgent]
    for there in {row.place for row in waiting} - {chosen.place}:
        members = [row for row in waiting if row.place == there and not row.urgent]
        if all(row.ready for row in members):
            elsewhere += members
    joined = [row.shard for row in waiting if row.id in chosen.joining and not row.urgent]
    assert not joined or not elsewhere or max(joined) < min(row.shard for row in elsewhere) + OVERTAKE


def bulk(number: int, shard: int, weights: str = "x1", group: str = "a", *, ready: bool = True) -> Row:
    return Packed(number, shard, place(weights, group), ready)


def urgent(number: int, shard: int, weights: str = "x1", group: str = "a") -> Row:
    return Packed(number, shard, place(weights, group), urgent=True)


def ids(chosen: Turn[int, str] | None) -> tuple[str, tuple[int, ...]] | None:
    return None if chosen is None else (f"{chosen.place.weights} {chosen.place.group}", chosen.joining)


def test_a_row_joins_others_that_are_in_the_middle() -> None:
    assert ids(turn([bulk(1, 1), bulk(2, 2)], [bulk(0, 1)], place("x1"))) == ("x1 a", (1, 2))


def test_a_row_joins_at_once_although_another_is_on_its_way() -> None:
    assert ids(turn([bulk(1, 1), bulk(2, 1, ready=False)], [bulk(0, 1)], place("x1"))) == ("x1 a", (1,))


def test_a_lone_preview_pauses_bulk_of_other_loras() -> None:
    active = [bulk(0, 1), bulk(1, 1)]
    assert ids(turn([urgent(9, 2, "x2", "lone")], active, place("x1"))) == ("x2 lone", (9,))
    preview = urgent(9, 2, "x2", "lone")
    assert ids(turn([bulk(3, 1)], [*active, preview], place("x2"))) == ("x2 lone", ())
    assert ids(turn([bulk(3, 1)], active, place("x2", "lone"))) == ("x1 a", (3,))


def test_an_urgent_row_of_another_checkpoint_waits_for_what_is_under_way_and_nothing_joins_that() -> None:
    assert ids(turn([urgent(9, 2, "y1", "lone"), bulk(3, 1)], [bulk(0, 1)], place("x1"))) == ("x1 a", ())
    assert ids(turn([urgent(9, 2, "y1", "lone"), bulk(3, 1)], [], place("x1"))) == ("y1 lone", (9,))


def test_an_urgent_row_of_other_weights_in_the_same_group_waits_for_what_is_under_way() -> None:
    assert ids(turn([urgent(9, 2, "x2"), bulk(3, 1)], [bulk(0, 1)], place("x1"))) == ("x1 a", ())


def test_no_bulk_joins_one_urgent_row_while_another_waits_for_a_checkpoint() -> None:
    waiting = [urgent(9, 2), urgent(8, 3, "y1", "lone"), bulk(3, 1)]
    assert ids(turn(waiting, [bulk(0, 1, group="b")], place("x1"))) == ("x1 a", (9,))


def test_bulk_rows_fill_the_pass_of_an_urgent_one_that_shares_their_weights() -> None:
    assert ids(turn([urgent(9, 2), *(bulk(n, 1) for n in range(4))], [], place("x1"))) == ("x1 a", (9, 0, 1))


def test_a_warm_shard_goes_before_an_older_cold_one() -> None:
    assert ids(turn([bulk(0, 1, "x1"), bulk(1, 2, "x2")], [], place("x2"))) == ("x2 a", (1,))


def test_the_oldest_shard_goes_first_when_nothing_warm_waits() -> None:
    assert ids(turn([bulk(0, 1, "x1"), bulk(1, 2, "x2")], [], None)) == ("x1 a", (0,))


def test_a_cold_shard_is_overtaken_only_so_often() -> None:
    assert ids(turn([bulk(0, 1, "x1"), bulk(1, 1 + OVERTAKE, "x2")], [], place("x2"))) == ("x1 a", (0,))


def test_a_group_of_the_same_weights_is_not_kept_waiting_by_a_stream_of_others() -> None:
    waiting = [bulk(1, 1, group="b"), bulk(2, 1 + OVERTAKE)]
    assert ids(turn(waiting, [bulk(0, 1)], place("x1"))) == ("x1 a", ())


def test_another_checkpoint_is_not_loaded_because_a_picture_is_late() -> None:
    late = [bulk(0, 1, "y1"), bulk(1, 1, "x1", ready=False)]
    assert turn(late, [], place("x2")) is None
    assert ids(turn([replace(row, ready=True) for row in late], [], place("x2"))) == ("x1 a", (1,))


def test_other_loras_are_merged_while_a_picture_is_late() -> None:
    assert ids(turn([bulk(0, 1, "x1"), bulk(1, 1, "x2", ready=False)], [], place("x2"))) == ("x1 a", (0,))


def test_a_row_on_its_way_does_not_hold_up_a_full_pass() -> None:
    assert ids(turn([bulk(n, 1, ready=n != 0) for n in range(5)], [], None)) == ("x1 a", (1, 2, 3))


def test_of_a_shard_the_longest_rows_go_first() -> None:
    """Short ones then fill the passes at its end."""
    rows = [replace(bulk(number, shard), steps=steps) for number, shard, steps in ((0, 1, 4), (1, 1, 9), (2, 2, 20))]
    assert ids(turn(rows, [], place("x1"))) == ("x1 a", (1, 0, 2))
