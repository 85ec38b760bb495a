"""Scenes drawn by program: free of anybody's rights, and captioned exactly.

Four kinds: a landscape, a table with round things on it, a portrait, a street. Drawn twice as large with soft light and
a little grain, then made small, so that edges are as soft as a photo's.
"""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ops.demo_checkpoint.filters import Rgb

Canvas = NDArray[np.float32]
Colour = tuple[float, float, float]
Draw = np.random.Generator

COLOURS: Final[dict[str, Colour]] = {
    "red": (0.75, 0.14, 0.12),
    "orange": (0.9, 0.5, 0.12),
    "yellow": (0.92, 0.82, 0.25),
    "green": (0.2, 0.52, 0.22),
    "blue": (0.16, 0.32, 0.7),
    "purple": (0.45, 0.22, 0.55),
    "brown": (0.42, 0.27, 0.16),
    "white": (0.93, 0.92, 0.9),
    "black": (0.1, 0.1, 0.11),
    "grey": (0.5, 0.5, 0.52),
}


def scene(draw: Draw, size: int) -> tuple[Rgb, str]:
    """A (size, size, 3) picture and its caption."""
    canvas = np.empty((2 * size, 2 * size, 3), np.float32)
    kinds: tuple[Callable[[Canvas, Draw], str], ...] = (_landscape, _table, _portrait, _street)
    caption = kinds[int(draw.integers(len(kinds)))](canvas, draw)
    canvas *= _light(canvas.shape[0], draw)[..., None]
    small = np.asarray(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA))
    small += draw.normal(0, draw.uniform(0.002, 0.015), small.shape).astype(np.float32)
    return (np.clip(small, 0, 1) * 255 + 0.5).astype(np.uint8), caption


