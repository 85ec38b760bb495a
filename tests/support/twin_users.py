"""What users, operators and time do to a store: verbs with three small numbers that say of what and how."""

from typing import Any

from farm.core.errors import NotFound
from farm.core.ids import CampaignId, CheckpointId, mint
from farm.core.records import Amend, CheckpointRow, NewCampaign, NewShard
from farm.core.shard import ranges_of
from farm.ports import TeamTx
from schemas.campaign import Block, Budget, CampaignSpec, PausedBy, SourceEntry
from schemas.order import Lane
from schemas.quote import Quote, Range
from tests.support.twin_actor import GPUS, NAMES, OPEN, Actor, S
from tests.support.twins import BEGIN, HOUR, TEAMS, team_row
from tests.unit.core.samples import block
from tests.unit.core.samples import campaign as resolved_campaign


def submit(actor: Actor, a: int, b: int, c: int) -> Any:
    team = TEAMS[a % 2]
    campaign = CampaignId(mint(BEGIN + actor.number * HOUR, c))
    proof, renders = b % 3 == 0, 3 + b
    parent = actor.any_campaign(c - 5) if c > 4 else None
    new = NewCampaign(
        id=campaign,
        name="Shoes",
        submit_key=f"key {actor.number if c else 0}",  # now and then one that is taken
        submit_hash="hash",
        spec=CampaignSpec(
            name="Shoes", blocks=(Block(sources=(SourceEntry(source="src_" + "0" * 64),), styles=("noir",)),)
        ),
        resolved=resolved_campaign(block(variants=renders)),
        renders=renders,
        priority=50 + c % 3,
        parent=parent[1] if parent and parent[0] == team else None,
        deadline=BEGIN + 10_000 * HOUR if b % 2 else None,
        budget=Budget(gpu_seconds=10.0 * c) if c % 4 == 3 else None,
        lane=Lane.INTERACTIVE if c == 2 else Lane.BULK,
        gpu=GPUS[0] if c == 1 else None,
        off_peak=c == 3,
        state=S.PROOFING if proof else S.ACTIVE,
        quote=QUOTE if b % 4 == 1 else None,
    )
    with actor.side.api.as_team(team) as tx:
        row = tx.insert_campaign(new, list(cut(renders, 1 + a % 3, proof)))
        found = tx.campaign_by_submit_key(new.submit_key)
    if row is not None:
        actor.known.campaigns[team].append(campaign)
    return (row is not None, found and found.id)


def cut(renders: int, width: int, proof: bool) -> list[NewShard]:
    """Shards of two engine keys; with a proof, of its ordinals that divide by three, and the rest is held."""
    sample = [n for n in range(renders) if proof and n % 3 == 0]
    rest = [n for n in range(renders) if n not in sample]
    parts = [(ranges_of(sample[at : at + 2]), "ready") for at in range(0, len(sample), 2)]
    parts += [(ranges_of(rest[at : at + width]), "held" if proof else "ready") for at in range(0, len(rest), width)]
    return [
        NewShard(todo, f"engine {number % 2}", "0" * 64, 0.5 * (1 + number % 2), state, 0.125 * (number % 3))
        for number, (todo, state) in enumerate(parts)
    ]


SPREAD = Range(low=1.0, expected=2.0, high=3.0)
QUOTE = Quote(
    renders=3,
    reused=0,
    gpu_seconds=SPREAD,
    money=None,
    currency="EUR",
    wait_seconds=SPREAD,
    finish_at=None,
    measured=0.5,
    gpus={"H100": 1.0},
)


def steer(actor: Actor, a: int, b: int, c: int) -> Any:
    """What a user does to a campaign."""
    if (found := actor.any_campaign(a)) is None:
        return None
    team, campaign = found
    with actor.side.api.as_team(team) as tx:
        match b:
            case 0:
                return tx.move(campaign, frm=[S.PROOFING, S.AWAITING_APPROVAL], to=S.ACTIVE)
            case 1:
                return tx.move(campaign, frm=[S.ACTIVE, S.PROOFING], to=S.PAUSED, paused_by=PausedBy.USER)
            case 2:
                to = S.PROOFING if tx.has_held(campaign) else S.ACTIVE
                return tx.move(campaign, frm=[S.PAUSED], to=to)
            case 3:
                return tx.move(campaign, frm=OPEN, to=S.CANCELLING)
            case 4 | 5:
                budget, deadline = Budget(money=c + 1.0) if c % 2 else None, BEGIN + 9000 * HOUR if c > 3 else None
                return tx.amend(campaign, Amend(priority=40 + c if c % 3 else None, deadline=deadline, budget=budget))
            case _:
                return reposition(tx, campaign, c)


def reposition(tx: TeamTx, campaign: CampaignId, c: int) -> Any:
    places = [queued.position for queued in tx.queue()]
    if not places:
        return None
    return tx.reposition(campaign, min(places) - 1 if c % 2 else (min(places) + max(places)) / 2)


def set_up(actor: Actor, a: int, b: int, c: int) -> Any:
    """What operators set."""
    if a % 2:
        return actor.side.backstage.set_price((*GPUS, "*")[b % 3], 3600.0 * c)
    team = team_row(
        TEAMS[b % 2],
        weight=(0.5, 1.0, 2.0)[c % 3],
        quota=c or None,
        burst=2 * c or None,
        budget=Budget(gpu_seconds=20.0 * c) if c % 2 else None,
        retention_days=1 if c % 4 == 1 else None,
    )
    return actor.side.backstage.set_team(team)


def by_hand(actor: Actor, a: int, b: int, c: int) -> Any:
    """A quarantine that an operator sets, and one that an operator ends."""
    name = NAMES[a % len(NAMES)]
    try:
        return actor.side.backstage.hold(name, "by hand") if b % 2 else actor.side.backstage.let_go(name)
    except NotFound:
        return "not found"


def stock(actor: Actor, a: int, b: int, c: int) -> Any:
    row = CheckpointRow(CheckpointId(1 + actor.number), "base", "0" * 64, "folder", "checkpoints/x/", (), BEGIN)
    with actor.side.api.as_team(TEAMS[a % 2]) as tx:
        tx.add_checkpoint(row)


def wait(actor: Actor, a: int, b: int, c: int) -> Any:
    if a == 7 and b > 4:
        actor.side.backstage.next_month()
    else:
        actor.side.backstage.pass_(2 * (1 + (c == 7) * 12))


VERBS = (submit, steer, set_up, by_hand, stock, wait)
