"""Slots of a pass: live rows stay as they are, free slots follow one of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from actors.engine.clock import Span
from actors.engine.passes import COLUMNS, Pass, Under
from actors.engine.port import Row
from actors.engine.samplers import Step
from schemas.style import Sampler

CPU = torch.device("cpu")
BUCKET = 4


def an_under(name: int) -> Under:
    """*name* is in every number that it brings."""
    row = Row("s", Image.new("RGB", (8, 8)), "", "", 0, "8x8", 0.5, 2, float(name), Sampler.EULER)
    step = Step(*(float(name * 100 + number) for number in range(len(Step._fields))))
    return Under(name, row, (step, step), torch.Generator(), Span(CPU), None)


def place(rows: Pass, name: int) -> None:
    rows.place(an_under(name), {"latents": torch.full((1, 3), float(name)), "text": torch.tensor([[-name], [name]])})


@given(st.lists(st.tuples(st.sampled_from(["join", "leave"]), st.integers(0, BUCKET - 1)), max_size=30))
def test_free_slots_follow_a_live_row_and_live_rows_stay_where_they_are(moves: list[tuple[str, int]]) -> None:
    rows, live = Pass(an_under(0).row.group, BUCKET), dict[int, int]()
    for number, (move, which) in enumerate(moves, start=1):
        if move == "join" and not rows.full:
            place(rows, number)
            live.update({slot: number for slot, under in rows.live if under.id == number})
        elif move == "leave" and which in live:
            rows.leave(which)
            del live[which]
        assert {slot: under.id for slot, under in rows.live} == live
        if live:
            seen = check(rows)
            assert {slot: seen[slot] for slot in live} == live
            assert set(seen) <= set(live.values())


def check(rows: Pass) -> list[int]:
    """Whose numbers each slot holds, the same ones everywhere."""
    latents, text = rows.rows("latents"), rows.rows("text")
    columns = rows.columns(CPU)
    seen = [int(each) for each in latents[:, 0]]
    assert text[:, 0].tolist() == [-name for name in seen] + seen  # the unguided half first
    assert columns["guidance"].tolist() == seen
    assert columns["timestep"].tolist() == [name * 100 for name in seen]
    assert set(columns) == set(COLUMNS)
    return seen


def test_dropped_rows_are_gone_from_slots_and_from_waiting() -> None:
    rows = Pass(an_under(0).row.group, 2)
    place(rows, 1)
    place(rows, 2)
    rows.waiting.append((3, an_under(3).row))
    rows.drop({1, 3, 99})
    assert [under.id for _, under in rows.live] == [2]
    assert len(rows) == 1


def test_more_rows_than_slots_are_not_placed() -> None:
    rows = Pass(an_under(0).row.group, 1)
    place(rows, 1)
    with pytest.raises(ValueError, match="is not in list"):
        place(rows, 2)
