"""A campaign is a number: every ordinal below `count` is one cell of one block.

Within a block the ordinal is a mixed-radix number. Its digits, slowest first, are style, size, source, prompt,
strength, variant: neighbours share weights, then the encoded source, then the embedded prompt.
"""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod

from farm.core.ids import Ordinal
from schemas.campaign import ResolvedBlock, ResolvedCampaign


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """Indices into the axes of a block."""

    block: int
    style: int
    size: int
    source: int
    prompt: int
    strength: int
    variant: int

    @property
    def digits(self) -> tuple[int, ...]:
        return (self.style, self.size, self.source, self.prompt, self.strength, self.variant)


@dataclass(frozen=True, slots=True)
class Run:
    """Ordinals [lo, hi) of one block that share style and size, hence the engine key."""

    block: int
    style: int
    size: int
    lo: Ordinal
    hi: Ordinal


def radices(block: ResolvedBlock) -> tuple[int, ...]:
    """How many values each axis has, slowest first."""
    return (
        len(block.styles),
        len(block.sizes),
        len(block.sources),
        len(block.prompts),
        len(block.strengths),
        block.variants,
    )


def block_size(block: ResolvedBlock) -> int:
    return prod(radices(block))


def count(campaign: ResolvedCampaign) -> int:
    """Renders in the campaign."""
    return sum(block_size(block) for block in campaign.blocks)


def begins(campaign: ResolvedCampaign) -> list[int]:
    """The first ordinal of each block, and the number of renders at the end."""
    return list(accumulate((block_size(block) for block in campaign.blocks), initial=0))


def cell_at(campaign: ResolvedCampaign, ordinal: int) -> Cell:
    """Raises `IndexError` outside 0..count-1."""
    rest = ordinal
    for index, block in enumerate(campaign.blocks if ordinal >= 0 else ()):
        # Digit by digit rather than in a loop over `radices`: this is done for every render.
        left, variant = divmod(rest, block.variants)
        left, strength = divmod(left, len(block.strengths))
        left, prompt = divmod(left, len(block.prompts))
        left, source = divmod(left, len(block.sources))
        style, size = divmod(left, len(block.sizes))
        if style < len(block.styles):
            return Cell(index, style, size, source, prompt, strength, variant)
        rest -= block_size(block)
    raise IndexError(f"ordinal {ordinal} of {count(campaign)}")


def ordinal_of(campaign: ResolvedCampaign, cell: Cell) -> Ordinal:
    """The inverse of `cell_at`. Raises `IndexError` when a digit is outside its axis."""
    block = campaign.blocks[cell.block]
    number = 0
    for digit, radix in zip(cell.digits, radices(block), strict=True):
        if not 0 <= digit < radix:
            raise IndexError(f"{cell} is outside {radices(block)}")
        number = number * radix + digit
    return Ordinal(begins(campaign)[cell.block] + number)


def runs(campaign: ResolvedCampaign) -> list[Run]:
    """The campaign as stretches of one style and size, in order; together they tile it."""
    found = []
    for index, (lo, hi) in enumerate(pairwise(begins(campaign))):
        block = campaign.blocks[index]
        stretch = (hi - lo) // (len(block.styles) * len(block.sizes))
        for number in range(len(block.styles) * len(block.sizes)):
            style, size = divmod(number, len(block.sizes))
            begin = lo + number * stretch
            found.append(Run(index, style, size, Ordinal(begin), Ordinal(begin + stretch)))
    return found
