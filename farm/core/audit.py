"""What the audit makes of what it reads: promises P1 to P5 of the farm, and where they are broken."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from farm.core.campaign import ENDED
from farm.core.ids import CampaignId, Ordinal, show, show_render
from farm.core.keys import rendition_key
from farm.core.records import Ledger, PictureFile, TriesRow
from farm.core.shard import Ranges, size_of
from schemas.campaign import CampaignState


class Promise(StrEnum):
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"
    P5 = "P5"


PROMISES: Mapping[Promise, str] = {
    Promise.P1: "a render has one outcome, and it never changes",
    Promise.P2: "no accepted render is lost",
    Promise.P3: "succeeded means that picture and renditions exist and their sha256 match",
    Promise.P4: "no object without a picture after the grace time",
    Promise.P5: "work is repeated only for lost leases and counted retries",
}

COUNTED: Mapping[Promise, str] = {
    Promise.P1: "outcomes",
    Promise.P2: "campaigns",
    Promise.P3: "pictures",
    Promise.P4: "objects",
    Promise.P5: "outcomes",
}
"""What the audit counts when it says how much it looked at."""

EXAMPLES = 20
"""Findings that are kept of each promise and code; all of them are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    promise: Promise
    code: str
    subject: str  # a campaign, a render, a key or a table
    detail: str
    count: int = 1  # renders, objects or rows that it is about


@dataclass(frozen=True, slots=True)
class AuditReport:
    """``findings`` has examples of everything that is wrong; ``wrong`` counts all of it by promise."""

    checked: Mapping[Promise, int]
    wrong: Mapping[Promise, int]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not any(self.wrong.values())

    def codes(self) -> frozenset[str]:
        return frozenset(finding.code for finding in self.findings)


@dataclass(slots=True)
class Notes:
    """A report while it is being made."""

    checked: Counter[Promise] = field(default_factory=Counter)
    wrong: Counter[Promise] = field(default_factory=Counter)
    kept: Counter[tuple[Promise, str]] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.wrong[finding.promise] += finding.count
            self.kept[finding.promise, finding.code] += 1
            if self.kept[finding.promise, finding.code] <= EXAMPLES:
                self.findings.append(finding)

    def report(self) -> AuditReport:
        return AuditReport(
            checked={promise: self.checked[promise] for promise in Promise},
            wrong={promise: self.wrong[promise] for promise in Promise},
            findings=tuple(sorted(self.findings, key=lambda finding: finding.promise)),
            warnings=tuple(self.warnings),
        )


def audit_ledger(books: Ledger) -> Iterator[Finding]:
    """P1 and P2 of one campaign."""
    yield from _outcomes(books)
    yield from _told(books)
    yield from _whole(books)
    yield from _ended(books)


def _outcomes(books: Ledger) -> Iterator[Finding]:
    done = union(books.succeeded, books.failed)
    outside = minus_ranges(done, ((0, books.renders),))
    if outside:
        yield _p1(books, "outcome_outside", f"outcomes at {spell(outside)} of {books.renders} renders", outside)
    twice = books.outcomes - size_of(done)
    if twice:
        yield _p1(books, "outcome_twice", f"{twice} renders have a second outcome", twice)
    if books.strays:
        yield _p1(books, "outcome_of_another_team", f"{books.strays} outcomes belong to another team", books.strays)
    if books.counted != books.outcomes:
        detail = f"its shards count {books.counted} outcomes, there are {books.outcomes}"
        yield _p1(books, "count_differs", detail, abs(books.counted - books.outcomes))


def _told(books: Ledger) -> Iterator[Finding]:
    """What an event has told is what the outcome says still. Events are swept: not every outcome has one."""
    for outcome, told, now in (
        ("succeeded", books.told_succeeded, books.succeeded),
        ("failed", books.told_failed, books.failed),
    ):
        changed = minus_ranges(told, now)
        if changed:
            detail = f"an event told that {spell(changed)} {outcome}; the outcome says otherwise, or is gone"
            yield _p1(books, "outcome_changed", detail, changed)
    again = books.told - size_of(union(books.told_succeeded, books.told_failed))
    if again:
        yield _p1(books, "settled_again", f"events told {again} renders a second time", again)


def _whole(books: Ledger) -> Iterator[Finding]:
    done = union(books.succeeded, books.failed)
    waiting = union(books.open, books.cancelled)
    lost = minus_ranges(((0, books.renders),), union(done, waiting))
    if lost:
        yield _p2(books, "render_lost", f"{spell(lost)} have no outcome and stand in no shard", lost)
    both = common(done, waiting)
    if both:
        yield _p2(books, "done_and_to_do", f"{spell(both)} have an outcome and are still to do", both)
    shared = books.open_renders + books.cancelled_renders - size_of(waiting)
    if shared:
        yield _p2(books, "in_two_shards", f"{shared} renders stand in two shards", shared)
    outside = minus_ranges(waiting, ((0, books.renders),))
    if outside:
        yield _p2(books, "shard_outside", f"shards ask for {spell(outside)} of {books.renders} renders", outside)


