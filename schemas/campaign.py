"""What a team submits, and what it sees of it."""

from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from schemas.base import Sent, Wire
from schemas.order import Lane
from schemas.quote import Money, Quote
from schemas.recipe import Blended, Mask, Output
from schemas.report import Measured, PublishedRendition
from schemas.style import Name, ResolvedStyle, Size, SourceId, Text

RenderId = Annotated[str, StringConstraints(pattern=r"^rnd_[0-9a-z]{13}_\d{1,18}$")]
StyleRef = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}(@[1-9]\d{0,8})?$")]
"""``anime`` is the newest version, ``anime@3`` is that one."""

Strength = Annotated[float, Field(ge=0, le=1)]
Variables = dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")], Text]


T = TypeVar("T", str, float)


def _distinct(values: tuple[T, ...] | None) -> tuple[T, ...] | None:
    if values is not None and len(set(values)) != len(values):
        raise ValueError("the same value stands there twice")
    return values


class MaskEntry(Sent):
    """Where a source is painted over: white is painted, black comes back as it was."""

    picture: SourceId
    feather: int = Field(8, ge=0, le=256)  # pixels of the render over which the two sides mix
    invert: bool = False


class BlendEntry(Sent):
    """A picture laid over the source before it is rendered: everywhere by ``weight``, or where ``mask`` is white."""

    picture: SourceId
    weight: float = Field(0.5, gt=0, le=1)
    mask: SourceId | None = None


class SourceEntry(Sent):
    """A source with what is its own: a prompt, variables such as ``{sku}``, and pictures that go with it.

    ``control`` is its depth or pose, ``references`` take the place of those of the style, ``made_from`` is the render
    whose picture it is.
    """

    source: SourceId
    prompt: Text | None = None
    variables: Variables = {}
    mask: MaskEntry | None = None
    control: SourceId | None = None
    references: tuple[SourceId, ...] = Field((), max_length=4)
    blend: tuple[BlendEntry, ...] = Field((), max_length=8)
    made_from: RenderId | None = None


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
    first_variant: int = Field(0, ge=0, le=10_000_000)  # the number of the first: its noise hangs on it


class Budget(Sent):
    """What may be spent. At ``warn_at`` of it people are warned; at all of it nothing more starts."""

    gpu_seconds: float | None = Field(None, gt=0)
    money: Money | None = Field(None, gt=0)
    warn_at: float = Field(0.8, gt=0, le=1)


class ProofSpec(Sent):
    """A sample that is rendered first and waits for approval. Without a number: one of each style x size x strength."""

    renders: int | None = Field(None, ge=1, le=500)


class CampaignSpec(Sent):
    """A campaign as it is submitted. What it renders never changes afterwards."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
    blocks: tuple[Block, ...] = Field(min_length=1, max_length=1000)
    seed: int = Field(0, ge=0, lt=2**63)
    output: Output = Output()
    priority: int = Field(50, ge=0, le=100)  # within the team; higher goes first
    deadline: AwareDatetime | None = None
    budget: Budget | None = None
    proof: ProofSpec | None = None
    parent: Annotated[str, StringConstraints(pattern=r"^cmp_[0-9a-z]{13}$")] | None = None  # whose place it takes
    lane: Lane = Lane.BULK  # interactive: at most 64 renders, which go ahead of every bulk render
    gpu: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None  # only on this type of GPU
    off_peak: bool = False  # only in the hours that the operator has named off-peak


class CampaignAmend(Sent):
    """What may still be changed while a campaign is under way. A field that is left out stays as it is."""

    priority: int | None = Field(None, ge=0, le=100)
    deadline: AwareDatetime | None = None
    budget: Budget | None = None


class CampaignMove(Sent):
    """Where a campaign goes in its team's queue: to the front, to the back, or before another of the same team."""

    to: Annotated[str, StringConstraints(pattern=r"^(front|back)$")] | None = None
    before: Annotated[str, StringConstraints(pattern=r"^cmp_[0-9a-z]{13}$")] | None = None


class ResolvedSource(Wire):
    sha256: str
    name: str
    prompt: str | None
    variables: dict[str, str]
    mask: Mask | None = None
    control: str | None = None  # sha256
    references: tuple[str, ...] = ()  # sha256
    blend: tuple[Blended, ...] = ()
    made_from: str | None = None


class ResolvedBlock(Wire):
    """A block after every name was looked up; an axis the user left out holds ``None`` once."""

    styles: tuple[ResolvedStyle, ...]
    sizes: tuple[Size | None, ...]
    sources: tuple[ResolvedSource, ...]
    prompts: tuple[str, ...]
    strengths: tuple[float | None, ...]
    variants: int
    first_variant: int = 0


class ResolvedCampaign(Wire):
    """All that is needed to write out any render of a campaign, with no further look-up."""

    blocks: tuple[ResolvedBlock, ...]
    seed: int
    output: Output


class CampaignState(StrEnum):
    """Where a campaign stands. Its edges are in `farm.core.campaign`."""

    PROOFING = "proofing"  # its proof is being rendered
    AWAITING_APPROVAL = "awaiting_approval"  # the proof is there; the rest waits for a yes
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


class Spent(Wire):
    """GPU time of every try, successful or not, and what it cost."""

    gpu_seconds: float = 0.0
    money: Money = 0.0


class PausedBy(StrEnum):
    """Who paused a campaign. One that a budget paused goes on by itself when the budget is raised."""

    USER = "user"
    BUDGET = "budget"  # the campaign's
    TEAM_BUDGET = "team_budget"


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
    deadline: str | None = None
    lane: Lane = Lane.BULK
    paused_by: PausedBy | None = None
    warnings: tuple[str, ...] = ()  # codes: deadline_at_risk, budget_near, budget_spent


class CampaignDetail(Campaign):
    """``quote`` is what was foretold when it was submitted, ``spent`` what it has cost so far."""

    spec: CampaignSpec
    budget: Budget | None = None
    quote: Quote | None = None
    spent: Spent = Spent()
    warning_details: dict[str, str] = {}  # by code: by how much, and what would help


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
    renditions: dict[str, str] = {}  # by name


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
    numerics: str | None = None
    measured: Measured | None = None
    made_from: str | None = None
    renditions: tuple[PublishedRendition, ...] = ()
    links: PictureLinks | None = None
