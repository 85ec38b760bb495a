"""What a team submits, and what it sees of it."""

from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, StringConstraints

from schemas.base import Sent, Wire
from schemas.recipe import Output
from schemas.style import Name, ResolvedStyle, Size, Text

SourceId = Annotated[str, StringConstraints(pattern=r"^src_[0-9a-f]{64}$")]
StyleRef = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}(@[1-9]\d{0,8})?$")]
"""``anime`` is the newest version, ``anime@3`` is that one."""

Strength = Annotated[float, Field(ge=0, le=1)]
Variables = dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")], Text]


T = TypeVar("T", str, float)


def _distinct(values: tuple[T, ...] | None) -> tuple[T, ...] | None:
    if values is not None and len(set(values)) != len(values):
        raise ValueError("the same value stands there twice")
    return values


class SourceEntry(Sent):
    """A source with what is its own: a prompt, and variables such as ``{sku}``."""

    source: SourceId
    prompt: Text | None = None
    variables: Variables = {}


class Block(Sent):
    """One matrix: sources x styles x sizes x prompts x strengths x variants."""

    sources: tuple[SourceEntry, ...] = Field(min_length=1, max_length=100_000)
    styles: Annotated[tuple[StyleRef, ...], AfterValidator(_distinct)] = Field(min_length=1, max_length=200)
    sizes: Annotated[tuple[Size, ...], AfterValidator(_distinct)] | None = Field(None, min_length=1, max_length=50)
    prompts: tuple[Text, ...] = Field(("",), min_length=1, max_length=1000)
    strengths: Annotated[tuple[Strength, ...], AfterValidator(_distinct)] | None = Field(
        None, min_length=1, max_length=50
    )
    variants: int = Field(1, ge=1, le=10_000)


class CampaignSpec(Sent):
    """A campaign as it is submitted. It never changes afterwards."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
    blocks: tuple[Block, ...] = Field(min_length=1, max_length=1000)
    seed: int = Field(0, ge=0, lt=2**63)
    output: Output = Output()
    priority: int = Field(50, ge=0, le=100)


class ResolvedSource(Wire):
    sha256: str
    name: str
    prompt: str | None
    variables: dict[str, str]


class ResolvedBlock(Wire):
    """A block after every name was looked up; an axis the user left out holds ``None`` once."""

    styles: tuple[ResolvedStyle, ...]
    sizes: tuple[Size | None, ...]
    sources: tuple[ResolvedSource, ...]
    prompts: tuple[str, ...]
    strengths: tuple[float | None, ...]
    variants: int


class ResolvedCampaign(Wire):
    """All that is needed to write out any render of a campaign, with no further look-up."""

    blocks: tuple[ResolvedBlock, ...]
    seed: int
    output: Output


class CampaignState(StrEnum):
    """Where a campaign stands. Its edges are in `farm.core.campaign`."""

    ACTIVE = "active"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    DONE = "done"


class Counts(Wire):
    """Renders of a campaign by what became of them; they add up to ``total``."""

    total: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    reused: int  # of the succeeded: taken over from an earlier campaign, not rendered again


class Campaign(Wire):
    """A campaign as the API shows it."""

    id: str
    name: str
    state: CampaignState
    priority: int
    parent: str | None
    counts: Counts
    created_at: str
    finished_at: str | None


class CampaignDetail(Campaign):
    spec: CampaignSpec


class RenderState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PictureLinks(Wire):
    """Presigned links to what a render left in the depot; each is good for ten minutes."""

    picture: str
    thumbnail: str
    provenance: str


class Render(Wire):
    """One cell of a campaign as the API shows it."""

    id: str
    ordinal: int
    state: RenderState
    source: str
    source_name: str
    style: Name
    style_version: int
    size: Size
    prompt: str
    strength: float
    variant: int
    seed: int
    sha256: str | None = None
    bytes: int | None = None
    format: str | None = None
    reused: bool = False
    code: str | None = None
    detail: str | None = None
    finished_at: str | None = None
    links: PictureLinks | None = None
