"""The training pictures: crops of the fetched photos, clip art and drawn scenes, each also in a style and under a word.

Picture *n* is a function of the seed and *n* alone, so any part can be made again, by any number of processes.
"""

import json
import multiprocessing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from ops.demo_checkpoint.filters import STYLES, WORDS, Rgb
from ops.demo_checkpoint.scenes import scene
from ops.demo_checkpoint.training import SEED, device

SIZE: Final = 256
KINDS: Final = {"photo": 0.6, "clipart": 0.2, "scene": 0.2}
STYLE_NAMES: Final = tuple(STYLES)
WORD_NAMES: Final = tuple(WORDS)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Each (N, 256, 256, 3) uint8, on disk: as they are, in style ``n % 4``, under word ``n // 4 % 4``."""

    plain: NDArray[np.uint8]
    styled: NDArray[np.uint8]
    worded: NDArray[np.uint8]
    captions: list[str]

    def crops(self, draw: np.random.Generator, count: int, size: int) -> Tensor:
        """(count, 3, size, size) in -1..1, half of them filtered."""
        cut = np.empty((count, size, size, 3), np.uint8)
        for row in range(count):
            pictures = (self.plain, self.styled, self.plain, self.worded)[row % 4]
            top, left = draw.integers(0, SIZE - size + 1, 2)
            cut[row] = pictures[draw.integers(len(pictures)), top : top + size, left : left + size]
        return tensor(cut)


def tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) in -1..1, channels last in memory."""
    return torch.from_numpy(np.array(pictures)).to(device()).permute(0, 3, 1, 2).float() / 127.5 - 1


def prepare(work: Path, count: int) -> Pictures:
    """Reads what ``fetch`` left in *work*/photos; draws the rest. What is there already is kept."""
    folder = work / f"pictures-{count}"
    if not (folder / "captions.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(work / "photos", folder, count)
    plain, styled, worded = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("plain", "styled", "worded"))
    return Pictures(plain, styled, worded, json.loads((folder / "captions.json").read_text()))


def _make(photos: Path, folder: Path, count: int) -> None:
    shape = (count, SIZE, SIZE, 3)
    arrays = [
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape)
        for name in ("plain", "styled", "worded")
    ]
    index = json.loads((photos / "index.json").read_text())
    captions = []
    fresh = multiprocessing.get_context("spawn")  # a fork of a process in which torch has threads may hang
    with fresh.Pool(initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        for n, (made, caption) in enumerate(pool.imap(partial(_picture, photos, index), range(count), chunksize=8)):
            for array, picture in zip(arrays, made, strict=True):
                array[n] = picture
            captions.append(caption)
            if n % 250 == 0:
                print(f"picture {n} of {count}", flush=True)
    (folder / "captions.json").write_text(json.dumps(captions))


def _picture(photos: Path, index: list[dict[str, Any]], n: int) -> tuple[tuple[Rgb, Rgb, Rgb], str]:
    draw = np.random.default_rng((SEED, n))
    kind = str(draw.choice(list(KINDS), p=list(KINDS.values())))
    if kind == "scene":
        picture, words = scene(draw, SIZE)
    else:
        picture, words = _composed(photos, index, kind, draw)
    style, word = STYLES[STYLE_NAMES[n % 4]], WORDS[WORD_NAMES[n // 4 % 4]]
    return (picture, style(picture), word(picture)), words


def _composed(photos: Path, index: list[dict[str, Any]], kind: str, draw: np.random.Generator) -> tuple[Rgb, str]:
    ground, words = _crop(photos, _chosen(index, ("photo", "panorama"), draw), draw)
    if kind == "photo":
        return np.asarray(ground), words
    entry = _chosen(index, (kind,), draw)
    if draw.random() < 0.6:
        ground = _paper(draw)
    thing = Image.open(photos / entry["file"]).convert("RGBA")
    side = int(SIZE * draw.uniform(0.5, 0.95))
    thing = ImageOps.contain(thing, (side, side), Image.Resampling.LANCZOS)
    left, top = (int(draw.integers(0, SIZE - edge + 1)) for edge in thing.size)
    ground.paste(thing, (left, top), thing)
    return np.asarray(ground), entry["words"]


def _chosen(index: list[dict[str, Any]], kinds: tuple[str, ...], draw: np.random.Generator) -> dict[str, Any]:
    entries = [entry for entry in index if entry["kind"] in kinds]
    return entries[int(draw.integers(len(entries)))]


def _crop(photos: Path, entry: dict[str, Any], draw: np.random.Generator) -> tuple[Image.Image, str]:
    picture = Image.open(photos / entry["file"]).convert("RGB")
    side = min(picture.size) * draw.uniform(0.35, 1.0) ** 0.7
    side = min(max(side, 200.0), float(min(picture.size)))
    left, top = (draw.uniform(0, edge - side) for edge in picture.size)
    box = (left, top, left + side, top + side)
    cut = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=box)
    if draw.random() < 0.5:
        cut = ImageOps.mirror(cut)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        cut = enhance(cut).enhance(float(draw.uniform(0.8, 1.25)))
    return cut, entry["words"]


def _paper(draw: np.random.Generator) -> Image.Image:
    """A plain or softly shaded ground."""
    one, other = draw.integers(90, 256, (2, 3)).astype(np.float32)
    way = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None] * draw.uniform(0, 1)
    return Image.fromarray(np.broadcast_to(one + (other - one) * way, (SIZE, SIZE, 3)).astype(np.uint8).copy())