def _landscape(canvas: Canvas, draw: Draw) -> str:
    side = canvas.shape[0]
    horizon = int(side * draw.uniform(0.4, 0.65))
    _shade(canvas, _near((0.3, 0.52, 0.85), draw), _near((0.85, 0.88, 0.92), draw), 0, horizon)
    words = ["sky"]
    if draw.random() < 0.5:
        _disc(canvas, (draw.uniform(0.1, 0.9), draw.uniform(0.08, 0.3)), draw.uniform(0.04, 0.09), (1.0, 0.95, 0.75))
        words.append("sun")
    if draw.random() < 0.7:
        _ridge(canvas, horizon, 0.25, _near((0.42, 0.46, 0.55), draw), draw)
        words.insert(0, "mountains")
    _shade(canvas, _near((0.35, 0.5, 0.25), draw), _near((0.22, 0.33, 0.14), draw), horizon, side)
    if draw.random() < 0.4:
        top = horizon + int(side * draw.uniform(0.02, 0.12))
        _shade(canvas, _near((0.5, 0.65, 0.8), draw), _near((0.2, 0.35, 0.5), draw), top, top + side // 5)
        words.insert(0, "lake")
    for _ in range(int(draw.integers(0, 7))):
        _tree(canvas, horizon, draw)
        words = ["trees", *(word for word in words if word != "trees")]
    return ", ".join(words)


def _table(canvas: Canvas, draw: Draw) -> str:
    side = canvas.shape[0]
    edge = int(side * draw.uniform(0.3, 0.55))
    wall, board = _colour(draw), _near(COLOURS["brown"], draw)
    _shade(canvas, _near(wall[1], draw), _near(wall[1], draw), 0, edge)
    _shade(canvas, board, _near(board, draw), edge, side)
    words = []
    for _ in range(int(draw.integers(1, 4))):
        name, colour = _colour(draw)
        things: tuple[tuple[str, Callable[[Canvas, Draw, Colour], None]], ...] = (("ball", _ball), ("cup", _cup))
        noun, thing = things[int(draw.integers(len(things)))]
        thing(canvas, draw, colour)
        words.append(f"{name} {noun}")
    return ", ".join([*words, "table"])


def _portrait(canvas: Canvas, draw: Draw) -> str:
    side = canvas.shape[0]
    ground, coat = _colour(draw), _colour(draw)
    _shade(canvas, _near(ground[1], draw), _near(ground[1], draw), 0, side)
    skin = _times((0.9, 0.7, 0.58), draw.uniform(0.4, 1.05))
    hair = _near(COLOURS[str(draw.choice(["black", "brown", "yellow", "grey", "red"]))], draw)
    x, y, radius = draw.uniform(0.35, 0.65), draw.uniform(0.36, 0.48), draw.uniform(0.15, 0.22)
    _oval(canvas, (x, y + 3.1 * radius), (1.9 * radius, 1.9 * radius), coat[1])
    _oval(canvas, (x, y - 0.25 * radius), (1.15 * radius, 1.3 * radius), hair)
    _oval(canvas, (x, y + 1.1 * radius), (0.4 * radius, 0.6 * radius), _times(skin, 0.85))
    _oval(canvas, (x, y + 0.1 * radius), (0.85 * radius, 1.1 * radius), skin)
    for way in (-1, 1):
        eye = (x + way * 0.36 * radius, y)
        _oval(canvas, eye, (0.17 * radius, 0.1 * radius), COLOURS["white"])
        _oval(canvas, eye, (0.09 * radius, 0.09 * radius), _times(hair, 0.4))
        _oval(canvas, (eye[0], y - 0.25 * radius), (0.22 * radius, 0.05 * radius), _times(hair, 0.7))
    _oval(canvas, (x, y + 0.3 * radius), (0.1 * radius, 0.16 * radius), _times(skin, 0.82))
    _oval(canvas, (x, y + 0.68 * radius), (0.3 * radius, 0.08 * radius), (0.7, 0.25, 0.25))
    return f"portrait of a person, {coat[0]} clothes, {ground[0]} background"


def _street(canvas: Canvas, draw: Draw) -> str:
    side = canvas.shape[0]
    ground = int(side * draw.uniform(0.7, 0.85))
    _shade(canvas, _near((0.45, 0.62, 0.88), draw), _near((0.85, 0.88, 0.9), draw), 0, ground)
    left = -int(draw.integers(0, side // 6))
    while left < side:
        width, top = int(side * draw.uniform(0.16, 0.34)), int(side * draw.uniform(0.12, 0.5))
        _house(canvas, (left, top, left + width, ground), draw)
        left += width
    _shade(canvas, _near((0.36, 0.35, 0.36), draw), _near((0.25, 0.25, 0.26), draw), ground, side)
    return "houses, street, sky, windows"


# things


def _ball(canvas: Canvas, draw: Draw, colour: Colour) -> None:
    x, y, radius = draw.uniform(0.15, 0.85), draw.uniform(0.5, 0.8), draw.uniform(0.07, 0.17)
    _oval(canvas, (x + 0.2 * radius, y + 0.9 * radius), (1.1 * radius, 0.3 * radius), (0.1, 0.08, 0.07), 0.5)
    for step in range(10):
        near = step / 10
        centre = (x - 0.35 * radius * near, y - 0.35 * radius * near)
        _disc(canvas, centre, radius * (1 - 0.9 * near), _times(colour, 0.55 + 0.75 * near))


def _cup(canvas: Canvas, draw: Draw, colour: Colour) -> None:
    side = canvas.shape[0]
    x, y, radius = draw.uniform(0.25, 0.75), draw.uniform(0.45, 0.65), draw.uniform(0.1, 0.2)
    _oval(canvas, (x, y + 1.35 * radius), (1.6 * radius, 0.45 * radius), _times(colour, 0.8))
    handle = (int(side * (x + 1.05 * radius)), int(side * (y + 0.6 * radius)))
    axes = (int(side * 0.4 * radius), int(side * 0.35 * radius))
    cv2.ellipse(canvas, handle, axes, 0, 0, 360, _times(colour, 0.7), max(2, side // 50), cv2.LINE_AA)
    for step in range(24):
        across = step / 23
        part = (x - radius + 2 * radius * across, y), (x - 0.7 * radius + 1.4 * radius * across, y + 1.3 * radius)
        shade = _times(colour, 1.15 - 0.7 * across)
        _line(canvas, *part, shade, max(2, int(side * radius / 9)))
    _oval(canvas, (x, y), (radius, 0.35 * radius), _times(colour, 1.2))
    _oval(canvas, (x, y + 0.03 * radius), (0.88 * radius, 0.28 * radius), _near((0.3, 0.18, 0.1), draw))


def _tree(canvas: Canvas, horizon: int, draw: Draw) -> None:
    side = canvas.shape[0]
    x, tall = draw.uniform(0, 1), draw.uniform(0.1, 0.35)
    foot = horizon / side + draw.uniform(0.02, 0.25)
    _line(canvas, (x, foot), (x, foot - tall), _near(COLOURS["brown"], draw), max(2, int(side * tall / 12)))
    leaves = _near((0.2, 0.42, 0.16), draw)
    for _ in range(14):
        centre = (x + draw.normal(0, tall / 5), foot - tall + draw.normal(0, tall / 5))
        _disc(canvas, centre, tall * draw.uniform(0.1, 0.22), _times(leaves, draw.uniform(0.7, 1.3)))


def _house(canvas: Canvas, box: tuple[int, int, int, int], draw: Draw) -> None:
    left, top, right, foot = box
    wall = _near(_colour(draw)[1], draw)
    cv2.rectangle(canvas, (left, top), (right, foot), wall, -1)
    roof = np.array([[left - 8, top], [(left + right) // 2, top - (right - left) // 3], [right + 8, top]], np.int32)
    cv2.fillPoly(canvas, [roof], _near((0.5, 0.2, 0.15), draw), cv2.LINE_AA)
    pane, step = _near((0.25, 0.3, 0.38), draw), (right - left) // 4
    for row in range(top + step // 2, foot - step, step + step // 2):
        for column in range(left + step // 2, right - step // 2, step + step // 3):
            cv2.rectangle(canvas, (column, row), (column + step // 2, row + step), pane, -1)


def _ridge(canvas: Canvas, horizon: int, tall: float, colour: Colour, draw: Draw) -> None:
    side = canvas.shape[0]
    across = np.linspace(0, 1, side)
    heights = sum(
        np.sin(across * turns * 2 * np.pi + draw.uniform(0, 6.3)) / turns for turns in draw.uniform(1, 4, 3) * [1, 3, 9]
    )
    tops = horizon - side * tall * (0.4 + 0.3 * np.asarray(heights))
    outline = np.stack([np.arange(side), tops], axis=1).astype(np.int32)
    cv2.fillPoly(canvas, [np.vstack([outline, [[side, horizon], [0, horizon]]]).astype(np.int32)], colour, cv2.LINE_AA)


# strokes: places and sizes in parts of the canvas


def _shade(canvas: Canvas, above: Colour, below: Colour, top: int, foot: int) -> None:
    way = np.linspace(0, 1, max(foot - top, 1), dtype=np.float32)[:, None, None]
    one, other = np.asarray(above, np.float32), np.asarray(below, np.float32)
    colours = one + (other - one) * way
    canvas[top:foot] = colours[: canvas[top:foot].shape[0]]


def _oval(canvas: Canvas, at: tuple[float, float], axes: tuple[float, float], colour: Colour, cover: float = 1) -> None:
    side = canvas.shape[0]
    centre, radii = (int(at[0] * side), int(at[1] * side)), (int(axes[0] * side) + 1, int(axes[1] * side) + 1)
    before = canvas.copy() if cover < 1 else canvas
    cv2.ellipse(canvas, centre, radii, 0, 0, 360, colour, -1, cv2.LINE_AA)
    if cover < 1:
        canvas += (before - canvas) * (1 - cover)


def _disc(canvas: Canvas, at: tuple[float, float], radius: float, colour: Colour) -> None:
    _oval(canvas, at, (radius, radius), colour)


def _line(canvas: Canvas, a: tuple[float, float], b: tuple[float, float], colour: Colour, width: int) -> None:
    side = canvas.shape[0]
    ends = [(int(x * side), int(y * side)) for x, y in (a, b)]
    cv2.line(canvas, ends[0], ends[1], colour, width, cv2.LINE_AA)


def _light(side: int, draw: Draw) -> NDArray[np.float32]:
    """Light from one side: 0.75 to 1.2."""
    angle = draw.uniform(0, 2 * np.pi)
    rows, columns = np.ogrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    slope = np.cos(angle) * columns + np.sin(angle) * rows
    return np.asarray(0.97 + draw.uniform(0, 0.16) * slope, np.float32)


def _colour(draw: Draw) -> tuple[str, Colour]:
    name = str(draw.choice(list(COLOURS)))
    return name, COLOURS[name]


def _near(colour: Colour, draw: Draw) -> Colour:
    r, g, b = (float(part) for part in np.clip(np.array(colour) + draw.normal(0, 0.05, 3), 0.02, 1))
    return r, g, b


def _times(colour: Colour, factor: float) -> Colour:
    r, g, b = (min(1.0, part * factor) for part in colour)
    return r, g, b
