"""Checks promises P1 to P5 on a farm, while it works.

What the database says of itself is read in one snapshot. What lies in the depot is looked at later, so each suspicion
is checked once more against the database as it is by then: a picture may have been forgotten, an attempt settled.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from itertools import islice
from typing import BinaryIO, Protocol, TypeVar

from farm.core.audit import (
    AuditReport,
    Finding,
    Notes,
    Promise,
    audit_ledger,
    audit_tries,
    file_findings,
    files_of,
    rendered_twice,
    too_much_is_lost,
)
from farm.core.errors import NotFound
from farm.core.garbage import OUTPUTS, attempt_at, in_use, pictures_beside
from farm.core.ids import CampaignId, Ordinal, first_of, show
from farm.core.records import Ledger, PictureFile, TriesRow
from farm.ports import Depot

_PAGE = 1_000
_READERS = 8
"""Objects read at once."""

_BLOCK_BYTES = 1 << 20

T = TypeVar("T")
U = TypeVar("U")


class Snapshot(Protocol):
    """The database as it was at one moment."""

    now: datetime
    last_picture: int

    def ledgers(self) -> Iterable[tuple[Ledger, datetime]]: ...
    def tries(self, campaign: CampaignId) -> Sequence[TriesRow]: ...
    def homeless(self) -> dict[CampaignId, int]: ...
    def without_key(self) -> Sequence[str]: ...
    def beyond(self) -> int: ...


class Books(Protocol):
    """What the audit asks of the database. `farm.store.auditing.AuditStore` answers."""

    def snapshot(self) -> AbstractContextManager[Snapshot]: ...
    def pictures(self, *, after: int, last: int, limit: int) -> list[PictureFile]: ...
    def sample(self, *, last: int, limit: int) -> list[PictureFile]: ...
    def forget(self, keys: Sequence[str]) -> int: ...
    def lost(self) -> int: ...
    def keys_in_use(self, keys: Sequence[str]) -> frozenset[str]: ...
    def tombstones_of(self, keys: Sequence[str]) -> dict[str, datetime]: ...
    def unexplained(self, pictures: Sequence[tuple[str, CampaignId, Ordinal]]) -> frozenset[str]: ...


def audit(
    books: Books,
    depot: Depot,
    *,
    grace: timedelta,
    attempts_kept: timedelta,
    sample: int | None = None,
    forget: bool = False,
    force: bool = False,
) -> AuditReport:
    """*sample*: so many pictures are read, drawn at random; all without it.

    *forget*: pictures whose objects are gone or differ are not taken over by other renders from now on. Their outcomes
    stay what they are (P1); a campaign that is submitted again renders them anew. Not when they are more than a
    twentieth of what was looked at, unless by *force*.

    *grace*: how long an object that nothing refers to may lie there; longer than the farm's own grace and the time
    between two of its looks. *attempts_kept*: of older campaigns failed tries may be swept, so P5 is not checked.
    """
    notes = Notes()
    with books.snapshot() as view:
        now, last_picture = view.now, view.last_picture
        _tables(notes, view)
        _campaigns(notes, view, tries_since=now - attempts_kept)
    gone = _pictures(notes, books, depot, last=last_picture, sample=sample)
    if forget and gone:
        _forget(notes, books, gone, force=force)
    lost = books.lost()
    if lost:
        notes.warnings.append(
            f"Pictures that are lost and forgotten: {lost}. Submit their campaigns again to render them."
        )
    _objects(notes, books, depot, before=now - grace, tries_since=now - attempts_kept)
    return notes.report()


def _tables(notes: Notes, view: Snapshot) -> None:
    notes.add(
        Finding(Promise.P1, "no_primary_key", table, "nothing keeps a render from having two outcomes in this table")
        for table in view.without_key()
    )
    notes.add(
        Finding(Promise.P1, "outcome_outside", show("cmp", campaign), f"{count} outcomes of no campaign", count)
        for campaign, count in view.homeless().items()
    )
    beyond = view.beyond()
    if beyond:
        many = "1000 or more" if beyond >= 1_000 else str(beyond)
        notes.warnings.append(
            f"{many} outcomes are in the partition outcome_beyond, of campaigns later than 2035: "
            "partitions for those years are to be made."
        )


def _campaigns(notes: Notes, view: Snapshot, *, tries_since: datetime) -> None:
    for ledger, submitted_at in view.ledgers():
        notes.checked[Promise.P1] += ledger.outcomes
        notes.checked[Promise.P2] += 1
        notes.add(audit_ledger(ledger))
        if submitted_at >= tries_since:
            notes.checked[Promise.P5] += ledger.outcomes
            notes.add(finding for row in view.tries(ledger.campaign) for finding in audit_tries(row))


# P3


def _pictures(notes: Notes, books: Books, depot: Depot, *, last: int, sample: int | None) -> list[str]:
    """Keys of pictures whose objects are gone or differ."""
    gone: list[str] = []
    pages = [books.sample(last=last, limit=sample)] if sample is not None else _all_pictures(books, last)
    for page in pages:
        found = _beside(lambda picture: _look(depot, picture), page)
        wrong = [(picture, findings) for picture, findings in zip(page, found, strict=True) if findings]
        still = books.keys_in_use([picture.key for picture, _ in wrong]) if wrong else frozenset()
        notes.checked[Promise.P3] += len(page)
        notes.add(finding for picture, findings in wrong if picture.key in still for finding in findings)
        gone += still
    return gone


def _forget(notes: Notes, books: Books, gone: Sequence[str], *, force: bool) -> None:
    looked = notes.checked[Promise.P3]
    if too_much_is_lost(lost=len(gone), looked=looked) and not force:
        notes.warnings.append(
            f"Of {looked} pictures {len(gone)} are lost, more than a twentieth, so none was forgotten. If this is the "
            "right bucket, say `farm audit --forget-lost --force`."
        )
        return
    books.forget(gone)


def _all_pictures(books: Books, last: int) -> Iterator[list[PictureFile]]:
    after = 0
    while page := books.pictures(after=after, last=last, limit=_PAGE):
        yield page
        after = page[-1].id


def _look(depot: Depot, picture: PictureFile) -> list[Finding]:
    found: list[Finding] = []
    for what, key, size, sha256 in files_of(picture):
        found_bytes, digest = _read(depot, key)
        found += file_findings(what, key, size, sha256, found_bytes=found_bytes, found=digest)
    return found


def _read(depot: Depot, key: str) -> tuple[int | None, str]:
    """Bytes and sha256 of an object; no bytes when there is none."""
    try:
        with depot.open(key) as body:
            return _digest(body)
    except NotFound:
        return None, ""


def _digest(body: BinaryIO) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while block := body.read(_BLOCK_BYTES):
        digest.update(block)
        size += len(block)
    return size, digest.hexdigest()


# P4, and what of P5 can be seen in the depot only


def _objects(notes: Notes, books: Books, depot: Depot, *, before: datetime, tries_since: datetime) -> None:
    keys = (key for key, _ in depot.list(OUTPUTS))
    while page := list(islice(keys, _PAGE)):
        notes.checked[Promise.P4] += len(page)
        pictures = sorted({picture for key in page for picture in pictures_beside(key)})
        used = in_use(page, books.keys_in_use(pictures))
        orphans = [key for key in page if key not in used]
        if orphans:
            _orphans(notes, books, depot, orphans, before)
            _second_pictures(notes, books, orphans, tries_since)


def _orphans(notes: Notes, books: Books, depot: Depot, keys: Sequence[str], before: datetime) -> None:
    """An object becomes an orphan when it is written, or when its tombstone is set: its picture was forgotten."""
    written = dict(zip(keys, _beside(depot.written_at, keys), strict=True))
    found_at = books.tombstones_of(keys)
    old = [key for key in keys if (at := written[key]) is not None and found_at.get(key, at) < before]
    if not old:
        return
    pictures = sorted({picture for key in old for picture in pictures_beside(key)})
    used = in_use(old, books.keys_in_use(pictures))  # it was settled since
    notes.add(
        Finding(Promise.P4, "orphan", key, f"no picture refers to it since {found_at.get(key, written[key]):%F %T} UTC")
        for key in old
        if key not in used
    )


def _second_pictures(notes: Notes, books: Books, keys: Sequence[str], tries_since: datetime) -> None:
    oldest = first_of(tries_since)  # an id begins with its campaign's time
    made_for = {key: attempt_at(key) for key in keys if "/picture." in key}
    pictures = {key: at for key, at in made_for.items() if at is not None and at[0] >= oldest}
    if pictures:
        again = books.unexplained([(key, *at) for key, at in pictures.items()])
        notes.add(rendered_twice(*pictures[key], key) for key in sorted(again))


def _beside(work: Callable[[T], U], items: Sequence[T]) -> list[U]:
    with ThreadPoolExecutor(_READERS, thread_name_prefix="audit") as pool:
        return list(pool.map(work, items))
