"""Try again what failed.

An outcome never changes, so retrying makes a child campaign with the same spec. It takes over every picture that the
parent made, by fingerprint, and renders the rest.
"""

import hashlib

from farm.core.campaign import ENDED
from farm.core.errors import BadRequest, Conflict
from farm.core.ids import CampaignId, TeamId, mint, show
from farm.core.records import NewCampaign
from farm.core.shard import cut
from farm.ports import ApiStore, Clock
from farm.usecases.resolve import Faults
from farm.usecases.submit_campaign import Submitted, check_room, measured_seconds, save


def retry_failed(
    store: ApiStore,
    clock: Clock,
    team: TeamId,
    campaign: CampaignId,
    *,
    idempotency_key: str | None,
    max_renders: int,
    shard_seconds: float,
) -> Submitted:
    """Raises `Conflict` when nothing failed or it still runs, `BadRequest` when the team has no room."""
    child = CampaignId(mint(clock.now(), clock.random_bits()))
    faults = Faults()
    with store.as_team(team) as tx:
        parent = tx.campaign(campaign)
        if parent.state not in ENDED:
            raise Conflict(
                f"The campaign is {parent.state}. Wait for its end, or cancel it.", code="campaign_not_ended"
            )
        if tx.counts([campaign])[campaign].failed == 0:
            raise Conflict("Nothing failed in this campaign.", code="nothing_failed")
        check_room(tx, parent.renders, max_renders, faults)
        spec, resolved, seconds_of = tx.spec(campaign), tx.resolved(campaign), measured_seconds(tx)
    if faults.count:
        raise BadRequest(faults.kept[0].detail, code=faults.kept[0].code, faults=faults.kept)
    what = f"retry {show('cmp', campaign)}"
    new = NewCampaign(
        id=child,
        name=parent.name,
        # The name of what is repeated is part of the key: a key used for submitting means nothing here.
        submit_key=f"{what} {idempotency_key or child}",
        submit_hash=hashlib.sha256(what.encode()).hexdigest(),
        spec=spec,
        # Not resolved again: a style that has moved on since would change every picture, not only those that failed.
        resolved=resolved,
        renders=parent.renders,
        priority=parent.priority,
        parent=campaign,
    )
    return save(store, team, new, cut(resolved, seconds_of, shard_seconds))
