"""What the audit makes of what it reads."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from farm.core.audit import (
    EXAMPLES,
    PROMISES,
    Finding,
    Notes,
    Promise,
    audit_ledger,
    audit_tries,
    common,
    file_findings,
    files_of,
    minus_ranges,
    spell,
    too_much_is_lost,
    union,
)
from farm.core.ids import CampaignId, Ordinal, TeamId
from farm.core.records import Ledger, PictureFile, TriesRow
from farm.core.shard import Ranges, ordinals_of, ranges_of
from schemas.campaign import CampaignState
from schemas.report import PublishedRendition
from tests.unit.core.samples import ranges

SOUND = Ledger(
    campaign=CampaignId(5),
    team=TeamId(1),
    state=CampaignState.ACTIVE,
    renders=10,
    succeeded=((0, 3), (4, 5)),
    failed=((3, 4),),
    outcomes=5,
    counted=5,
    open=((5, 8),),
    open_renders=3,
    cancelled=((8, 10),),
    cancelled_renders=2,
    told_succeeded=((0, 2),),  # older events are swept
    told_failed=((3, 4),),
    told=3,
)
DONE = Ledger(CampaignId(5), TeamId(1), CampaignState.DONE, 4, succeeded=((0, 4),), outcomes=4, counted=4)


@given(ranges, ranges)
def test_ranges_are_sets(one: Ranges, other: Ranges) -> None:
    these, those = set(ordinals_of(one)), set(ordinals_of(other))
    assert union(one, other) == ranges_of(sorted(these | those))
    assert minus_ranges(one, other) == ranges_of(sorted(these - those))
    assert common(one, other) == ranges_of(sorted(these & those))


@pytest.mark.parametrize("books", [SOUND, DONE])
def test_sound_books_are_passed(books: Ledger) -> None:
    assert list(audit_ledger(books)) == []


@pytest.mark.parametrize(
    ("changes", "promise", "code", "count"),
    [
        ({"succeeded": ((0, 3), (4, 5), (10, 12)), "outcomes": 7, "counted": 7}, "P1", "outcome_outside", 2),
        ({"outcomes": 6, "counted": 6}, "P1", "outcome_twice", 1),
        ({"succeeded": ((0, 5),), "outcomes": 6, "counted": 6}, "P1", "outcome_twice", 1),  # succeeded and failed
        ({"strays": 2}, "P1", "outcome_of_another_team", 2),
        ({"counted": 7}, "P1", "count_differs", 2),
        ({"told_succeeded": ((0, 2), (3, 4)), "told_failed": (), "told": 3}, "P1", "outcome_changed", 1),
        ({"told_failed": ((3, 5),), "told": 4}, "P1", "outcome_changed", 1),
        ({"told": 5}, "P1", "settled_again", 2),
        ({"open": ((6, 8),), "open_renders": 2}, "P2", "render_lost", 1),
        ({"open": ((4, 8),), "open_renders": 4}, "P2", "done_and_to_do", 1),
        ({"open_renders": 5}, "P2", "in_two_shards", 2),
        ({"cancelled": ((7, 10),), "cancelled_renders": 3}, "P2", "in_two_shards", 1),
        ({"cancelled": ((8, 11),), "cancelled_renders": 3}, "P2", "shard_outside", 1),
        ({"state": CampaignState.CANCELLED}, "P2", "ended_with_open", 3),
        ({"state": CampaignState.DONE}, "P2", "done_with_cancelled", 2),
    ],
)
def test_each_way_to_break_the_books_has_a_name(changes: dict[str, Any], promise: str, code: str, count: int) -> None:
    found = [finding for finding in audit_ledger(replace(SOUND, **changes)) if finding.code == code]
    assert [(finding.promise, finding.count) for finding in found] == [(promise, count)]
    assert found[0].subject.startswith("cmp_")


@pytest.mark.parametrize(
    ("row", "fine"),
    [
        (TriesRow(CampaignId(5), Ordinal(1), succeeded=True, tries=3, counted=2, forgiven=0), True),
        (TriesRow(CampaignId(5), Ordinal(1), succeeded=True, tries=2, counted=2, forgiven=0), False),
        (TriesRow(CampaignId(5), Ordinal(1), succeeded=False, tries=4, counted=4, forgiven=0), True),
        (TriesRow(CampaignId(5), Ordinal(1), succeeded=False, tries=4, counted=3, forgiven=0), False),
        (TriesRow(CampaignId(5), Ordinal(1), succeeded=False, tries=4, counted=1, forgiven=3), True),
        (TriesRow(CampaignId(5), Ordinal(1), succeeded=True, tries=2, counted=1, forgiven=3), True),
        (TriesRow(CampaignId(5), Ordinal(1), succeeded=True, tries=1, counted=1, forgiven=3), False),
        (TriesRow(CampaignId(5), Ordinal(1), succeeded=True, tries=6, counted=1, forgiven=3), False),
    ],
)
def test_tries_are_those_on_record(row: TriesRow, fine: bool) -> None:
    assert (list(audit_tries(row)) == []) is fine


@pytest.mark.parametrize(
    ("found", "codes"),
    [
        ((9, "a" * 64), []),
        ((None, ""), ["picture_missing"]),
        ((8, "a" * 64), ["picture_size"]),
        ((9, "b" * 64), ["picture_differs"]),
    ],
)
def test_a_picture_is_what_its_row_says(found: tuple[int | None, str], codes: list[str]) -> None:
    ((what, key, size, sha256),) = files_of(PictureFile(1, "outputs/1/2/3-a/picture.png", "a" * 64, 9))
    findings = file_findings(what, key, size, sha256, found_bytes=found[0], found=found[1])
    assert [finding.code for finding in findings] == codes


def test_a_rendition_is_looked_at_like_its_picture() -> None:
    made = PublishedRendition(name="feed", sha256="c" * 64, bytes=5, width=8, height=10, format="webp")
    picture = PictureFile(1, "outputs/1/2/3-a/picture.png", "a" * 64, 9, (made,))
    _, rendition = files_of(picture)
    assert rendition == ("rendition", "outputs/1/2/3-a/rendition-feed.webp", 5, "c" * 64)
    (finding,) = file_findings(*rendition, found_bytes=5, found="d" * 64)
    assert (finding.promise, finding.code, finding.subject) == (Promise.P3, "rendition_differs", rendition[1])


def test_everything_wrong_is_counted_and_some_of_it_shown() -> None:
    notes = Notes()
    notes.add(Finding(Promise.P4, "orphan", str(n), "", 2) for n in range(EXAMPLES + 5))
    notes.add([Finding(Promise.P1, "outcome_twice", "cmp", "")])
    report = notes.report()
    assert not report.ok
    assert report.wrong == {**dict.fromkeys(PROMISES, 0), Promise.P4: 2 * (EXAMPLES + 5), Promise.P1: 1}
    assert len(report.findings) == EXAMPLES + 1
    assert report.codes() == {"orphan", "outcome_twice"}
    assert Notes().report().ok


def test_ranges_are_spelt_in_words() -> None:
    assert spell(((1, 2), (4, 9), (12, 13), (20, 30), (40, 41))) == "ordinals 1, 4 to 8, 12 and 2 more ranges"


@pytest.mark.parametrize(
    ("lost", "looked", "too_much"), [(20, 20, False), (21, 21, True), (50, 1000, False), (51, 1000, True)]
)
def test_what_looks_like_a_wrong_bucket_is_not_forgotten(lost: int, looked: int, too_much: bool) -> None:
    assert too_much_is_lost(lost=lost, looked=looked) is too_much
