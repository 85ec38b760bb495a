"""Submit a campaign: check it, foretell what it costs, cut it, save it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from farm.core.errors import Conflict, KeyReused
from farm.core.ids import CampaignId, TeamId, mint
from farm.core.proof import sample
from farm.core.quote import seconds_by
from farm.core.records import CampaignRow, NewCampaign, NewShard
from farm.core.shard import cut
from farm.ports import ApiStore, Clock, TeamTx
from farm.usecases.check_campaign import Checked, Terms, check_campaign, check_still_room
from farm.usecases.quote_campaign import foretell, wishes_of
from schemas.campaign import CampaignSpec, CampaignState, ProofSpec, ResolvedCampaign
from schemas.quote import Quote
from schemas.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Submitted:
    campaign: CampaignRow
    replayed: bool  # it was there already, under the same idempotency key


def submit_campaign(
    store: ApiStore, clock: Clock, team: TeamId, spec: CampaignSpec, terms: Terms, *, idempotency_key: str | None
) -> Submitted:
    """Raises `BadRequest` with all faults, `KeyReused`."""
    now = clock.now()
    campaign = CampaignId(mint(now, clock.random_bits()))
    submit_key = idempotency_key or f"made up {campaign}"  # clients' keys hold no space
    # Without defaults: a key of a later release, left out, does not change what an earlier one has stored.
    submit_hash = hashlib.sha256(spec.model_dump_json(exclude_defaults=True).encode()).hexdigest()
    with store.as_team(team) as tx:
        if (former := tx.campaign_by_submit_key(submit_key)) is not None:
            return replay(former, submit_hash)
        checked = check_campaign(tx, spec, now, terms)
        quote = foretell(tx, checked, wishes_of(spec, checked.parent), now, terms.currency)
        seconds_of = measured_seconds(tx)
    new = drafted(campaign, spec, checked, quote, submit_key=submit_key, submit_hash=submit_hash)
    return save(store, team, new, shards_of(checked.resolved, spec.proof, seconds_of, terms))


def drafted(
    campaign: CampaignId, spec: CampaignSpec, checked: Checked, quote: Quote, *, submit_key: str, submit_hash: str
) -> NewCampaign:
    """The row of a campaign that is about to be saved."""
    return NewCampaign(
        id=campaign,
        name=spec.name,
        submit_key=submit_key,
        submit_hash=submit_hash,
        spec=spec,
        resolved=checked.resolved,
        renders=checked.renders,
        priority=spec.priority,
        parent=checked.parent,
        deadline=spec.deadline,
        budget=spec.budget,
        lane=spec.lane,
        gpu=spec.gpu,
        off_peak=spec.off_peak,
        state=CampaignState.ACTIVE if spec.proof is None else CampaignState.PROOFING,
        quote=quote,
    )


def shards_of(
    campaign: ResolvedCampaign, proof: ProofSpec | None, seconds_of: Callable[[Recipe], float], terms: Terms
) -> list[NewShard]:
    """With a proof, only its renders are ready; the rest is held until it is approved."""
    ordinals = () if proof is None else sample(campaign, proof.renders)
    return cut(campaign, seconds_of, terms.shard_seconds, proof=ordinals)


def save(store: ApiStore, team: TeamId, new: NewCampaign, shards: list[NewShard]) -> Submitted:
    """Inserts it, unless another request with the same key was faster: then that one is the campaign.

    Raises `BadRequest` when others have taken the team's room since it was checked.
    """
    with store.as_team(team) as tx:
        row = tx.insert_campaign(new, shards)
        if row is not None:
            check_still_room(tx, new.name, new.renders)
            return Submitted(row, replayed=False)
    with store.as_team(team) as tx:
        former = tx.campaign_by_submit_key(new.submit_key)
    if former is None:
        raise Conflict("Another request with this idempotency key is under way. Ask again.", code="submit_under_way")
    return replay(former, new.submit_hash)


def replay(former: CampaignRow, submit_hash: str) -> Submitted:
    """What a key has made before. Raises `KeyReused` when it came with something else."""
    if former.submit_hash != submit_hash:
        raise KeyReused("This idempotency key came with another body before. Use a new key for a new campaign.")
    return Submitted(former, replayed=True)


def measured_seconds(tx: TeamTx) -> Callable[[Recipe], float]:
    """GPU seconds of a render on this farm, by what renders cost before."""
    found: dict[str, int] = {}
    for gpu, _, renderers in tx.farm_view().renderers:
        found[gpu] = found.get(gpu, 0) + renderers
    return seconds_by(tx.costs(), found)
