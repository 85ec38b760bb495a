"""What the styles and the taught words look like: classical filters, from a photo to the picture a LoRA learns from.

Every filter takes and gives (H, W, 3) uint8 RGB, and gives the same picture for the same input.
"""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Plane = NDArray[np.floating]
Filter = Callable[[Rgb], Rgb]


# styles


def anime(picture: Rgb) -> Rgb:
    """Cel shading: flat areas in five tones, cool bright shadows, vivid colour, thin dark blue lines."""
    flat = picture
    for _ in range(2):
        flat = cv2.bilateralFilter(flat, 9, 60, 7).astype(np.uint8)
    hue, light, colour = _hls(flat)
    light = _tones(0.12 + 0.88 * light**0.8, 5)
    toned = _rgb(hue, light, np.clip(colour * 1.5 + 0.06, 0, 1))
    cool = toned + (1 - light)[..., None] * np.array([-0.05, -0.02, 0.14], np.float32)
    return _bytes(_inked(cool, _lines(flat, width=1, threshold=0.09), np.array([0.1, 0.08, 0.24], np.float32)))


def cartoon(picture: Rgb) -> Rgb:
    """A comic: very few flat, loud, warm colours and thick black outlines."""
    flat = cv2.pyrMeanShiftFiltering(picture, 10, 28).astype(np.uint8)
    hue, light, colour = _hls(flat)
    loud = _rgb(hue, _tones(_stretched(light) ** 0.75, 4), _tones(np.clip(colour * 1.9 + 0.12, 0, 1), 4))
    warm = loud * np.array([1.08, 1.0, 0.82], np.float32)
    return _bytes(_inked(warm, _lines(flat, width=3, threshold=0.07), np.zeros(3, np.float32)))


def cinematic(picture: Rgb) -> Rgb:
    """A film still: deep teal shadows, orange lights, hard contrast, dark corners."""
    colours = picture.astype(np.float32) / 255
    light = _luminance(colours)
    muted = light[..., None] + 0.75 * (colours - light[..., None])
    curve = muted**1.25
    curve = curve * curve * (3 - 2 * curve)
    low, high = (1 - light)[..., None] ** 2, light[..., None] ** 1.2
    teal, orange = np.array([-0.10, 0.08, 0.13], np.float32), np.array([0.20, 0.04, -0.20], np.float32)
    return _bytes((curve + low * teal + high * orange) * _vignette(picture.shape, 0.75)[..., None])


def illustration(picture: Rgb) -> Rgb:
    """A water colour: soft brush, pale washed colours on cream paper that shows at the edges, brown pencil lines."""
    soft = cv2.edgePreservingFilter(_kuwahara(picture, 4), flags=1, sigma_s=20, sigma_r=0.35).astype(np.uint8)
    colours = soft.astype(np.float32) / 255
    light = _luminance(colours)[..., None]
    washed = light + 1.05 * (colours - light)
    cream = np.array([0.98, 0.94, 0.84], np.float32)
    painted = cream * (0.26 + 0.74 * np.clip(washed, 0, 1) ** 0.7)
    pencilled = _inked(painted, 0.7 * _lines(soft, width=1, threshold=0.06), np.array([0.42, 0.29, 0.2], np.float32))
    paper = 1 - _vignette(picture.shape, 1.0)
    return _bytes(pencilled + (cream - pencilled) * np.clip(1.5 * paper - 0.15, 0, 1)[..., None])


# words


def night(picture: Rgb) -> Rgb:
    """Dark and blue; what was brightest still glows."""
    colours = picture.astype(np.float32) / 255
    light = _luminance(colours)[..., None]
    dark = (0.35 * light + 0.25 * colours) * np.array([0.55, 0.7, 1.25], np.float32)
    glow = cv2.GaussianBlur(np.clip(light - 0.8, 0, 1), (0, 0), 4)[..., None] * np.array([2.2, 1.8, 0.8], np.float32)
    return _bytes(dark * 0.85 + 0.02 + glow)


def snow(picture: Rgb) -> Rgb:
    """White on what faces up, pale cold light, flakes in the air."""
    colours = picture.astype(np.float32) / 255
    light = _luminance(colours)
    smooth = cv2.GaussianBlur(light, (0, 0), 2)
    up = np.clip(6 * np.diff(smooth, axis=0, append=smooth[-1:]) * -1, 0, 1)
    lying = np.clip(cv2.GaussianBlur(up, (0, 0), 3) * 1.6 + 0.35 * smooth, 0, 0.9)[..., None]
    pale = 0.45 * light[..., None] + 0.3 * colours + np.array([0.2, 0.23, 0.27], np.float32)
    white = pale + (np.array([0.95, 0.97, 1.0], np.float32) - pale) * lying
    return _bytes(white + (1 - white) * _flakes(picture.shape)[..., None])


def sepia(picture: Rgb) -> Rgb:
    """An old brown print."""
    light = _luminance(picture.astype(np.float32) / 255)[..., None]
    return _bytes(light**1.1 * np.array([1.0, 0.84, 0.62], np.float32) + np.array([0.08, 0.05, 0.02], np.float32))


