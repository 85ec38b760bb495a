"""What a user sends to have a finished render made again with changes."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Sent
from schemas.campaign import MaskEntry, Strength, StyleRef
from schemas.style import Size, Text

MAX_VARIANTS = 64
"""A refinement goes in the interactive lane, and that takes no more at a time."""


class RefineStart(StrEnum):
    """What a refinement is rendered from."""

    PICTURE = "picture"  # the render's own picture
    SOURCE = "source"  # what the render was made from, with the pictures that go with it


class Refine(Sent):
    """Changes to a render's recipe. What is left out stays as it was; a style without a version is the newest."""

    start: RefineStart = RefineStart.PICTURE
    strength: Strength | None = None
    prompt: Text | None = None
    style: StyleRef | None = None
    size: Size | None = None
    variants: int = Field(1, ge=1, le=MAX_VARIANTS)
    seed: int | None = Field(None, ge=0, lt=2**63)  # of the new campaign
    mask: MaskEntry | None = None
    name: str | None = Field(None, min_length=1, max_length=200, pattern=r"^[^\x00]*$")
