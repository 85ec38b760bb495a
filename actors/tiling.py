"""A large picture cut into tiles of the render's size, and put together again from rendered ones."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.rendition import OVERLAP, tiles

_BAND: Final = 256
"""Rows that are put together at a time: in fp32 a whole picture of 4096x4096 would take 200 MB."""

Line = NDArray[np.float32]


def cut(whole: Image.Image, side: tuple[int, int]) -> list[Image.Image]:
    """One picture of *side* for each of ``schemas.rendition.tiles``, in their order."""
    width, height = side
    places = tiles(f"{width}x{height}", whole.size)
    return [whole.crop((left, top, left + width, top + height)) for left, top in places]


def merged(parts: Sequence[Image.Image], side: tuple[int, int], large: tuple[int, int]) -> Image.Image:
    """The reverse of `cut`; neighbours mix where they overlap."""
    width, height = side
    places = tiles(f"{width}x{height}", large)
    across = weights(sorted({tile.left for tile in places}), width, large[0])
    down = weights(sorted({tile.top for tile in places}), height, large[1])
    pixels = [np.asarray(part.convert("RGB")) for part in parts]
    whole = np.empty((large[1], large[0], 3), dtype=np.uint8)
    for begin in range(0, large[1], _BAND):
        end = min(begin + _BAND, large[1])
        band = np.zeros((end - begin, large[0], 3), dtype=np.float32)
        for (left, top), part in zip(places, pixels, strict=True):
            first, last = max(begin, top), min(end, top + height)
            if first < last:
                share = np.outer(down[top][first - top : last - top], across[left])[:, :, None]
                band[first - begin : last - begin, left : left + width] += share * part[first - top : last - top]
        whole[begin:end] = np.rint(band).astype(np.uint8)
    return Image.fromarray(whole)


def weights(begins: Sequence[int], side: int, whole: int) -> dict[int, Line]:
    """(side,), fp32, by where a tile begins: how much it has to say in each of its columns (rows). Together they are 1
    everywhere.

    Each neighbour fades into the next in the middle of where both are, so that as little as possible is a mixture.
    """
    places, neighbours = np.arange(whole) + 0.5, list(pairwise(begins))
    fade = min([side * OVERLAP, *(first + side - second for first, second in neighbours)])
    middles = [(second + first + side) / 2 for first, second in neighbours]
    # How far each middle has been passed: what lies between two of them belongs to the tile there.
    passed = [np.clip((places - middle) / fade + 0.5, 0.0, 1.0) for middle in middles]
    passed = [np.ones(whole), *passed, np.zeros(whole)]
    return {
        begin: (before - after)[begin : begin + side].astype(np.float32)
        for begin, (before, after) in zip(begins, pairwise(passed), strict=True)
    }
