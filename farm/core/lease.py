"""Who may work on a shard, until when. Times are the database's."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from farm.core.errors import FarmError
from farm.core.ids import Epoch, Fence, Session, ShardId


class LeaseLost(FarmError):
    code = "lease_lost"


@dataclass(frozen=True, slots=True)
class Lease:
    """A shard held by one renderer session under one fence.

    The expiry stands on the session, not on the shard: one heartbeat renews every lease that a session holds.
    """

    shard: ShardId
    session: Session
    fence: Fence
    expires_at: datetime

    def renewed(self, *, now: datetime, ttl: timedelta) -> "Lease":
        """Extend from *now*, not from the old expiry: a slow renderer must not bank time."""
        if self.expired(now):
            raise LeaseLost(f"The lease on shard {self.shard} ran out at {self.expires_at:%H:%M:%S}.")
        return replace(self, expires_at=now + ttl)

    def expired(self, now: datetime) -> bool:
        return now >= self.expires_at


@dataclass(frozen=True, slots=True)
class Leadership:
    """The right to decide. Every transaction of a scheduler checks that its epoch is still the newest."""

    holder: str
    epoch: Epoch


def accepts(*, fence: str, current: str | None, state: str) -> bool:
    """Whether a report under *fence* still counts for a shard in *state* whose newest fence is *current*.

    Leased: of course. Ready again but not yet taken by another: yes, no GPU work is thrown away. Done: yes, the reply
    was lost and it asks again; nothing of it is left to do, so nothing happens. Cancelled: what was finished counts.
    """
    return current is not None and fence == current and state in ("ready", "leased", "done", "cancelled")
