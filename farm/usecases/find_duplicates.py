"""Look at a campaign's pictures together: which look alike, and how many missed the checks of their styles."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

from farm.core.errors import BadRequest
from farm.core.ids import CampaignId, Ordinal, TeamId, show_render, show_source
from farm.core.matrix import Cell, cell_at
from farm.core.records import OutcomeRow
from farm.ports import ApiStore, TeamTx
from schemas.campaign import RenderState, ResolvedCampaign
from schemas.findings import Alike, AlikeGroup, CheckCounts, Duplicates

WINDOW = 1_000
"""Outcomes that one look into the store covers."""

MAX_DISTANCE = 10
"""Of 64 bits. Further apart, pictures of one source do not look alike any more."""

MOST_DIFFERENT = 20_000
"""Of one source's pictures. To compare so many takes some seconds, and twice as many take four times as long."""

_BITS = 16
_BANDS = 64 // _BITS


def find_duplicates(store: ApiStore, team: TeamId, campaign: CampaignId, distance: int) -> Duplicates:
    """Groups by source: all in a group differ from its first in at most *distance* bits.

    Raises `NotFound`, `BadRequest` when a source has too many pictures that differ.
    """
    found: dict[str, _Leaders] = {}
    compared = unmeasured = 0
    with store.as_team(team) as tx:
        resolved = tx.resolved(campaign)
        for row in _succeeded(tx, campaign):
            phash = "" if row.measured is None else row.measured.tries[row.measured.kept].phash
            if not phash:
                unmeasured += 1
                continue
            compared += 1
            cell = cell_at(resolved, row.ordinal)
            source = resolved.blocks[cell.block].sources[cell.source]
            leaders = found.setdefault(source.sha256, _Leaders(distance))
            leaders.add(row.ordinal, int(phash, 16))
            if len(leaders.members) > MOST_DIFFERENT:
                raise _too_many(source.name)
    groups = (
        _group(resolved, campaign, source, members)
        for source, leaders in found.items()
        for members in leaders.members.values()
        if len(members) > 1
    )
    return Duplicates(distance=distance, compared=compared, unmeasured=unmeasured, groups=tuple(groups))


def _too_many(source: str) -> BadRequest:
    detail = f"{source} has more than {MOST_DIFFERENT:,} pictures that differ, too many to compare."
    return BadRequest(detail, code="too_many_to_compare")


def count_checks(store: ApiStore, team: TeamId, campaign: CampaignId) -> CheckCounts:
    """Of renders whose style has checks. Raises `NotFound`."""
    checked = missed = rerolled = tries = 0
    by_check = Counter[str]()
    with store.as_team(team) as tx:
        resolved = tx.resolved(campaign)
        if not any(style.checks for block in resolved.blocks for style in block.styles):
            return CheckCounts()
        for row in _succeeded(tx, campaign):
            measured = row.measured
            if measured is None or not _has_checks(resolved, cell_at(resolved, row.ordinal)):
                continue
            kept = measured.tries[measured.kept]
            checked, tries = checked + 1, tries + len(measured.tries)
            missed, rerolled = missed + bool(kept.missed), rerolled + (len(measured.tries) > 1)
            by_check.update(kept.missed)
    return CheckCounts(
        checked=checked, missed=missed, rerolled=rerolled, tries=tries, by_check=dict(sorted(by_check.items()))
    )


def _has_checks(resolved: ResolvedCampaign, cell: Cell) -> bool:
    return resolved.blocks[cell.block].styles[cell.style].checks is not None


def _succeeded(tx: TeamTx, campaign: CampaignId) -> Iterator[OutcomeRow]:
    after, more = -1, True
    while more:
        rows = tx.outcomes_after(campaign, outcome=RenderState.SUCCEEDED.value, after=after, limit=WINDOW)
        more = len(rows) == WINDOW
        after = rows[-1].ordinal if rows else after
        yield from rows


@dataclass(slots=True)
class _Leaders:
    """Hashes of one source; each new one joins the first of those before that is near it, or leads a group itself.

    Two hashes that differ in at most *distance* bits differ in one of four parts in at most distance // 4 of them. So
    leaders are kept by their parts, and a hash looks only at leaders with such a part: not at all of them. Only leaders
    are kept, so a thousand equal pictures cost no more to look through than one.
    """

    distance: int
    members: dict[int, list[tuple[Ordinal, int]]] = field(default_factory=dict)  # leader -> (ordinal, distance)
    _by_part: tuple[dict[int, list[int]], ...] = field(default_factory=lambda: tuple({} for _ in range(_BANDS)))

    def add(self, ordinal: Ordinal, phash: int) -> None:
        leader = phash if phash in self.members else self._near(phash)
        if leader is None:
            leader = phash
            self._lead(phash)
        self.members[leader].append((ordinal, (leader ^ phash).bit_count()))

    def _near(self, phash: int) -> int | None:
        """A leader that is near enough. Which of several does not matter, so it is the first that is come across."""
        for parts, part in zip(self._by_part, _parts(phash), strict=True):
            for flip in _FLIPS[self.distance // _BANDS]:
                for leader in parts.get(part ^ flip, ()):
                    if (leader ^ phash).bit_count() <= self.distance:
                        return leader
        return None

    def _lead(self, phash: int) -> None:
        self.members[phash] = []
        for parts, part in zip(self._by_part, _parts(phash), strict=True):
            parts.setdefault(part, []).append(phash)


def _parts(phash: int) -> Iterator[int]:
    return (phash >> (_BITS * band) & (1 << _BITS) - 1 for band in range(_BANDS))


def _flips(most: int) -> tuple[int, ...]:
    """Every pattern of at most so many of the bits of a part."""
    return tuple(
        sum(1 << bit for bit in bits) for count in range(most + 1) for bits in combinations(range(_BITS), count)
    )


_FLIPS = tuple(_flips(most) for most in range(MAX_DISTANCE // _BANDS + 1))


def _group(
    resolved: ResolvedCampaign, campaign: CampaignId, source: str, members: list[tuple[Ordinal, int]]
) -> AlikeGroup:
    cells = [cell_at(resolved, ordinal) for ordinal, _ in members]
    first = resolved.blocks[cells[0].block].sources[cells[0].source]
    renders = (_alike(resolved, campaign, cell, *member) for cell, member in zip(cells, members, strict=True))
    return AlikeGroup(source=show_source(source), source_name=first.name, renders=tuple(renders))


def _alike(resolved: ResolvedCampaign, campaign: CampaignId, cell: Cell, ordinal: Ordinal, distance: int) -> Alike:
    block = resolved.blocks[cell.block]
    style, strength = block.styles[cell.style], block.strengths[cell.strength]
    return Alike(
        render=show_render(campaign, ordinal),
        distance=distance,
        style=style.name,
        strength=style.strength if strength is None else strength,
        variant=block.first_variant + cell.variant,
    )
