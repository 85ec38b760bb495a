"""Nodes that renderers run on."""

from dataclasses import dataclass


@dataclass(slots=True)
class Node:
    """One GPU."""

    name: str
    fleet: str
    gpu: str
    speed: float
    up: bool = True
    broken: bool = False  # every render on it fails
    gone_at: float | None = None  # it was told to go by then
    actor: str | None = None  # the renderer that has it
