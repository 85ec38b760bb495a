"""Whether one picture can lie over another."""

_TOLERANCE = 0.01
"""By how much two aspects may differ and still be the same one: what resizing and trimming leave behind."""


def lies_over(picture: tuple[int, int], source: tuple[int, int]) -> bool:
    """Both as (width, height), as their files have them. A file may say in its EXIF data that it is to be turned, so a
    picture that lies on its side is let through: the renderer, which turns it, has the last word."""
    return _same(picture, source) or _same(picture[::-1], source)


def _same(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """To a hundredth, or to a pixel of the smaller one's shorter side: no closer can its sides come to the aspect.

    `actors.geometry.same_aspect` decides the same when the pictures are there; a test compares the two."""
    small, large = sorted((one, other))
    short, long = (0, 1) if small[0] <= small[1] else (1, 0)
    ideal = small[long] * large[short] / large[long]
    return abs(small[short] - ideal) <= max(1.0, _TOLERANCE * ideal)
