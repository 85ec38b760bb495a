"""Campaigns whose team's retention time is over are forgotten, in bits; their pictures get tombstones.

What stays: the campaign's row with its counts, its spec and its events, and every source. A source that no campaign
refers to is the team's own property, not something that the farm made; nothing here deletes one.
"""

from collections.abc import Iterator

from farm.core.garbage import RETENTION
from farm.ports import SchedulerTx
from farm.usecases.collect_garbage import Begin

BIT = 1_000
"""Outcomes in one transaction: a fraction of a second, for as long as which the leader cannot renew."""


def prune_campaigns(begin: Begin) -> Iterator[int]:
    """Outcomes forgotten, bit by bit, until nothing is left to prune. A bit that was dropped is simply not done."""
    while True:
        with begin() as tx:
            pruned = _prune_one(tx)
        if pruned is None:
            return
        yield pruned


def _prune_one(tx: SchedulerTx) -> int | None:
    campaigns = tx.prunable(1)
    if not campaigns:
        return None
    _, campaign = campaigns[0]
    outcomes, keys = tx.prune(campaign, BIT)
    if keys:  # in the same transaction: a picture's row and its tombstone are never both missing
        tx.doomed(keys, RETENTION)
    return outcomes
