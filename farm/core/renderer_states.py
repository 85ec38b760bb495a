"""The states of a renderer, as people see them, and the edges between them."""

STARTING, IDLE, BUSY, DRAINING, QUARANTINED, LOST = "starting", "idle", "busy", "draining", "quarantined", "lost"

RENDERER_EDGES: frozenset[tuple[str, str]] = frozenset(
    {
        (STARTING, IDLE),
        (STARTING, QUARANTINED),  # a quarantine stands on the name, not on the process
        (STARTING, LOST),
        (IDLE, BUSY),
        (IDLE, DRAINING),  # its node was told to go, or it is not wanted any more
        (IDLE, QUARANTINED),  # an operator did it
        (IDLE, LOST),
        (BUSY, IDLE),
        (BUSY, DRAINING),
        (BUSY, QUARANTINED),
        (BUSY, LOST),
        (QUARANTINED, IDLE),  # released: a probe was rendered, or an operator did it
        (QUARANTINED, BUSY),
        (QUARANTINED, DRAINING),
        (QUARANTINED, LOST),
        (DRAINING, LOST),  # it has ended
        (LOST, STARTING),  # Ray starts another under the same name
    }
)
