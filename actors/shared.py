"""What the threads of a renderer share. ``changed`` is its lock and its bell."""

import threading
from dataclasses import dataclass, field

from actors.engine.port import Held
from actors.ledger import Ledger
from actors.sources import Sources


@dataclass(slots=True)
class Shared:
    """Read and written only while ``changed`` is held."""

    ledger: Ledger
    window: int  # pictures fetched ahead for each shard
    changed: threading.Condition = field(default_factory=threading.Condition)
    sources: Sources = field(init=False)
    closing: bool = False
    fault: str = ""
    busy: str = ""
    warm_digest: str = ""
    held: Held = field(default_factory=Held)

    def __post_init__(self) -> None:
        self.sources = Sources(self.window)
