"""What a report changes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.retry import MAX_DEPOT_TRIES, MAX_TRIES
from farm.core.settle import Child, Refusal, Settled, ShardRow, books_balance, reuse, settle
from farm.core.shard import ordinals_of, size_of
from schemas.report import Failure, FailureKind, Published, RowReport, Seconds, Tried
from tests.unit.core.samples import FENCE, ranges, shard_row

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PER_HOUR = 7.2  # a GPU second costs 0.002


def published(ordinal: int) -> Published:
    return Published(key=f"out/{ordinal}", sha256="a" * 64, bytes=9, width=64, height=48, format="png")


def row(ordinal: int, tried: Tried = Tried.SUCCEEDED, kind: FailureKind | None = None) -> RowReport:
    failure = Failure(kind=kind, code="code", detail="Why.") if kind else None
    picture = published(ordinal) if tried is Tried.SUCCEEDED else None
    return RowReport(
        ordinal=ordinal,
        tried=tried,
        fingerprint=f"{ordinal:064x}",
        picture=picture,
        failure=failure,
        seconds=Seconds(load=1.0, denoise=2.0),
    )


def failed(ordinal: int, kind: FailureKind) -> RowReport:
    return row(ordinal, Tried.FAILED, kind)


def decide(shard: ShardRow | None, rows: Sequence[RowReport], fence: str = FENCE) -> Settled | Refusal:
    return settle(shard, fence=fence, rows=rows, now=NOW, renderer="farm/a/1/0", numerics="H100", per_hour=PER_HOUR)


def accepted(shard: ShardRow, rows: Sequence[RowReport]) -> Settled:
    found = decide(shard, rows)
    assert isinstance(found, Settled)
    return found


row_reports = st.builds(
    lambda ordinal, tried, kind: row(ordinal, tried, kind if tried is Tried.FAILED else None),
    st.integers(-2, 65),
    st.sampled_from(Tried),
    st.none() | st.sampled_from(FailureKind),
)
shards = st.builds(
    shard_row,
    ranges,
    tries=st.integers(0, 6),
    depot_tries=st.integers(0, MAX_DEPOT_TRIES + 1),
    avoid=st.lists(st.sampled_from(["farm/a/1/0", "farm/a/1/1", "farm/a/1/2"]), unique=True).map(tuple),
    lost=st.integers(0, 9),
    state=st.sampled_from(["leased", "ready", "done", "cancelled"]),
    cancelling=st.booleans(),
)


@given(shards, st.lists(row_reports, max_size=60))
def test_books_balance_whatever_is_reported(shard: ShardRow, rows: list[RowReport]) -> None:
    """Duplicates, rows that are not in the shard, hand-backs and failures: every ordinal stays in exactly one place."""
    found = accepted(shard, rows)
    assert books_balance(shard.todo, found)
    places = [
        *ordinals_of(found.todo),
        *(outcome.ordinal for outcome in found.outcomes),
        *(ordinal for child in found.children for ordinal in ordinals_of(child.todo)),
    ]
    assert sorted(places) == ordinals_of(shard.todo)


@given(shards, st.lists(row_reports, max_size=60))
def test_a_report_that_comes_again_changes_nothing(shard: ShardRow, rows: list[RowReport]) -> None:
    first = accepted(shard, rows)
    after = shard_row(first.todo, state=first.state, tries=shard.tries)
    again = accepted(after, rows)
    assert (again.todo, again.outcomes, again.children, again.failed_tries) == (first.todo, (), (), ())


@given(shards, st.lists(row_reports, max_size=60))
def test_children_say_when_and_for_the_how_manieth_time(shard: ShardRow, rows: list[RowReport]) -> None:
    for child in accepted(shard, rows).children:
        assert child.todo
        assert child.lost == shard.lost
        assert child.state == ("cancelled" if shard.cancelling else "ready")
        if child.ready_at is None:
            assert (child.tries, child.depot_tries) == (shard.tries, shard.depot_tries), "handing back costs no try"
        else:
            assert child.ready_at > NOW
            assert child.tries + child.depot_tries == shard.tries + shard.depot_tries + 1


@given(shards, st.lists(row_reports, max_size=20), st.sampled_from(["other", ""]))
def test_an_old_fence_is_refused_and_its_pictures_are_nobodys(
    shard: ShardRow, rows: list[RowReport], fence: str
) -> None:
    found = decide(shard, rows, fence)
    assert found == Refusal(tuple(r.picture for r in rows if r.picture is not None))


def test_a_shard_that_is_not_there_and_one_never_leased_refuse_reports() -> None:
    (picture,) = [row(1).picture]
    assert picture is not None
    assert decide(None, [row(1)]) == Refusal((picture,))
    assert decide(shard_row(fence=None), [row(1)]) == Refusal((picture,))


def test_the_numerics_of_an_outcome_are_those_of_its_pass_where_the_row_names_them() -> None:
    in_a_pass = row(1).model_copy(update={"numerics": "H100 batch=2"})
    found = accepted(shard_row(((0, 2),)), [row(0), in_a_pass])
    assert [outcome.numerics for outcome in found.outcomes] == ["H100", "H100 batch=2"]


@pytest.mark.parametrize("state", ["ready", "cancelled"])
def test_a_late_report_still_counts_after_the_lease_was_reclaimed(state: str) -> None:
    found = accepted(shard_row(((0, 2),), state=state), [row(0)])
    assert [outcome.ordinal for outcome in found.outcomes] == [0]
    assert (found.todo, found.state) == (((1, 2),), state)


def test_a_shard_is_done_once_nothing_is_left_and_again_harmlessly() -> None:
    found = accepted(shard_row(((3, 5),)), [row(3), row(4)])
    assert (found.todo, found.state) == ((), "done")
    again = accepted(shard_row((), state="done"), [row(3), row(4)])
    assert (again.outcomes, again.children, again.state) == ((), (), "done")


def test_an_outcome_says_who_made_it_at_what_cost() -> None:
    (outcome,) = accepted(shard_row(((3, 4),), tries=1), [row(3)]).outcomes
    assert outcome.succeeded
    assert (outcome.tries, outcome.gpu_seconds) == (2, 3.0)
    assert (outcome.renderer, outcome.numerics, outcome.picture) == ("farm/a/1/0", "H100", published(3))


def test_failures_wait_in_children_by_the_moment_at_which_they_are_ready() -> None:
    kinds = [FailureKind.ENGINE, FailureKind.OUT_OF_VRAM, FailureKind.DEPOT]
    rows = [failed(n, kind) for n, kind in enumerate(kinds)] + [row(3, Tried.HANDED_BACK), row(4)]
    found = accepted(shard_row(((0, 6),), tries=1), rows)
    assert found.todo == ((5, 6),)
    assert found.children == (
        Child(((0, 2),), NOW + timedelta(seconds=4), 2, 0, "ready", avoid=("farm/a/1/0",)),
        Child(((2, 3),), NOW + timedelta(seconds=2), 1, 0, "ready", depot_tries=1),
        Child(((3, 4),), None, 1, 0, "ready"),
    )
    assert [tried.ordinal for tried in found.failed_tries] == [0, 1, 2]


def test_a_render_fails_for_good_once_its_tries_are_used_up() -> None:
    for tries in range(MAX_TRIES + 1):
        found = accepted(shard_row(((0, 1),), tries=tries), [failed(0, FailureKind.ENGINE)])
        gone = tries + 1 >= MAX_TRIES
        assert (len(found.outcomes), len(found.children)) == ((1, 0) if gone else (0, 1))
        assert all(not outcome.succeeded for outcome in found.outcomes)
        assert size_of(found.todo) == 0


@given(shards, st.lists(row_reports, max_size=60))
def test_a_retry_avoids_the_renderer_unless_the_store_was_to_blame(shard: ShardRow, rows: list[RowReport]) -> None:
    for child in accepted(shard, rows).children:
        if child.tries > shard.tries:
            assert child.avoid == (*(n for n in shard.avoid), *({"farm/a/1/0"} - set(shard.avoid)))
        else:
            assert child.avoid == shard.avoid


def test_a_store_that_is_down_never_uses_up_the_tries_of_a_render() -> None:
    shard = shard_row(((0, 1),), tries=MAX_TRIES - 1)
    for done in range(MAX_DEPOT_TRIES - 1):
        found = accepted(shard, [failed(0, FailureKind.DEPOT)])
        (child,) = found.children
        assert (child.tries, child.depot_tries) == (MAX_TRIES - 1, done + 1)
        shard = shard_row(child.todo, tries=child.tries, depot_tries=child.depot_tries)
    (outcome,) = accepted(shard, [failed(0, FailureKind.DEPOT)]).outcomes
    assert outcome.tries == MAX_TRIES - 1 + MAX_DEPOT_TRIES, "an outcome counts every try"


@given(shards, st.lists(row_reports, max_size=60))
def test_every_row_that_is_to_do_is_charged_whatever_became_of_it(shard: ShardRow, rows: list[RowReport]) -> None:
    todo = set(ordinals_of(shard.todo))
    tried = {row.ordinal for row in rows if row.ordinal in todo}
    found = accepted(shard, rows)
    assert found.gpu_seconds == pytest.approx(3.0 * len(tried))
    assert found.money == pytest.approx(0.006 * len(tried))
    assert sum(o.money for o in found.outcomes) == pytest.approx(0.006 * len(found.outcomes))


@given(shards, st.lists(row_reports, max_size=30))
def test_a_report_that_comes_again_is_not_charged_again(shard: ShardRow, rows: list[RowReport]) -> None:
    first = accepted(shard, rows)
    again = accepted(shard_row(first.todo, state=first.state, tries=shard.tries), rows)
    assert (again.gpu_seconds, again.money) == (0.0, 0.0)


def test_a_bad_source_fails_alone_and_at_once() -> None:
    found = accepted(shard_row(((0, 2),)), [failed(0, FailureKind.BAD_SOURCE), row(1)])
    assert [(o.ordinal, o.succeeded) for o in found.outcomes] == [(0, False), (1, True)]
    assert found.children == ()


def test_a_failure_without_a_reason_still_has_a_code() -> None:
    found = accepted(shard_row(((0, 1),), tries=9), [row(0, Tried.FAILED)])
    (outcome,) = found.outcomes
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.code) == (FailureKind.ENGINE, "engine_failed")


def test_of_two_rows_for_one_render_the_last_counts() -> None:
    found = accepted(shard_row(((0, 1),)), [row(0, Tried.HANDED_BACK), row(0)])
    assert (len(found.outcomes), found.children) == (1, ())


@given(ranges, st.data())
def test_what_is_known_already_is_settled_without_a_try(todo: Any, data: st.DataObject) -> None:
    known = data.draw(st.lists(st.sampled_from(ordinals_of(todo) or [0]), unique=True)) if todo else []
    found = reuse(shard_row(todo), [(n, f"{n:064x}", n + 100) for n in known])
    assert books_balance(todo, found)
    assert all(o.succeeded and o.tries == 0 and o.picture_id == o.ordinal + 100 for o in found.outcomes)
