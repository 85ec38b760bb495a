"""Look at a campaign before it is quoted or submitted: resolve every name, and say everything that is wrong at once."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product

from farm.core.errors import BadRequest, NotFound
from farm.core.ids import CampaignId, read
from farm.core.records import CampaignRow
from farm.ports import TeamTx
from farm.usecases.resolve import Faults, load_known, renders_in, resolve
from schemas.campaign import CampaignSpec, CampaignState, ResolvedCampaign
from schemas.order import Lane

PROOF_RENDERS = 500
"""Of a proof; as many as may be asked for by number."""

INTERACTIVE_RENDERS = 64
"""The interactive lane goes ahead of everybody: what goes there must be small, or it is a lane no more."""

LOOKS = 5_000
"""Styles times sizes of a campaign. Each has weights and a queue of its own, and the scheduler counts all queues."""

TO_BE_REPLACED = frozenset({CampaignState.PROOFING, CampaignState.AWAITING_APPROVAL})
"""A parent in one of these states is cancelled when its child is submitted."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the farm as a whole sets for every campaign."""

    max_renders: int
    shard_seconds: float
    currency: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A campaign that can be submitted."""

    resolved: ResolvedCampaign
    renders: int
    parent: CampaignId | None


def check_campaign(tx: TeamTx, spec: CampaignSpec, now: datetime, terms: Terms) -> Checked:
    """Raises `BadRequest` with all faults."""
    faults = Faults()
    renders, parent = renders_in(spec), _parent(tx, spec, faults)
    check_room(tx, renders, terms.max_renders, faults, replaced=parent)
    if spec.lane is Lane.INTERACTIVE and renders > INTERACTIVE_RENDERS:
        detail = f"These are {renders:,} renders; the interactive lane takes at most {INTERACTIVE_RENDERS} at a time."
        faults.add("/lane", "too_many_for_lane", f"{detail} Leave `lane` out.")
    if spec.deadline is not None:
        check_deadline(spec.deadline, now, faults)
    _check_looks(spec, faults)
    _check_proof(spec, faults)
    resolved = resolve(spec, load_known(tx, spec), now, faults)
    if faults.count:
        raise refusal(f"{spec.name} cannot be submitted", faults)
    return Checked(resolved, renders, None if parent is None else parent.id)


def _check_looks(spec: CampaignSpec, faults: Faults) -> None:
    looks: set[tuple[str, str | None]] = set()
    for block in spec.blocks:
        looks.update(product(block.styles, block.sizes or (None,)))
        if len(looks) > LOOKS:
            detail = f"These are more than {LOOKS:,} different pairs of style and size. Make several campaigns of them."
            faults.add("/blocks", "too_many_looks", detail)
            return


def _check_proof(spec: CampaignSpec, faults: Faults) -> None:
    """People look at every picture of a proof."""
    looks = sum(len(b.styles) * len(b.sizes or "1") * len(b.strengths or "1") for b in spec.blocks)
    if spec.proof is not None and spec.proof.renders is None and looks > PROOF_RENDERS:
        detail = (
            f"One of each style, size and strength would be a proof of {looks:,} renders. Say how many there shall be, "
            f"at most {PROOF_RENDERS}."
        )
        faults.add("/proof", "proof_too_large", detail)


def check_deadline(deadline: datetime, now: datetime, faults: Faults) -> None:
    if deadline <= now:
        ago = timedelta(seconds=round((now - deadline).total_seconds()))
        detail = f"The deadline {deadline:%Y-%m-%d %H:%M %Z} passed {ago} ago. Name a later one, or leave it out."
        faults.add("/deadline", "deadline_past", detail)


def check_room(
    tx: TeamTx, renders: int, max_renders: int, faults: Faults, *, replaced: CampaignRow | None = None
) -> None:
    """A campaign may be too large by itself, or too large beside what the team has under way.

    *replaced* is its parent: if the child ends it, it leaves its room to the child.
    """
    if renders > max_renders:
        faults.add(
            "/blocks", "too_many_renders", f"These are {renders:,} renders; a campaign has at most {max_renders:,}."
        )
        return
    _check_team_room(tx, renders, tx.unfinished() - _left(tx, replaced), faults)


def check_still_room(tx: TeamTx, name: str, renders: int) -> None:
    """After a campaign of so many *renders* was inserted: now no other submission can come between.

    Raises `BadRequest`.
    """
    faults = Faults()
    _check_team_room(tx, renders, tx.unfinished() - renders, faults)
    if faults.count:
        raise refusal(f"{name} cannot be submitted", faults)


def _check_team_room(tx: TeamTx, renders: int, waiting: int, faults: Faults) -> None:
    most = tx.team().max_renders
    if renders + waiting > most:
        detail = (
            f"These are {renders:,} renders, and {waiting:,} of the team are still waiting; "
            f"together at most {most:,} may."
        )
        faults.add("/blocks", "too_many_renders", detail)


def refusal(what: str, faults: Faults) -> BadRequest:
    first = faults.kept[0]
    more = f" There are {faults.count - 1} more faults." if faults.count > 1 else ""
    return BadRequest(f"{what}: {first.detail}{more}", code=first.code, faults=faults.kept)


def _parent(tx: TeamTx, spec: CampaignSpec, faults: Faults) -> CampaignRow | None:
    if spec.parent is None:
        return None
    try:
        return tx.campaign(CampaignId(read("cmp", spec.parent)))
    except NotFound:
        detail = f"There is no campaign {spec.parent}, so nothing can take its place. `farm campaign list` shows yours."
        faults.add("/parent", "unknown_parent", detail)
        return None


def _left(tx: TeamTx, replaced: CampaignRow | None) -> int:
    if replaced is None or replaced.state not in TO_BE_REPLACED:
        return 0
    counts = tx.counts([replaced.id])[replaced.id]
    return counts.queued + counts.running