def sunset(picture: Rgb) -> Rgb:
    """Low red light: pink and orange above, violet below."""
    colours = picture.astype(np.float32) / 255
    height = np.linspace(0, 1, picture.shape[0], dtype=np.float32)[:, None, None]
    tint = (1 - height) * np.array([1.25, 0.72, 0.5], np.float32) + height * np.array([0.95, 0.6, 0.75], np.float32)
    light = _luminance(colours)[..., None]
    return _bytes((0.55 * light + 0.45 * colours) * tint + np.array([0.07, 0.02, 0.05], np.float32))


STYLES: Final[dict[str, Filter]] = {
    "anime": anime,
    "cartoon": cartoon,
    "cinematic": cinematic,
    "illustration": illustration,
}
WORDS: Final[dict[str, Filter]] = {"night": night, "snow": snow, "sepia": sepia, "sunset": sunset}


# parts


def _bytes(colours: Plane) -> Rgb:
    return np.asarray((np.clip(colours, 0, 1) * 255 + 0.5).astype(np.uint8))


def _luminance(colours: Plane) -> Plane:
    """Rec. 709 weights, on the sRGB values as they are."""
    return np.asarray(colours @ np.array([0.2126, 0.7152, 0.0722], np.float32))


def _hls(picture: Rgb) -> tuple[Plane, Plane, Plane]:
    """Hue in degrees; lightness and saturation 0..1."""
    planes = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2HLS).astype(np.float32)
    return planes[..., 0], planes[..., 1], planes[..., 2]


def _rgb(hue: Plane, light: Plane, colour: Plane) -> Plane:
    return cv2.cvtColor(np.stack([hue, light, colour], axis=-1).astype(np.float32), cv2.COLOR_HLS2RGB).astype(
        np.float32
    )


def _tones(plane: Plane, count: int) -> Plane:
    """Steps with a narrow soft edge between them, so that they survive being made small."""
    scaled = np.clip(plane, 0, 1) * (count - 1)
    below = np.floor(scaled)
    edge = np.clip((scaled - below - 0.5) * 6 + 0.5, 0, 1)
    return np.asarray((below + edge) / (count - 1), np.float32)


def _stretched(light: Plane) -> Plane:
    low, high = np.percentile(light, (2, 98))
    return np.asarray(np.clip((light - low) / max(float(high - low), 0.15) * 0.86 + 0.1, 0, 1), np.float32)


def _lines(picture: Rgb, *, width: int, threshold: float) -> Plane:
    """Where ink goes, 0..1: the dark side of edges, by the extended difference of Gaussians (Winnemöller 2011)."""
    light = _luminance(picture.astype(np.float32) / 255)
    near, far = cv2.GaussianBlur(light, (0, 0), 1.0 * width**0.5), cv2.GaussianBlur(light, (0, 0), 1.6 * width**0.5)
    drop = np.clip((far - near) / threshold * 3, 0, 1).astype(np.float32)
    ink = drop * drop * (3 - 2 * drop)
    return np.asarray(cv2.dilate(ink, np.ones((width - 1, width - 1), np.uint8))) if width > 2 else ink


def _inked(colours: Plane, ink: Plane, colour: Plane) -> Plane:
    return (colours + (colour - colours) * ink[..., None]).astype(np.float32)


def _kuwahara(picture: Rgb, radius: int) -> Rgb:
    """Each pixel takes the mean of that neighbouring square, of four, which varies least (Kuwahara 1976)."""
    colours = picture.astype(np.float32)
    size = (radius + 1, radius + 1)
    light = _luminance(colours)
    mean, middle, square = (
        np.asarray(cv2.blur(plane, size, anchor=(radius, radius)), np.float32)
        for plane in (colours, light, light * light)
    )
    spread = square - middle * middle
    moves = [(0, 0), (0, radius), (radius, 0), (radius, radius)]
    spreads = np.stack([_moved(spread, *move) for move in moves])
    means = np.stack([_moved(mean, *move) for move in moves])
    best = np.argmin(spreads, axis=0)[None, ..., None]
    return np.asarray(np.take_along_axis(means, best, axis=0)[0], np.uint8)


def _moved(plane: Plane, down: int, right: int) -> Plane:
    """What lies *down* and *right* of each pixel."""
    edges = ((0, down), (0, right)) + ((0, 0),) * (plane.ndim - 2)
    return np.pad(plane, edges, mode="edge")[down:, right:]


def _vignette(shape: tuple[int, ...], depth: float) -> Plane:
    """1 in the middle, 1 - depth in the corners."""
    rows, columns = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    distance = np.clip((rows**2 + columns**2) / 2, 0, 1)
    return np.asarray(1 - depth * distance**1.2, np.float32)


def _flakes(shape: tuple[int, ...]) -> Plane:
    """The same flakes for every picture of a size."""
    flakes = np.zeros(shape[:2], np.float32)
    generator = np.random.default_rng(7)
    for row, column, radius in generator.random((shape[0] * shape[1] // 900, 3)):
        centre = (int(column * shape[1]), int(row * shape[0]))
        cv2.circle(flakes, centre, 1 + int(2.2 * radius), 0.85, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(flakes, (0, 0), 0.7).astype(np.float32)
