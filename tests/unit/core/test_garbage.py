"""What belongs to nobody, and when to doubt it."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.errors import BadRequest
from farm.core.garbage import MANY, MOST_AT_ONCE, alarm, attempt_at, check_grace, folder_of, in_use, most_orphans
from schemas.picture import PictureFormat
from schemas.report import PublishedRendition

FOLDER = "outputs/1/22/3-abc"


@pytest.mark.parametrize("form", list(PictureFormat))
def test_what_lies_beside_a_picture_in_use_is_in_use(form: PictureFormat) -> None:
    picture = f"{FOLDER}/picture.{form}"
    made = PublishedRendition(name="feed", sha256="c" * 64, bytes=5, width=8, height=10, format="webp")
    folder = folder_of(picture, [made])
    assert f"{FOLDER}/rendition-feed.webp" in folder
    keys = [*folder, "outputs/1/22/3-abd/thumbnail.webp", f"{FOLDER}x/picture.{form}"]
    assert in_use(keys, {picture}) == set(folder)


def test_a_picture_of_another_attempt_keeps_nothing_here() -> None:
    assert in_use(folder_of(f"{FOLDER}/picture.png"), {"outputs/1/22/3-other/picture.png"}) == set()


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("outputs/1/22/3-abc/picture.png", (22, 3)),
        ("outputs/1/22/30-a-b/thumbnail.webp", (22, 30)),
        ("outputs/1/22/3-abc", None),
        ("outputs/1/x/3-abc/picture.png", None),
        ("outputs/1/22/three-abc/picture.png", None),
        ("outputs/readme.txt", None),
    ],
)
def test_a_key_names_its_render(key: str, found: tuple[int, int] | None) -> None:
    assert attempt_at(key) == found


@given(st.integers(0, 10**9))
def test_a_twentieth_may_go_a_thousand_always_and_a_hundred_thousand_at_most(objects: int) -> None:
    most = most_orphans(objects)
    assert 1_000 <= most <= MOST_AT_ONCE
    assert most == 1_000 or most <= objects / 20
    assert alarm(objects=objects, orphans=most, pictures=1) is None
    assert alarm(objects=objects, orphans=most + 1, pictures=1) is not None


def test_a_database_without_pictures_is_doubted_sooner() -> None:
    assert alarm(objects=10**6, orphans=MANY - 1, pictures=0) is None
    doubt = alarm(objects=10**6, orphans=MANY, pictures=0)
    assert doubt is not None
    assert "no picture" in doubt.why


def test_the_grace_must_be_longer_than_lease_and_links() -> None:
    times = {"lease_ttl": timedelta(seconds=30), "link_ttl": timedelta(hours=2)}
    check_grace(timedelta(hours=3), **times)
    with pytest.raises(BadRequest, match="FARM_GARBAGE_GRACE") as refused:
        check_grace(timedelta(hours=2, seconds=30), **times)
    assert refused.value.code == "bad_settings"
