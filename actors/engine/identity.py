"""How much of a subject was kept: the cosine of two pictures' embeddings, of a local CLIP model."""

from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from actors.engine.vision import Vision


class Identity:
    """*folder*: a transformers CLIPVisionModelWithProjection in safetensors. Without one nothing is measured.

    Raises `Refused` (BAD_WEIGHTS) when there is a folder that cannot be read.
    """

    def __init__(self, folder: Path | None, device: torch.device) -> None:
        # On a GPU not in fp32: what that rounds to is switched around the VAE, while other threads ask for embeddings.
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        self._vision = None if folder is None else Vision(folder, preprocessor=folder, device=device, dtype=dtype)

    def embedding(self, picture: Image) -> Tensor | None:
        """(d,), fp32, on the CPU, of length 1. None without a model."""
        if self._vision is None:
            return None
        found = self._vision.embedding(picture)[0].float().cpu()
        return torch.nn.functional.normalize(found, dim=0)


def cosine(a: Tensor, b: Tensor) -> float:
    """-1 to 1, of two `Identity.embedding`."""
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))
