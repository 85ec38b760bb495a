"""A small classifier that tells the four styles apart. It learned from filter outputs only and never saw a render.

Its weights lie beside it, so that the tests can ask it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from ops.demo_checkpoint.pictures import STYLE_NAMES, Pictures
from ops.demo_checkpoint.training import Task, train

WEIGHTS: Final = Path(__file__).with_name("judge.safetensors")
SEEN: Final = 96
"""It looks at pictures of this side: strokes and colours are there, the autoencoder's fine grain is not."""
BATCH: Final = 32


class Judge(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(3),  # a 3x3 map: vignettes are about where
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(32 * 9, len(STYLE_NAMES)),
        )


def train_judge(pictures: Pictures, work: Path, minutes: float) -> None:
    """On the training pictures, each through its filter. Writes WEIGHTS."""
    torch.manual_seed(0)
    judge = Judge()

    def loss(draw: np.random.Generator) -> Tensor:
        chosen = draw.integers(len(pictures.styled), size=BATCH)
        batch = torch.cat([_seen(pictures.styled[n]) for n in chosen.tolist()])
        if draw.random() < 0.5:
            batch = batch.flip(-1)
        return functional.cross_entropy(judge(batch), torch.from_numpy(chosen % len(STYLE_NAMES)))

    train(Task("judge", judge, loss, minutes, 1e-3, 0.99), work)
    save_file({name: weight.half() for name, weight in judge.state_dict().items()}, WEIGHTS)


def style_of(pictures: Sequence[NDArray[np.uint8]]) -> list[str]:
    """The style that the judge sees in each (H, W, 3) picture."""
    judge = Judge().eval()
    judge.load_state_dict({name: weight.float() for name, weight in load_file(WEIGHTS).items()})
    with torch.inference_mode():
        found = judge(torch.cat([_seen(picture) for picture in pictures])).argmax(dim=1)
    return [STYLE_NAMES[number] for number in found.tolist()]


def _seen(picture: NDArray[np.uint8]) -> Tensor:
    """(1, 3, 96, 96) in -1..1."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
    return functional.interpolate(pixels, size=(SEEN, SEEN), mode="area")
