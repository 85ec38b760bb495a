"""What in the depot belongs to nobody, and when deleting it would be a mistake."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta

from farm.core.errors import BadRequest
from farm.core.ids import CampaignId, Ordinal
from farm.core.keys import provenance_key, rendition_key, thumbnail_key
from schemas.picture import PictureFormat
from schemas.report import PublishedRendition

OUTPUTS = "outputs/"
"""Below it lie the pictures, each in the folder of its attempt with what belongs to it. Sources and weights lie
elsewhere and are never collected: a source that no campaign refers to may be what tomorrow's campaign is made of."""

ORPHAN, RETENTION = "orphan", "retention"
"""Reasons on a tombstone: nothing ever referred to the object that we know of; its team's retention time is over."""

LEAST_SUSPICIOUS = 1_000
MOST_AT_ONCE = 100_000
"""Orphans. Below the first they are never suspicious, above the second always: some thousand lost leases at once."""

MANY = 100
"""Orphans in a farm of which the database says that it never made a picture."""


_PICTURES = tuple(f"/picture.{form}" for form in PictureFormat)


def pictures_beside(key: str) -> tuple[str, ...]:
    """The pictures, any of which in use means that the object at *key* belongs to it."""
    folder = key.rpartition("/")[0]
    return key, *[folder + name for name in _PICTURES]


def folder_of(picture_key: str, renditions: Iterable[PublishedRendition] = ()) -> tuple[str, ...]:
    """A picture and what lies beside it."""
    made = (rendition_key(picture_key, rendition.name, rendition.format) for rendition in renditions)
    return picture_key, thumbnail_key(picture_key), provenance_key(picture_key), *made


def in_use(keys: Iterable[str], pictures: Collection[str]) -> set[str]:
    """Which of *keys* belong to one of the *pictures*."""
    return {key for key in keys if any(picture in pictures for picture in pictures_beside(key))}


def attempt_at(key: str) -> tuple[CampaignId, Ordinal] | None:
    """The render that an object below `OUTPUTS` was made for; None when the key is none of ours."""
    parts = key.split("/")  # outputs/<team>/<campaign>/<ordinal>-<token>/<file>
    if len(parts) != 5:
        return None
    campaign, ordinal = parts[2], parts[3].partition("-")[0]
    if not (campaign.isascii() and campaign.isdigit() and ordinal.isascii() and ordinal.isdigit()):
        return None
    return CampaignId(int(campaign)), Ordinal(int(ordinal))


@dataclass(frozen=True, slots=True)
class Alarm:
    """So much would go that the database is to be doubted rather than the depot."""

    why: str


def most_orphans(objects: int) -> int:
    """As many orphans may go at once when the depot holds *objects* pictures, thumbnails and notes."""
    return min(MOST_AT_ONCE, max(LEAST_SUSPICIOUS, objects // 20))


def alarm(*, objects: int, orphans: int, pictures: int) -> Alarm | None:
    """*pictures*: how many the database has. One restored from an old backup does not know what came after it."""
    if pictures == 0 and orphans >= MANY:
        return Alarm(f"The database has no picture at all, and {orphans} objects or more would go.")
    most = most_orphans(objects)
    if orphans > most:
        return Alarm(f"More than {most} of {objects} objects would go at once.")
    return None


def check_grace(grace: timedelta, *, lease_ttl: timedelta, link_ttl: timedelta) -> None:
    """Raises `BadRequest`: for so long a renderer may still upload, and then report, what nothing refers to yet."""
    least = lease_ttl + link_ttl
    if grace <= least:
        raise BadRequest(
            f"FARM_GARBAGE_GRACE is {grace}, and must be longer than FARM_LEASE_TTL and FARM_LINK_TTL together "
            f"({least}): pictures would be deleted while their renderer may still report them.",
            code="bad_settings",
        )
