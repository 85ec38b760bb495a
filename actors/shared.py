"""What the threads of a renderer share. ``changed`` is its lock and its bell."""

import threading
import time
from dataclasses import dataclass, field

from actors.clock import Clock
from actors.engine.port import Engine
from actors.ledger import Ledger
from actors.sources import Sources


@dataclass(slots=True)
class Shared:
    """Read and written only while ``changed`` is held."""

    ledger: Ledger
    window: int  # pictures fetched ahead for each shard
    changed: threading.Condition = field(default_factory=threading.Condition)
    sources: Sources = field(init=False)
    clock: Clock = field(default_factory=lambda: Clock(time.monotonic(), "load"))
    engine: Engine | None = None  # once it is open
    numerics: str = ""  # the engine's own
    closing: bool = False
    fault: str = ""
    busy: str = ""
    warm_digest: str = ""

    def __post_init__(self) -> None:
        self.sources = Sources(self.window)
