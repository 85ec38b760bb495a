"""Which pixels may be painted over. A mask is L; 0 stays as it was, to the bit."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SMOOTHING: Final = 8
"""The feather over the deviation of the Gaussian that smooths it: 2 % of the white is left at its very edge."""

Inside = NDArray[np.bool_]


def feathered(mask: Image.Image, feather: int) -> Image.Image:
    """The white thins out towards its edge, over *feather* pixels, and only inwards: no black pixel becomes lighter.

    A patch that is too narrow for that has a narrower feather, and is as white in its middle as it was. At the edge of
    the picture nothing thins out, as the white may go on beyond it.
    """
    if feather == 0:
        return mask
    from skimage.measure import label

    values = np.asarray(mask, dtype=np.float64)
    patches = label(values > 0, connectivity=2)  # type: ignore[no-untyped-call]
    depth = np.maximum(_depth(values > 0, feather + 1) - 0.5, 0.0)
    ramp = np.minimum(depth / np.minimum(feather, _most(depth, patches)), 1.0)
    blurred = Image.fromarray(np.rint(ramp * 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(feather / SMOOTHING)
    )
    smooth = np.asarray(blurred, dtype=np.float64)  # else every jag of the edge would cast a ray
    share = smooth / _most(smooth, patches)
    return Image.fromarray(np.rint(values * np.minimum(share * share * (3 - 2 * share), 1.0)).astype(np.uint8))


def composed(picture: Image.Image, source: Image.Image, mask: Image.Image | None) -> Image.Image:
    """*picture* where *mask* is white, *source* to the bit where it is black."""
    return picture if mask is None else Image.composite(picture, source, mask)


def enlarged(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Smooth, but black wherever the pixel that it comes from is black."""
    smooth = np.asarray(mask.resize(size, Image.Resampling.BILINEAR))
    blocks = np.asarray(mask.resize(size, Image.Resampling.NEAREST))
    return Image.fromarray(np.where(blocks == 0, 0, smooth).astype(np.uint8))


def _depth(inside: Inside, most: int) -> NDArray[np.int16]:
    """How many pixels deep each pixel lies inside, *most* at most; diagonals count in every other layer, which makes
    the layers octagons."""
    depth = np.zeros(inside.shape, dtype=np.int16)
    for layer in range(most):
        depth += inside
        inside = _shrunk(inside, diagonally=layer % 2 == 1)
        if not inside.any():
            break
    return depth


def _shrunk(inside: Inside, *, diagonally: bool) -> Inside:
    found = inside.copy()
    found[1:] &= inside[:-1]
    found[:-1] &= inside[1:]
    across = found.copy() if diagonally else inside
    found[:, 1:] &= across[:, :-1]
    found[:, :-1] &= across[:, 1:]
    return found


def _most(values: NDArray[np.float64], patches: NDArray[np.int64]) -> NDArray[np.float64]:
    """The largest of *values* in the patch of each pixel; 1 outside of them."""
    found = np.zeros(int(patches.max()) + 1)
    np.maximum.at(found, patches, values)
    found[0] = 1.0
    return np.maximum(found, 0.5)[patches]