def _ended(books: Ledger) -> Iterator[Finding]:
    if books.state in ENDED and books.open:
        yield _p2(books, "ended_with_open", f"it is {books.state}, and {spell(books.open)} are to do", books.open)
    if books.state is CampaignState.DONE and books.cancelled:
        detail = f"it is done, and {spell(books.cancelled)} were cancelled"
        yield _p2(books, "done_with_cancelled", detail, books.cancelled)


def _p1(books: Ledger, code: str, detail: str, what: Ranges | int) -> Finding:
    return Finding(Promise.P1, code, show("cmp", books.campaign), detail, _count(what))


def _p2(books: Ledger, code: str, detail: str, what: Ranges | int) -> Finding:
    return Finding(Promise.P2, code, show("cmp", books.campaign), detail, _count(what))


def _count(what: Ranges | int) -> int:
    return what if isinstance(what, int) else size_of(what)


def audit_tries(row: TriesRow) -> Iterator[Finding]:
    """P5. Failed tries that were forgiven before the outcome are not in it, those forgiven later are."""
    least = int(row.succeeded) + row.counted
    if not least <= row.tries <= least + row.forgiven:
        record = f"{row.counted} failed tries on record" + (" and a success" if row.succeeded else "")
        yield Finding(
            Promise.P5,
            "tries_differ",
            show_render(row.campaign, row.ordinal),
            f"its outcome speaks of {row.tries} tries; there are {record}, {row.forgiven} forgiven",
        )


def files_of(picture: PictureFile) -> Iterator[tuple[str, str, int, str]]:
    """What it is, its key, its bytes and its sha256: of the picture, and of each rendition."""
    yield "picture", picture.key, picture.bytes, picture.sha256
    for made in picture.renditions:
        yield "rendition", rendition_key(picture.key, made.name, made.format), made.bytes, made.sha256


def file_findings(
    what: str, key: str, size: int, sha256: str, *, found_bytes: int | None, found: str
) -> Iterator[Finding]:
    """P3 of one of `files_of`. *found_bytes* is None when there is no such object, *found* is its sha256."""
    if found_bytes is None:
        yield Finding(Promise.P3, f"{what}_missing", key, "the object is not in the depot")
    elif found_bytes != size:
        yield Finding(Promise.P3, f"{what}_size", key, f"it has {found_bytes} bytes, not {size}")
    elif found != sha256:
        detail = f"its sha256 is {found[:12]}..., not {sha256[:12]}..."
        yield Finding(Promise.P3, f"{what}_differs", key, detail)


def rendered_twice(campaign: CampaignId, ordinal: Ordinal, key: str) -> Finding:
    detail = f"there is another picture of it, {key}, and neither a lost lease nor a failed try explains it"
    return Finding(Promise.P5, "rendered_twice", show_render(campaign, ordinal), detail)


def spell(ranges: Ranges, most: int = 3) -> str:
    """``ordinals 3, 7 to 9 and 2 more ranges``."""
    shown = [str(lo) if hi == lo + 1 else f"{lo} to {hi - 1}" for lo, hi in ranges[:most]]
    more = f" and {len(ranges) - most} more ranges" if len(ranges) > most else ""
    return f"ordinals {', '.join(shown)}{more}"


def union(*parts: Ranges) -> Ranges:
    found: list[tuple[int, int]] = []
    for lo, hi in sorted(piece for part in parts for piece in part):
        if found and lo <= found[-1][1]:
            found[-1] = (found[-1][0], max(hi, found[-1][1]))
        else:
            found.append((lo, hi))
    return tuple(found)


def minus_ranges(ranges: Ranges, gone: Ranges) -> Ranges:
    """What of *ranges* is in none of *gone*; both sorted and disjoint."""
    found: list[tuple[int, int]] = []
    at = 0
    for begin, end in ranges:
        lo = begin
        while at < len(gone) and gone[at][1] <= lo:
            at += 1
        here = at
        while here < len(gone) and gone[here][0] < end:
            if lo < gone[here][0]:
                found.append((lo, gone[here][0]))
            lo = max(lo, gone[here][1])
            here += 1
        if lo < end:
            found.append((lo, end))
    return tuple(found)


def common(one: Ranges, other: Ranges) -> Ranges:
    return minus_ranges(one, minus_ranges(one, other))


FEW_LOST = 20
"""So many may be forgotten whatever their share is: a small farm's loss is no sign of a wrong bucket."""


def too_much_is_lost(*, lost: int, looked: int) -> bool:
    """More than a twentieth of the pictures: rather the wrong bucket, or one that is being restored, than a loss."""
    return lost > FEW_LOST and lost * 20 > looked
