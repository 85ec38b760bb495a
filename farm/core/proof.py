"""Which renders stand for a campaign: a sample that shows every look, spread over the sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, lcm, prod

from farm.core.matrix import begins, radices
from schemas.campaign import ResolvedBlock, ResolvedCampaign

_GOLDEN = 0.6180339887498949
"""Strides of this part of an axis spread any number of picks over it (three-distance theorem)."""


def sample(campaign: ResolvedCampaign, renders: int | None) -> tuple[int, ...]:
    """Ordinals, sorted. Without a number: every style x size x strength of every block once.

    With a larger number these are shown several times, each time on other sources, prompts and variants; with a
    smaller one, as many different ones as there is room for. Each costs the same, however large the campaign.
    """
    blocks = [_Block.of(block, first) for block, first in zip(campaign.blocks, begins(campaign), strict=False)]
    left = sum(block.looks for block in blocks) if renders is None else renders
    found: list[int] = []
    turn = 0
    while left > 0 and (open_blocks := [block for block in blocks if turn < block.rest]):
        shares = _shares(left, [block.looks for block in open_blocks])
        for block, share in zip(open_blocks, shares, strict=True):
            found += [block.ordinal(look, turn) for look in range(share)]
        left -= sum(shares)
        turn += 1
    return tuple(sorted(found))


def _shares(left: int, sizes: Sequence[int]) -> list[int]:
    """*left* dealt out evenly, to each at most its size: the smallest are served first, so that no share is lost."""
    shares = [0] * len(sizes)
    for rank, index in enumerate(sorted(range(len(sizes)), key=lambda n: (sizes[n], n))):
        shares[index] = min(sizes[index], -(-left // (len(sizes) - rank)))
        left -= shares[index]
    return shares


@dataclass(frozen=True, slots=True)
class _Block:
    """A block as looks (style, size, strength) times the rest (source, prompt, variant)."""

    first: int  # its first ordinal
    radix: tuple[int, ...]
    looks: int
    rest: int
    stride: int  # between two turns of one look; shares no factor with `rest`, so no pick comes twice

    @classmethod
    def of(cls, block: ResolvedBlock, first: int) -> "_Block":
        style, size, source, prompt, strength, variant = radix = radices(block)
        looks, rest = style * size * strength, source * prompt * variant
        stride = next(n for n in range(looks, looks + rest + 1) if gcd(n, rest) == 1)
        return cls(first, radix, looks, rest, stride)

    def ordinal(self, look: int, turn: int) -> int:
        styles, sizes, sources, prompts, strengths, variants = self.radix
        style, size, strength = _diagonal(look, (styles, sizes, strengths))
        source, prompt, variant = _diagonal((look + turn * self.stride) % self.rest, (sources, prompts, variants))
        digits = (style, size, _spread(source, sources), prompt, strength, variant)
        number = 0
        for digit, radix in zip(digits, self.radix, strict=True):
            number = number * radix + digit
        return self.first + number


def _diagonal(number: int, radix: Sequence[int]) -> tuple[int, ...]:
    """A cell of a box, other cells for other numbers below its size, so that all axes move from one to the next.

    Counting as one does would hold the slow axes still; here any few numbers in a row see all that an axis has.
    """
    first, rest = radix[0], radix[1:]
    if not rest:
        return (number,)
    size = prod(rest)
    moved = (number + number // lcm(first, size)) % size
    return (number % first, *_diagonal(moved, rest))


def _spread(index: int, length: int) -> int:
    """Another order of an axis, in which the first few are spread over all of it."""
    begin = max(1, round(length * _GOLDEN))
    stride = next(n for n in range(begin, begin + length + 1) if gcd(n, length) == 1)
    return index * stride % length
