"""What the scheduler tells a renderer. Self-contained: a renderer holds neither database nor depot credentials."""

from enum import StrEnum

from schemas.base import Wire
from schemas.recipe import EngineKey, Recipe

WIRE_MAJOR = 2
"""Raised when the meaning of a message changes; a renderer of another major version is drained, not adopted."""


class Lane(StrEnum):
    """Interactive work, such as a proof, goes ahead at the next free row of a pass; bulk waits its turn."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class FileRef(Wire):
    """A file in the depot, by content. The reader checks the sha256 of what it got."""

    path: str  # relative, such as unet/config.json; a single-file checkpoint is its one entry
    url: str  # presigned GET
    sha256: str
    bytes: int


class CheckpointRef(Wire):
    """A diffusers folder (several files) or a single .safetensors file (one)."""

    name: str
    digest: str
    files: tuple[FileRef, ...]


class LoraRef(Wire):
    name: str
    digest: str  # sha256 of the file
    url: str
    bytes: int


class PutLinks(Wire):
    """Where a row's picture goes. The keys are unique to this attempt, so nothing is ever overwritten."""

    picture_key: str
    picture: str  # presigned PUT
    thumbnail: str
    provenance: str
    renditions: dict[str, str] = {}  # presigned PUT by name


class OrderRow(Wire):
    ordinal: int
    recipe: Recipe
    fingerprint: str  # hex
    links: PutLinks
    made_from: str = ""  # id of the render whose picture is the source


class ShardOrder(Wire):
    """A shard, leased to one renderer session under one fence."""

    wire: int = WIRE_MAJOR
    shard: int
    fence: str  # random UUID, new with each lease
    epoch: int
    number: int = 0  # of the leader's orders, counted within its epoch: an older one that comes late is known by it
    campaign: int
    lane: Lane = Lane.BULK
    engine: EngineKey
    engine_digest: str = ""  # of `engine`, as the farm digests it; the renderer repeats it in `Warm.engine_key`
    checkpoint: CheckpointRef
    loras: tuple[LoraRef, ...]
    sources: dict[str, str]  # sha256 -> presigned GET, of sources, masks, control and reference pictures
    rows: tuple[OrderRow, ...]
