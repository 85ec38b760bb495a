"""What must be true when everything has ended and the grace time is over."""

from typing import TYPE_CHECKING

from farm.core.audit import files_of
from farm.core.garbage import folder_of
from farm.core.ids import TeamId
from farm.core.records import PictureFile
from farm.store import memory_check
from schemas.campaign import CampaignState

if TYPE_CHECKING:
    from tests.simulation.world import World


def check_end(world: "World") -> None:
    """Raises `Violation`."""
    for user in world.users:
        _check_campaigns(world, user.team)
    _check_objects(world)
    wrong = memory_check.faults(world.store.state)
    if wrong:
        raise world.promises.broken("twin", f"indexes of {wrong} are not what the rows make them")


def _check_campaigns(world: "World", team: TeamId) -> None:
    state, promises = world.store.state, world.promises
    campaigns = sorted(state.campaigns.by_team.get(team, set()))
    keys = [state.campaigns.rows[campaign].submit_key for campaign in campaigns]
    if len(set(keys)) != len(keys):
        raise promises.broken("P10 one campaign", f"two campaigns of team {team} share a key")
    for campaign in campaigns:
        row = state.campaigns.rows[campaign].row
        stored = state.outcomes.by_campaign.get(campaign, {})
        ours = {ordinal: outcome for (of, ordinal), outcome in promises.outcomes.items() if of == campaign}
        if sorted(stored) != sorted(ours):
            raise promises.broken(
                "P1 one outcome", f"campaign {campaign} has outcomes that nobody settled, or misses some"
            )
        if row.state is CampaignState.DONE and len(stored) != row.renders:
            raise promises.broken("P2 nothing lost", f"campaign {campaign} is done with {len(stored)} of {row.renders}")
        for ordinal, outcome in stored.items():
            if (outcome.picture is not None) != ours[ordinal].succeeded:
                raise promises.broken("P1 one outcome", f"render {ordinal} of {campaign} was {ours[ordinal]}")
        spent = state.spend.by_campaign(row.team, campaign)
        charged = promises.charged.get(campaign, 0.0)
        if abs((spent.gpu_seconds if spent else 0.0) - charged) > 1e-6 * max(1.0, charged):
            raise promises.broken("charges", f"campaign {campaign} was charged {spent}; its tries took {charged} s")


def _check_objects(world: "World") -> None:
    state, promises = world.store.state, world.promises
    used: set[str] = set()
    for outcome in state.outcomes.rows.values():
        if outcome.picture is None:
            continue
        published = state.pictures.rows[outcome.picture].published
        used.update(folder_of(published.key, published.renditions))
        file = PictureFile(outcome.picture, published.key, published.sha256, published.bytes, published.renditions)
        for what, key, _, sha256 in files_of(file):
            if world.depot.sha256(key) != sha256:
                raise promises.broken("P3 object there", f"{what} {key} of render {outcome.ordinal} is not there")
    orphans = sorted(key for key in world.depot.keys() - used if key.startswith("outputs/"))
    if orphans:
        raise promises.broken("P4 no orphan", f"{len(orphans)} objects belong to nothing: {orphans[0]}")
