"""Submit a campaign: resolve every name, say everything that is wrong at once, cut it, save it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from farm.core.errors import BadRequest, Conflict, KeyReused
from farm.core.fingerprint import engine_digest
from farm.core.ids import CampaignId, TeamId, mint
from farm.core.quote import expected_seconds
from farm.core.records import CampaignRow, NewCampaign, NewShard
from farm.core.shard import cut
from farm.ports import ApiStore, Clock, TeamTx
from farm.usecases.resolve import Faults, load_known, renders_in, resolve
from schemas.campaign import CampaignSpec
from schemas.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Submitted:
    campaign: CampaignRow
    replayed: bool  # it was there already, under the same idempotency key


def submit_campaign(
    store: ApiStore,
    clock: Clock,
    team: TeamId,
    spec: CampaignSpec,
    *,
    idempotency_key: str | None,
    max_renders: int,
    shard_seconds: float,
) -> Submitted:
    """Raises `BadRequest` with all faults, `KeyReused`."""
    now = clock.now()
    campaign = CampaignId(mint(now, clock.random_bits()))
    submit_key = idempotency_key or f"made up {campaign}"  # clients' keys hold no space
    submit_hash = hashlib.sha256(spec.model_dump_json().encode()).hexdigest()
    with store.as_team(team) as tx:
        if (former := tx.campaign_by_submit_key(submit_key)) is not None:
            return _replay(former, submit_hash)
        faults = Faults()
        renders = renders_in(spec)
        check_room(tx, renders, max_renders, faults)
        resolved = resolve(spec, load_known(tx, spec), now, faults)
        seconds_of = measured_seconds(tx)
    if faults.count:
        raise _refusal(spec, faults)
    new = NewCampaign(campaign, spec.name, submit_key, submit_hash, spec, resolved, renders, spec.priority, None)
    return save(store, team, new, cut(resolved, seconds_of, shard_seconds))


def save(store: ApiStore, team: TeamId, new: NewCampaign, shards: list[NewShard]) -> Submitted:
    """Inserts it, unless another request with the same key was faster: then that one is the campaign."""
    with store.as_team(team) as tx:
        row = tx.insert_campaign(new, shards)
        if row is not None:
            return Submitted(row, replayed=False)
    with store.as_team(team) as tx:
        former = tx.campaign_by_submit_key(new.submit_key)
    if former is None:
        raise Conflict("Another request with this idempotency key is under way. Ask again.", code="submit_under_way")
    return _replay(former, new.submit_hash)


def _replay(former: CampaignRow, submit_hash: str) -> Submitted:
    if former.submit_hash != submit_hash:
        raise KeyReused("This idempotency key came with another body before. Use a new key for a new campaign.")
    return Submitted(former, replayed=True)


def measured_seconds(tx: TeamTx) -> Callable[[Recipe], float]:
    """GPU seconds of a render, by what renders with the same weights cost before."""
    measured = tx.step_seconds()
    return lambda recipe: expected_seconds(recipe, measured.get(engine_digest(recipe.engine_key)))


def check_room(tx: TeamTx, renders: int, max_renders: int, faults: Faults) -> None:
    """A campaign may be too large by itself, or too large beside what the team has under way."""
    if renders > max_renders:
        faults.add(
            "/blocks", "too_many_renders", f"These are {renders:,} renders; a campaign has at most {max_renders:,}."
        )
        return
    team, waiting = tx.team(), tx.unfinished()
    if renders + waiting > team.max_renders:
        detail = (
            f"These are {renders:,} renders, and {waiting:,} of the team are still waiting; "
            f"together at most {team.max_renders:,} may."
        )
        faults.add("/blocks", "too_many_renders", detail)


def _refusal(spec: CampaignSpec, faults: Faults) -> BadRequest:
    first = faults.kept[0]
    more = f" There are {faults.count - 1} more faults." if faults.count > 1 else ""
    return BadRequest(f"{spec.name} cannot be submitted: {first.detail}{more}", code=first.code, faults=faults.kept)
