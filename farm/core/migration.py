"""Which migrations are run when.

A release comes with migrations that expand (what the former release does not mind) and then some that contract (they
take away what the former release was the last to use). While a farm is rolled over, expand goes before the new
processes and contract after the old ones. So an expand that has a contract before it, one that was not run yet, belongs
to a later release than the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from farm.core.errors import Refused


class Phase(StrEnum):
    EXPAND = "expand"
    CONTRACT = "contract"


@dataclass(frozen=True, slots=True)
class Revision:
    id: str
    phase: Phase
    name: str  # 0004_expand_lost_pictures


def pending(chain: Sequence[Revision], current: str | None) -> tuple[Revision, ...]:
    """What a database at *current* lacks; nothing when it is of a later release, whose revisions we do not know."""
    if current is None:
        return tuple(chain)
    ids = [revision.id for revision in chain]
    return tuple(chain[ids.index(current) + 1 :]) if current in ids else ()


def to_run(chain: Sequence[Revision], current: str | None, only: Phase | None) -> tuple[Revision, ...]:
    """What `farm migrate` runs now. Without *only* the farm stands still, and everything is run.

    Raises `Refused` when a release was left out, whose processes would have to run in between. An empty database has
    no processes that would mind.
    """
    left = pending(chain, current)
    if only is None:
        return left
    last = max((n for n, revision in enumerate(left) if revision.phase is Phase.EXPAND), default=-1)
    early = [revision.name for revision in left[:last] if revision.phase is Phase.CONTRACT]
    if early and current is not None:
        raise Refused(
            f"The database is more than one release behind: {early[0]} was not run, and {left[last].name} comes after "
            "it. Upgrade to each release in between first; or end the API and the schedulers, and run `farm migrate` "
            "without --only.",
            code="upgrade_skips_release",
        )
    return left if only is Phase.CONTRACT else left[: last + 1]


def missing(chain: Sequence[Revision], current: str | None) -> Revision | None:
    """The newest migration that the processes of this release cannot do without, when it was not run."""
    wanted = [revision for revision in pending(chain, current) if revision.phase is Phase.EXPAND]
    return wanted[-1] if wanted else None


def parse(names: Sequence[str]) -> tuple[Revision, ...]:
    """The chain, from names such as ``0004_expand_lost_pictures``, in their order. Raises `ValueError`."""
    found = []
    for name in sorted(names):
        number, phase, _ = name.split("_", 2)
        found.append(Revision(number, Phase(phase), name))
    return tuple(found)
