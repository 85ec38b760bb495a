"""Weights, as a team adds and lists them."""

from schemas.base import Wire
from schemas.style import Name


class CheckpointFile(Wire):
    path: str
    sha256: str
    bytes: int


class Checkpoint(Wire):
    """``layout`` is ``folder`` (diffusers) or ``single`` (one .safetensors file)."""

    id: str
    name: Name
    digest: str
    layout: str
    files: tuple[CheckpointFile, ...]
    created_at: str


class Lora(Wire):
    """``targets`` counts the weights it changes; ``rank`` is the largest of them."""

    id: str
    name: Name
    digest: str
    base: str  # name of the checkpoint it was checked against
    rank: int
    targets: int
    bytes: int
    trigger_words: tuple[str, ...]
    licence: str
    expires_at: str | None
    created_at: str
