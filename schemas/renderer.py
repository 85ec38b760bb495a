"""Renderers, as the API lists them."""

from schemas.base import Wire


class RendererView(Wire):
    name: str
    state: str  # starting, idle, busy, draining, quarantined, lost
    doing: str
    gpu: str
    node: str
    shards: int
    waiting: int
    checkpoint: str
    seen_at: str
    quarantine: str = ""  # why, when it is quarantined
