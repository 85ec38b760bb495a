"""Try again what failed.

An outcome never changes, so retrying makes a child campaign with the same spec. It takes over every picture that the
parent made, by fingerprint, and renders the rest.
"""

import hashlib
from datetime import datetime

from farm.core.campaign import ENDED
from farm.core.errors import Conflict
from farm.core.ids import CampaignId, TeamId, mint, show
from farm.core.records import CampaignRow
from farm.ports import ApiStore, Clock, TeamTx
from farm.usecases.check_campaign import Checked, Terms, check_room, refusal
from farm.usecases.quote_campaign import foretell, wishes_of
from farm.usecases.resolve import Faults
from farm.usecases.submit_campaign import Submitted, drafted, measured_seconds, replay, save, shards_of
from schemas.campaign import CampaignSpec, CampaignState


def retry_failed(
    store: ApiStore, clock: Clock, team: TeamId, campaign: CampaignId, terms: Terms, *, idempotency_key: str | None
) -> Submitted:
    """Raises `Conflict` when nothing failed or it still runs, `BadRequest` when the team has no room."""
    now = clock.now()
    child = CampaignId(mint(now, clock.random_bits()))
    what = f"retry {show('cmp', campaign)}"
    # The name of what is repeated is part of the key: a key used for submitting means nothing here.
    submit_key, submit_hash = f"{what} {idempotency_key or child}", hashlib.sha256(what.encode()).hexdigest()
    with store.as_team(team) as tx:
        if (made := tx.campaign_by_submit_key(submit_key)) is not None:  # it takes up room itself by now
            return replay(made, submit_hash)
        parent = tx.campaign(campaign)
        _check(tx, parent, terms)
        spec = _again(tx.spec(campaign), parent, now)
        # Not resolved again: a style that has moved on since would change every picture, not only those that failed.
        checked = Checked(tx.resolved(campaign), parent.renders, campaign)
        quote = foretell(tx, checked, wishes_of(spec, campaign), now, terms.currency)
        seconds_of = measured_seconds(tx)
    new = drafted(child, spec, checked, quote, submit_key=submit_key, submit_hash=submit_hash)
    return save(store, team, new, shards_of(checked.resolved, spec.proof, seconds_of, terms))


def _check(tx: TeamTx, parent: CampaignRow, terms: Terms) -> None:
    if parent.state not in ENDED:
        raise Conflict(f"The campaign is {parent.state}. Wait for its end, or cancel it.", code="campaign_not_ended")
    if tx.counts([parent.id])[parent.id].failed == 0:
        raise Conflict("Nothing failed in this campaign.", code="nothing_failed")
    faults = Faults()
    check_room(tx, parent.renders, terms.max_renders, faults)
    if faults.count:
        raise refusal(f"{parent.name} cannot be retried", faults)


def _again(spec: CampaignSpec, parent: CampaignRow, now: datetime) -> CampaignSpec:
    """As it was last amended. A deadline that has passed is none; what was approved needs no second proof."""
    changes = {
        "parent": show("cmp", parent.id),
        "priority": parent.priority,
        "budget": parent.budget,
        "deadline": parent.deadline if parent.deadline is not None and parent.deadline > now else None,
        "proof": spec.proof if parent.state is CampaignState.CANCELLED else None,
    }
    return spec.model_copy(update=changes)
