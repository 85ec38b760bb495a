"""What waits takes as long as was measured by now, not as long as was guessed when it was submitted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from farm.core.ids import CampaignId, TeamId
from farm.core.leases import Held
from farm.core.queues import Backlog, Head, Queue
from farm.core.records import CostRow

Steps = Mapping[tuple[TeamId, str], float]
"""GPU seconds of a UNet step, by team and engine key, on a GPU of speed 1."""


def measured_steps(
    costs: Sequence[tuple[TeamId, CostRow]], speeds: Mapping[str, float]
) -> dict[tuple[TeamId, str], float]:
    """The mean over types of GPU, by renders; each type's is brought to speed 1 first, or it would count twice."""
    sums: dict[tuple[TeamId, str], tuple[float, int]] = {}
    for team, row in costs:
        if row.renders > 0 and row.step_seconds > 0:
            total, renders = sums.get((team, row.engine_key), (0.0, 0))
            at_one = row.step_seconds * speeds.get(row.gpu, 1.0)
            sums[team, row.engine_key] = (total + at_one * row.renders, renders + row.renders)
    return {key: total / renders for key, (total, renders) in sums.items()}


def queue_as_measured(queue: Queue, steps: Steps) -> Queue:
    factor = _factor(steps, queue.team, queue.engine_key, queue.step_seconds)
    if factor == 1.0:
        return queue
    heads = tuple(Head(h.shard, h.seconds * factor, h.waited, h.avoid, h.alone) for h in queue.heads)
    return replace(queue, heads=heads, step_seconds=queue.step_seconds * factor)


def backlog_as_measured(
    backlog: Mapping[tuple[CampaignId, str], Backlog], teams: Mapping[CampaignId, TeamId], steps: Steps
) -> dict[tuple[CampaignId, str], Backlog]:
    """*teams* are those of the campaigns; what a campaign that is missing there has is left as it is."""
    found = {}
    for (campaign, engine_key), one in backlog.items():
        team = teams.get(campaign)
        factor = 1.0 if team is None else _factor(steps, team, engine_key, one.step_seconds)
        scaled = Backlog(one.shards, one.renders, one.seconds * factor, one.step_seconds * factor)
        found[campaign, engine_key] = one if factor == 1.0 else scaled
    return found


def seconds_by_campaign(backlog: Mapping[tuple[CampaignId, str], Backlog]) -> dict[CampaignId, float]:
    found: dict[CampaignId, float] = {}
    for (campaign, _), one in backlog.items():
        found[campaign] = found.get(campaign, 0.0) + one.seconds
    return found


def held_as_measured(held: Held, steps: Steps) -> Held:
    factor = _factor(steps, held.team, held.engine_key, held.step_seconds)
    if factor == 1.0:
        return held
    return replace(held, gpu_seconds=held.gpu_seconds * factor, step_seconds=held.step_seconds * factor)


def _factor(steps: Steps, team: TeamId, engine_key: str, guessed: float) -> float:
    """1 where either is not known."""
    measured = steps.get((team, engine_key), 0.0)
    return measured / guessed if measured > 0 and guessed > 0 else 1.0
