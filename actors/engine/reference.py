"""IP-Adapter: a render resembles reference pictures, through attention of its own beside that to the text.

diffusers' own classes and conversion; but its loader replaces parts of the UNet for good, while here they are put in
for a pass and taken out again: without references the UNet is the plain one, object for object.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from diffusers.models.embeddings import ImageProjection, IPAdapterPlusImageProjection, MultiIPAdapterImageProjection
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from actors.engine.failures import of_device
from actors.engine.port import ReferenceInput, Refused
from actors.engine.vision import UNREADABLE, Vision, lacking, unreadable
from schemas.report import FailureKind

FOLDER: Final = "ip_adapter"
_WEIGHTS: Final = "ip_adapter.safetensors"
_SECTIONS: Final = ("image_proj", "ip_adapter")


class References:
    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self.clear()

    def clear(self) -> None:
        """Another checkpoint is coming, or this one goes on without."""
        self._vision: Vision | None = None
        self._projection: Any = None
        self._attention: list[tuple[Any, Any]] = []  # attention to the text, and what takes the place of its processor
        self._plain: list[Any] = []  # the processors that were replaced; none while references are off

    def load(self, folder: Path, unet: Any) -> None:
        """From ``ip_adapter/`` below the checkpoint's *folder*; nothing is done if that was loaded before.

        Raises `Refused` (BAD_WEIGHTS): ``checkpoint_lacks_part``, ``part_unreadable``, ``part_does_not_fit``.
        """
        if self._vision is not None:
            return
        at = folder / FOLDER
        encoder = at / "image_encoder"
        if not (at / _WEIGHTS).exists() or not (encoder / "config.json").exists():
            raise lacking(f"The checkpoint has no IP-Adapter ({FOLDER}/{_WEIGHTS} and {FOLDER}/image_encoder/).")
        try:
            sections = _sections(at / _WEIGHTS)
            projection, attention = self._converted(sections, unet)
        except UNREADABLE as error:
            raise unreadable(at, error) from error
        vision = Vision(encoder, preprocessor=at, device=self._device, dtype=self._dtype)
        self._projection, self._attention, self._vision = projection, attention, vision
        self._check()

    @torch.inference_mode()
    def embedding(self, references: Sequence[ReferenceInput]) -> Tensor:
        """The mean over *references*, (1, 1, d), or (1, 1, tokens, d) for an adapter that looks at patches ("plus").

        Rows of a pass go into ``added_cond_kwargs["image_embeds"]`` as a list of one tensor, (N, 1, d). Raises
        `Refused` (BAD_WEIGHTS, ``checkpoint_lacks_part``) when no adapter is loaded.
        """
        return torch.stack([self._seen(reference) for reference in references]).mean(dim=0).unsqueeze(1)

    @torch.inference_mode()
    def nothing(self) -> Tensor:
        """What the unguided half of a guided pass gets, in the shape of `embedding`: zeros, or for "plus" adapters
        what the encoder makes of a picture of zeros."""
        if self._patches:
            return self._encoder.states(None).unsqueeze(1)
        width = self._projection.image_projection_layers[0].image_embeds.in_features
        return torch.zeros(1, 1, width, device=self._device, dtype=self._dtype)

    def on(self, unet: Any, scale: float) -> None:
        """References count from now on, by *scale*. Cheap: nothing is loaded or copied."""
        if not self._plain:
            self._plain = [module.processor for module, _ in self._attention]
            for module, processor in self._attention:
                module.set_processor(processor)
            unet.encoder_hid_proj = self._projection
            unet.config.encoder_hid_dim_type = "ip_image_proj"
        for _, processor in self._attention:
            processor.scale = [scale]

    def off(self, unet: Any) -> None:
        """The plain UNet again: processors, projection, flag."""
        if self._plain:
            for (module, _), plain in zip(self._attention, self._plain, strict=True):
                module.set_processor(plain)
            unet.encoder_hid_proj = None
            unet.config.encoder_hid_dim_type = None
            self._plain = []

    @property
    def _encoder(self) -> Vision:
        if self._vision is None:
            raise lacking("No IP-Adapter was asked for when the weights were loaded.")
        return self._vision

    @property
    def _patches(self) -> bool:
        return not isinstance(self._projection.image_projection_layers[0], ImageProjection)

    def _seen(self, reference: ReferenceInput) -> Tensor:
        encoder = self._encoder
        return encoder.states(reference.picture) if self._patches else encoder.embedding(reference.picture)

    def _converted(self, sections: dict[str, dict[str, Tensor]], unet: Any) -> tuple[Any, list[tuple[Any, Any]]]:
        """By what diffusers' own `load_ip_adapter` calls, which there is no public way to without changing the UNet."""
        if unet.encoder_hid_proj is not None:
            raise ValueError("the UNet projects its texts itself, which goes with no adapter for SDXL")
        layer = unet._convert_ip_adapter_image_proj_to_diffusers(  # noqa: SLF001
            sections["image_proj"], low_cpu_mem_usage=False
        )
        if not isinstance(layer, ImageProjection | IPAdapterPlusImageProjection):
            raise ValueError(  # noqa: TRY004 - it is the file's contents that are wrong
                f"it is made for {type(layer).__name__}; only plain and plus adapters are supported"
            )
        processors = unet._convert_ip_adapter_attn_to_diffusers([sections], low_cpu_mem_usage=False)  # noqa: SLF001
        attention = []
        for name, processor in processors.items():
            if isinstance(processor, torch.nn.Module):  # of attention to the text; the others stay as they are
                module = unet.get_submodule(name.removesuffix(".processor"))
                attention.append((module, processor.to(self._device, self._dtype).eval()))
        projection = MultiIPAdapterImageProjection([layer]).to(self._device, self._dtype).eval()
        return projection, attention

    def _check(self) -> None:
        """Encoder and adapter come from different hands: one picture through both shows whether they fit."""
        try:
            with torch.inference_mode():
                self._projection([self.embedding([ReferenceInput("", Image.new("RGB", (8, 8)))])])
        except RuntimeError as error:
            self.clear()
            detail = f"{FOLDER}/image_encoder does not fit {FOLDER}/{_WEIGHTS}: {str(error)[:200]}"
            raise of_device(error) or Refused(FailureKind.BAD_WEIGHTS, "part_does_not_fit", detail) from error


def _sections(path: Path) -> dict[str, dict[str, Tensor]]:
    """``image_proj.proj.weight`` becomes ``proj.weight`` in the section ``image_proj``."""
    found: dict[str, dict[str, Tensor]] = {section: {} for section in _SECTIONS}
    for key, tensor in load_file(path, device="cpu").items():
        section, _, rest = key.partition(".")
        if section not in found:
            raise ValueError(f"unknown key {key}")
        found[section][rest] = tensor
    if not all(found.values()):
        raise ValueError("it holds no image_proj or no ip_adapter weights")
    return found
