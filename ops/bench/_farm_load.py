"""What the simulated farm of `ops.bench.scale` has to do: teams, campaigns, LoRAs that few or many want, and shards
whose renders take as long as they like.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from farm.core.ids import CampaignId, ShardId, TeamId

TEAM_WEIGHTS = (1.0, 1.0, 2.0, 4.0)
CAMPAIGNS = 3
"""Of each team, submitted one after the other."""

LORAS = 16
"""Of each team; the k-th is wanted as often as 1 / k says (Zipf)."""

SHARD_RENDERS = 60
RENDER_SECONDS = 0.5
"""GPU seconds of a render in the mean: a shard is expected to take 30 s, which is the farm's default."""

LONGEST_RENDER = 60.0
"""Seconds; a render that takes longer would be taken for hung."""

CHECKPOINT_SECONDS, LORA_SECONDS = 10.0, 1.0
CHECKPOINT = "sdxl"


@dataclass(frozen=True, slots=True)
class Shard:
    id: ShardId
    campaign: CampaignId
    engine_key: str
    expected: float  # seconds, as the farm guesses
    actual: float  # as it will be; nobody knows


@dataclass(frozen=True, slots=True)
class Demand:
    """*teams*: of each campaign; *weights*: of each team. Shards stand in order of submission."""

    shards: tuple[Shard, ...]
    teams: dict[CampaignId, TeamId] = field(default_factory=dict)
    weights: dict[TeamId, float] = field(default_factory=dict)

    @property
    def keys(self) -> int:
        return len({shard.engine_key for shard in self.shards})

    def least_swaps(self, renderers: int) -> int:
        """Each LoRA is loaded once at least, and each renderer loads one at least."""
        return max(self.keys, min(renderers, len(self.shards)))

    def least_makespan(self, renderers: int) -> float:
        """No schedule is through before: all work and all loads that cannot be avoided, spread evenly; the longest."""
        work = sum(shard.actual for shard in self.shards)
        loads = renderers * CHECKPOINT_SECONDS + self.least_swaps(renderers) * LORA_SECONDS
        longest = max(shard.actual for shard in self.shards)
        return max((work + loads) / renderers, longest + CHECKPOINT_SECONDS + LORA_SECONDS)

    def blind_makespan(self, renderers: int) -> float:
        """What is left when loads cost nothing but those that cannot be avoided, and nobody knows how long a shard
        will take: renderers take shards as they come. No scheduler that cannot see ahead should be expected to do
        better."""
        loads = CHECKPOINT_SECONDS + self.least_swaps(renderers) / renderers * LORA_SECONDS
        ends = [loads] * renderers
        for shard in self.shards:
            heapq.heappush(ends, heapq.heappop(ends) + shard.actual)
        return max(ends)


Draw = Callable[[random.Random], float]
"""Seconds of one shard."""


def lognormal(rng: random.Random, sigma: float = 1.0) -> float:
    """Renders that each are lognormal: one in a hundred takes six times the mean and more."""
    mean = -(sigma**2) / 2  # of the logarithm, so that the seconds have mean 1
    return RENDER_SECONDS * sum(rng.lognormvariate(mean, sigma) for _ in range(SHARD_RENDERS))


def pareto(rng: random.Random, alpha: float = 1.5) -> float:
    """Renders of infinite variance, but for the longest that a farm allows."""
    scale = RENDER_SECONDS * (alpha - 1) / alpha
    return sum(min(LONGEST_RENDER, scale * rng.paretovariate(alpha)) for _ in range(SHARD_RENDERS))


def stragglers(rng: random.Random, sigma: float = 0.75) -> float:
    """All renders of a shard are slow together, as when its sources are large: nothing evens out."""
    return RENDER_SECONDS * SHARD_RENDERS * rng.lognormvariate(-(sigma**2) / 2, sigma)


DRAWS: dict[str, Draw] = {"lognormal": lognormal, "pareto": pareto, "stragglers": stragglers}


def demand(draw: Draw, shards: int, seed: int) -> Demand:
    """About *shards* shards: every team wants as much, though their weights differ."""
    rng = random.Random(seed)
    each = shards // (len(TEAM_WEIGHTS) * CAMPAIGNS)
    counts = [max(1, round(each / rank / sum(1 / n for n in range(1, LORAS + 1)))) for rank in range(1, LORAS + 1)]
    found: list[Shard] = []
    teams: dict[CampaignId, TeamId] = {}
    for number in range(CAMPAIGNS):  # round by round: no team has submitted all of its work before another
        for team in range(len(TEAM_WEIGHTS)):
            campaign = CampaignId(1 + number * len(TEAM_WEIGHTS) + team)
            teams[campaign] = TeamId(team + 1)
            for lora, count in enumerate(counts):  # style by style: the slowest axis of a campaign
                for _ in range(count):
                    key, shard = f"team-{team + 1} lora-{lora}", ShardId(len(found) + 1)
                    found.append(Shard(shard, campaign, key, RENDER_SECONDS * SHARD_RENDERS, draw(rng)))
    return Demand(tuple(found), teams, {TeamId(n + 1): weight for n, weight in enumerate(TEAM_WEIGHTS)})
