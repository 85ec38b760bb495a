"""CLIP's picture encoder: what reference pictures are seen with, and what tells whether a subject was kept."""

from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from actors.engine.failures import of_device
from actors.engine.port import EngineError, Refused
from schemas.report import FailureKind

UNREADABLE: Final = (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError)
"""What diffusers, transformers and safetensors raise for files that are missing or do not fit."""


class Vision:
    """Raises `Refused` (BAD_WEIGHTS) when *folder* holds no CLIPVisionModelWithProjection in safetensors.

    *preprocessor*: the folder where a ``preprocessor_config.json`` may lie; without one, CLIP's own numbers are used
    with the model's picture size.
    """

    def __init__(self, folder: Path, *, preprocessor: Path, device: torch.device, dtype: torch.dtype) -> None:
        try:
            self._model: Any = _model(folder, dtype).to(device)
            self._processor = _processor(preprocessor, int(self._model.config.image_size))
        except UNREADABLE as error:
            raise unreadable(folder, error) from error

    @torch.inference_mode()
    def embedding(self, picture: Image.Image) -> Tensor:
        """(1, d), in the model's dtype: the projected class token."""
        found: Tensor = self._model(self._pixels(picture)).image_embeds
        return found

    @torch.inference_mode()
    def states(self, picture: Image.Image | None) -> Tensor:
        """(1, tokens, d): the last hidden states but one. None: those of a picture of zeros (CLIP's mean colour)."""
        pixels = self._pixels(Image.new("RGB", (8, 8)) if picture is None else picture)
        pixels = torch.zeros_like(pixels) if picture is None else pixels
        found: Tensor = self._model(pixels, output_hidden_states=True).hidden_states[-2]
        return found

    def _pixels(self, picture: Image.Image) -> Tensor:
        found = self._processor(picture.convert("RGB"), return_tensors="pt")["pixel_values"]
        pixels: Tensor = found.to(self._model.device, self._model.dtype)
        return pixels


def _model(folder: Path, dtype: torch.dtype) -> Any:
    loader: Any = CLIPVisionModelWithProjection.from_pretrained  # its type knows nothing of output_loading_info
    model, found = loader(folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True)
    if found["missing_keys"]:  # transformers would go on with random numbers in their place
        raise ValueError(f"the weights lack {', '.join(sorted(found['missing_keys'])[:5])}")
    return model.eval()


def _processor(folder: Path, edge: int) -> Any:
    if (folder / "preprocessor_config.json").exists():
        return CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    return CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge})


def lacking(detail: str) -> Refused:
    return Refused(FailureKind.BAD_WEIGHTS, "checkpoint_lacks_part", detail)


def unreadable(folder: Path, error: Exception) -> EngineError:
    """Unless it is the GPU that had no room for it, or is lost."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    detail = f"{folder.parent.name}/{folder.name} cannot be loaded: {lines[0][:300]}"
    return of_device(error) or Refused(FailureKind.BAD_WEIGHTS, "part_unreadable", detail)
