"""Reports as they may be written down: what a renderer with a fault says must not stop those of others."""

import re
from math import isfinite

from schemas.report import (
    Failure,
    FailureKind,
    Measured,
    Published,
    PublishedRendition,
    RenderReport,
    RowReport,
    Seconds,
    Tried,
    TriedSeed,
)

_LONGEST = 1e6
"""Seconds that a stage of one row may claim: more than eleven days is no measurement."""

_TEXT = 2000
_INT4, _INT8 = 2**31 - 1, 2**63 - 1
_HEX = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"outputs/[!-~]{1,500}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_WORD = re.compile(r"[a-z_]{1,40}")
_PHASH = re.compile(r"(?:[0-9a-f]{16})?")
_MOST = 100
"""Renditions, or tries: a report with more of them is none."""


def sound(report: RenderReport) -> RenderReport:
    """The report with rows that can be settled; the same object when nothing is wrong, which is nearly always."""
    rows = tuple(_row(row) for row in report.rows)
    same = all(new is old for new, old in zip(rows, report.rows, strict=True))
    return report if same else report.model_copy(update={"rows": rows})


def _row(row: RowReport) -> RowReport:
    changes: dict[str, object] = {}
    if not _fair(row.seconds):
        changes["seconds"] = Seconds(**{name: _clamped(value) for name, value in row.seconds.model_dump().items()})
    if row.failure is not None and not _plain(row.failure):
        changes["failure"] = Failure(
            kind=row.failure.kind, code=_clean(row.failure.code, 100), detail=_clean(row.failure.detail, _TEXT)
        )
    if not row.numerics.isprintable() or len(row.numerics) > _TEXT:
        changes["numerics"] = ""  # the renderer's own
    if not _HEX.fullmatch(row.fingerprint):
        return _refused(row, "its fingerprint is none")
    if row.tried is Tried.SUCCEEDED and (row.picture is None or not _whole(row.picture)):
        return _refused(row, "it names no picture that can be")
    if row.picture is not None and not _whole(row.picture):
        changes["picture"] = None  # of a try without success it would be deleted, whatever its key names
    elif row.picture is not None and row.picture.measured is not None and not _fair_measures(row.picture.measured):
        changes["picture"] = row.picture.model_copy(update={"measured": None})
    return row.model_copy(update=changes) if changes else row


def _refused(row: RowReport, why: str) -> RowReport:
    failure = Failure(
        kind=FailureKind.ENGINE,
        code="report_unsound",
        detail=f"The renderer's report of this render makes no sense: {why}.",
    )
    fingerprint = row.fingerprint if _HEX.fullmatch(row.fingerprint) else "0" * 64
    return RowReport(ordinal=row.ordinal, tried=Tried.FAILED, fingerprint=fingerprint, failure=failure)


def _fair(seconds: Seconds) -> bool:
    total = seconds.fetch + seconds.load + seconds.encode + seconds.denoise + seconds.decode + seconds.publish
    least = min(seconds.fetch, seconds.load, seconds.encode, seconds.denoise, seconds.decode, seconds.publish)
    return least >= 0 and total <= _LONGEST  # false for what is no number, too


def _clamped(value: float) -> float:
    return min(max(0.0, value), _LONGEST) if isfinite(value) else 0.0


def _plain(failure: Failure) -> bool:
    return "\x00" not in failure.detail + failure.code and len(failure.detail) <= _TEXT and len(failure.code) <= 100


def _clean(text: str, length: int) -> str:
    return text.replace("\x00", "\ufffd")[:length]


def _whole(picture: Published) -> bool:
    names = _KEY.fullmatch(picture.key) and _can_be(picture)
    made = picture.renditions
    return bool(names) and (not made or (len(made) <= _MOST and _each_once(made) and all(map(_can_be, made))))


def _can_be(file: Published | PublishedRendition) -> bool:
    sizes = 0 < file.width <= _INT4 and 0 < file.height <= _INT4 and 0 < file.bytes <= _INT8
    return sizes and bool(_HEX.fullmatch(file.sha256)) and bool(_WORD.fullmatch(file.format))


def _each_once(made: tuple[PublishedRendition, ...]) -> bool:
    names = {rendition.name for rendition in made if _NAME.fullmatch(rendition.name)}
    return len(names) == len(made)


def _fair_measures(measured: Measured) -> bool:
    return 0 <= measured.kept < len(measured.tries) <= _MOST and all(map(_fair_try, measured.tries))


def _fair_try(one: TriedSeed) -> bool:
    words = (*one.missed, one.identity_by) if one.identity_by else one.missed
    sane = 0 <= one.seed <= _INT8 and len(words) <= _MOST and all(map(_WORD.fullmatch, words))
    return sane and bool(_PHASH.fullmatch(one.phash))
