"""What a renderer with a fault reports is brought into a form that can be written down."""

from typing import Any

import pytest

from farm.core.sound import sound
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

PICTURE = Published(key="outputs/1/2/3-x/picture.png", sha256="a" * 64, bytes=9, width=64, height=48, format="png")


RENDITION = PublishedRendition(name="feed", sha256="b" * 64, bytes=5, width=8, height=10, format="webp")
MEASURED = Measured(
    tries=(TriedSeed(seed=7, structure=0.4, missed=("structure",)), TriedSeed(seed=8, phash="0f" * 8)), kept=1
)


def picture(**changes: Any) -> Published:
    return PICTURE.model_copy(update=changes)


def row(**changes: Any) -> RowReport:
    values: dict[str, Any] = {"ordinal": 1, "tried": Tried.SUCCEEDED, "fingerprint": "f" * 64, "picture": PICTURE}
    return RowReport(**(values | changes))


def report(*rows: RowReport) -> RenderReport:
    return RenderReport(seq=1, shard=1, fence="f", epoch=1, rows=rows)


def test_what_is_sound_stays_as_it_is() -> None:
    back = RowReport(ordinal=3, tried=Tried.HANDED_BACK, fingerprint="0" * 64)
    made = picture(renditions=(RENDITION,), measured=MEASURED)
    whole = report(row(seconds=Seconds(denoise=3.0), numerics="H100 batch=4"), row(ordinal=2, picture=made), back)
    assert sound(whole) is whole


@pytest.mark.parametrize(
    "changes",
    [
        {"picture": None},
        {"picture": PICTURE.model_copy(update={"width": 10**12})},
        {"picture": PICTURE.model_copy(update={"height": 0})},
        {"picture": PICTURE.model_copy(update={"bytes": -1})},
        {"picture": PICTURE.model_copy(update={"sha256": "no"})},
        {"picture": PICTURE.model_copy(update={"key": "weights/theirs"})},
        {"picture": picture(renditions=(RENDITION, RENDITION))},
        {"picture": picture(renditions=(RENDITION.model_copy(update={"name": "../../theirs"}),))},
        {"picture": picture(renditions=(RENDITION.model_copy(update={"format": "x/../picture.png"}),))},
        {"picture": picture(renditions=(RENDITION.model_copy(update={"bytes": 0}),))},
        {"fingerprint": "\x00"},
    ],
    ids=str,
)
def test_a_success_that_cannot_be_is_a_failed_try(changes: dict[str, Any]) -> None:
    good = row(ordinal=2)
    found = sound(report(row(**changes), good)).rows
    assert (found[0].tried, found[0].picture) == (Tried.FAILED, None)
    assert found[0].failure is not None
    assert (found[0].failure.kind, found[0].failure.code) == (FailureKind.ENGINE, "report_unsound")
    assert found[1] is good


@pytest.mark.parametrize("tried", [Tried.FAILED, Tried.HANDED_BACK])
def test_no_try_without_success_names_what_is_deleted_elsewhere(tried: Tried) -> None:
    """What a report names and nothing refers to is deleted from the depot."""
    source = picture(key="sources/1/" + "a" * 64)
    (found,) = sound(report(row(tried=tried, picture=source))).rows
    assert (found.tried, found.picture) == (tried, None)
    (found,) = sound(report(row(tried=tried))).rows
    assert found.picture == PICTURE


@pytest.mark.parametrize(("given", "kept"), [(-1000.0, 0.0), (1e300, 1e6)])
def test_seconds_that_nobody_can_have_measured_are_not_charged(given: float, kept: float) -> None:
    (found,) = sound(report(row(seconds=Seconds(denoise=given, load=2.0)))).rows
    assert found.seconds == Seconds(denoise=kept, load=2.0)
    assert found.picture == PICTURE


def test_words_that_postgresql_cannot_keep_are_mended() -> None:
    failure = Failure(kind=FailureKind.ENGINE, code="it_broke", detail="a\x00b" + "c" * 9000)
    (found,) = sound(report(row(tried=Tried.FAILED, picture=None, failure=failure))).rows
    assert found.failure is not None
    assert found.failure.detail.startswith("a\ufffdbccc")
    assert len(found.failure.detail) == 2000
    assert found.failure.kind is FailureKind.ENGINE


@pytest.mark.parametrize(
    "measured",
    [
        MEASURED.model_copy(update={"kept": 2}),
        MEASURED.model_copy(update={"kept": -1}),
        Measured(tries=(), kept=0),
        Measured(tries=(TriedSeed(seed=-1),), kept=0),
        Measured(tries=(TriedSeed(seed=1, phash="\x00" * 16),), kept=0),
        Measured(tries=(TriedSeed(seed=1, missed=("a\x00",)),), kept=0),
        Measured(tries=(TriedSeed(seed=1, identity_by="x" * 999),), kept=0),
    ],
    ids=str,
)
def test_measures_that_make_no_sense_are_left_out_and_the_picture_stays(measured: Measured) -> None:
    (found,) = sound(report(row(picture=picture(measured=measured)))).rows
    assert (found.tried, found.picture) == (Tried.SUCCEEDED, PICTURE)


def test_numerics_that_cannot_be_written_down_are_those_of_the_renderer() -> None:
    (found,) = sound(report(row(numerics="H100\x00"))).rows
    assert (found.numerics, found.picture) == ("", PICTURE)
