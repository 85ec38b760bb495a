"""Pure: the life of one row between the arrival of its pictures and its upload.

It is rendered and judged; what misses its checks is rendered again with the next seed. The picture that is kept is cut
into tiles where a rendition is larger than it, and the tiles are rendered as well. Every such rendering is a part:
number k is try k, number 1000 + n is tile n.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from PIL.Image import Image

from actors.checks import Again, Fail, Keep, best, not_finite, verdict
from actors.engine.port import ControlInput, Group, Row
from actors.prepare import Prepared, pixels_key
from schemas.order import OrderRow
from schemas.recipe import Recipe
from schemas.rendition import enlarged
from schemas.report import Failure, FailureKind, Measured, TriedSeed
from schemas.style import StrengthMode

TILES = 1000
"""The number of the first tile; no row is tried as often."""

NOT_FINITE = "picture_not_finite"


def seed_of_try(seed: int, number: int) -> int:
    """Below 2**63. Whoever has the recipe's seed finds that of any part again."""
    if number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"try\n{seed}\n{number}".encode()).digest()[:8]) >> 1


@dataclass(frozen=True, slots=True)
class Making:
    """``todo``: parts that are not in the GPU and have not been. ``picture`` and ``numerics`` are of the best try."""

    order: OrderRow
    prepared: Prepared
    lone: bool = False
    todo: tuple[int, ...] = (0,)
    tries: tuple[TriedSeed, ...] = ()
    picture: Image | None = None
    numerics: str = ""
    cut: tuple[Image, ...] = ()
    tiles: dict[int, Image] = field(default_factory=dict)  # rendered, by number

    @property
    def seed(self) -> int:
        """Of the try that is made or judged now."""
        return seed_of_try(self.order.recipe.seed, len(self.tries))

    @property
    def measured(self) -> Measured:
        return Measured(tries=self.tries, kept=best(self.tries))

    @property
    def tiled(self) -> bool:
        """All tiles are rendered."""
        return bool(self.cut) and len(self.tiles) == len(self.cut)


@dataclass(frozen=True, slots=True)
class TryAgain:
    making: Making


@dataclass(frozen=True, slots=True)
class Enlarge:
    """``picture`` grows to ``large``, in tiles."""

    making: Making
    picture: Image
    large: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Finish:
    """``picture`` is done, but for its tiles if it has some."""

    making: Making
    picture: Image


@dataclass(frozen=True, slots=True)
class GiveUp:
    failure: Failure


Next = TryAgain | Enlarge | Finish | GiveUp


def after_try(making: Making, tried: TriedSeed, picture: Image | None, numerics: str) -> Next:
    """*picture*: with its mask composed back; None when there were no finite pixels."""
    tries = (*making.tries, tried)
    if best(tries) == len(making.tries):
        making = replace(making, picture=picture, numerics=numerics)
    making = replace(making, tries=tries)
    match verdict(tries, making.order.recipe.checks):
        case Again(number):
            return TryAgain(replace(making, todo=(number,)))
        case Fail(failure):
            return GiveUp(failure)
        case Keep():
            return _kept(making)


def _kept(making: Making) -> Next:
    recipe, picture = making.order.recipe, making.picture
    if picture is None:
        raise ValueError("A try without a picture cannot be kept.")
    large = enlarged(recipe.size, recipe.output.renditions)
    return Finish(making, picture) if large is None else Enlarge(making, picture, large)


def after_failure(making: Making, failure: Failure, numerics: str) -> Next:
    """Of a try: pixels that are no numbers missed every check; anything else ends the row."""
    if not is_a_miss(failure):
        return GiveUp(failure)
    return after_try(making, not_finite(making.seed, making.order.recipe.checks), None, numerics)


def is_a_miss(failure: Failure) -> bool:
    return failure.kind is FailureKind.BAD_PICTURE and failure.code == NOT_FINITE


def with_tiles(making: Making, cut: Sequence[Image]) -> Making:
    return replace(making, cut=tuple(cut), todo=tuple(range(TILES, TILES + len(cut))))


def begun(making: Making, part: int) -> Making:
    return replace(making, todo=tuple(other for other in making.todo if other != part))


def after_tile(making: Making, part: int, picture: Image) -> Making:
    return replace(making, tiles={**making.tiles, part - TILES: picture})


def group_of(recipe: Recipe, part: int, *, lone: bool) -> Group:
    """That of `row_of`, without its pictures: it is asked for at every step."""
    return Group(
        size=recipe.size,
        guided=recipe.guidance > 1,
        control=recipe.control.kind if recipe.control is not None and part < TILES else None,
        reference_scale=recipe.reference_scale if recipe.references else 0.0,
        lone=lone,
    )


def row_of(making: Making, part: int) -> Row:
    """What the engine is asked to render."""
    return _try_row(making, part) if part < TILES else _tile_row(making, part)


def _try_row(making: Making, part: int) -> Row:
    recipe, prepared = making.order.recipe, making.prepared
    return Row(
        source=pixels_key(recipe),
        picture=prepared.picture,
        prompt=recipe.prompt,
        negative=recipe.negative_prompt,
        seed=seed_of_try(recipe.seed, part),
        size=recipe.size,
        strength=recipe.strength,
        steps=recipe.steps,
        guidance=recipe.guidance,
        sampler=recipe.sampler,
        mode=recipe.strength_mode,
        mask=prepared.mask,
        control=_control(recipe, prepared),
        references=prepared.references,
        reference_scale=recipe.reference_scale,
        lone=making.lone,
    )


def _tile_row(making: Making, part: int) -> Row:
    """Neither mask nor control: both are of the picture as a whole, and did their work there."""
    upscale = making.order.recipe.output.upscale
    kept = making.tries[best(making.tries)]
    return replace(
        _try_row(making, part),
        # Names pixels: what was rendered under other numerics is another picture.
        source=f"tile|{making.order.fingerprint}|{kept.seed}|{making.numerics}|{part}",
        picture=making.cut[part - TILES],
        strength=upscale.strength,
        steps=upscale.steps,
        mode=StrengthMode.NOISE,
        mask=None,
        control=None,
    )


def _control(recipe: Recipe, prepared: Prepared) -> ControlInput | None:
    control = recipe.control
    if control is None:
        return None
    return ControlInput(control.kind, prepared.control, control.scale, control.start, control.end)
