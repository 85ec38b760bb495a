"""Which ordinals of a campaign a filter leaves, in order, without looking at those it does not."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from farm.core.ids import Ordinal
from farm.core.matrix import Cell, begins, radices
from schemas.campaign import ResolvedBlock, ResolvedCampaign


@dataclass(frozen=True, slots=True)
class CellFilter:
    """None leaves an axis as it is."""

    style: str | None = None
    strength: float | None = None
    source: str | None = None  # sha256

    @property
    def empty(self) -> bool:
        return self.style is None and self.strength is None and self.source is None

    def digits(self, block: ResolvedBlock) -> tuple[Sequence[int], ...]:
        """The digits of each axis that pass, slowest axis first. Strength may depend on the style: see `passes`."""
        axes: list[Sequence[int]] = [range(radix) for radix in radices(block)]
        if self.style is not None:
            axes[0] = [n for n, style in enumerate(block.styles) if style.name == self.style]
        if self.source is not None:
            axes[2] = [n for n, source in enumerate(block.sources) if source.sha256 == self.source]
        if self.strength is not None:
            axes[4] = [n for n, strength in enumerate(block.strengths) if strength in (None, self.strength)]
            if None in block.strengths:  # then each style brings its own
                axes[0] = [n for n in axes[0] if block.styles[n].strength == self.strength]
        return tuple(axes)

    def passes(self, campaign: ResolvedCampaign, cell: Cell) -> bool:
        block = campaign.blocks[cell.block]
        strength = block.strengths[cell.strength]
        own = block.styles[cell.style].strength if strength is None else strength
        return (
            self.style in (None, block.styles[cell.style].name)
            and self.strength in (None, own)
            and self.source in (None, block.sources[cell.source].sha256)
        )


EVERY_CELL = CellFilter()


def matching(campaign: ResolvedCampaign, wanted: CellFilter, *, after: int = -1) -> Iterator[Ordinal]:
    """Ordinals above *after* whose cell passes, in order. Costs what it yields, not what it skips."""
    for block, begin in zip(campaign.blocks, begins(campaign), strict=False):
        axes, weights = wanted.digits(block), _weights(radices(block))
        for offset in _walk(axes, weights, 0, after + 1 - begin):
            yield Ordinal(begin + offset)


def _weights(radix: tuple[int, ...]) -> list[int]:
    """What one step of each digit is worth."""
    weights = [1]
    for size in reversed(radix[1:]):
        weights.append(weights[-1] * size)
    return weights[::-1]


def _walk(axes: Sequence[Sequence[int]], weights: Sequence[int], base: int, least: int) -> Iterator[int]:
    """Numbers from *least* on whose digits lie in *axes*; *base* is what the slower digits are worth."""
    if not axes:
        if base >= least:
            yield base
        return
    # A digit whose whole stretch ends before *least* is skipped with everything below it.
    first = bisect_left(axes[0], True, key=lambda digit: base + (digit + 1) * weights[0] > least)
    for digit in axes[0][first:]:
        yield from _walk(axes[1:], weights[1:], base + digit * weights[0], least)
