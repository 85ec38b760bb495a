"""ControlNets: they hold a render to edges, depth or pose. Arithmetic as in diffusers' `ControlNetModel`.

Rows of one kind share a pass whatever their scales and whichever part of their steps the ControlNet acts on.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL.Image import Image
from skimage.feature import canny
from torch import Tensor

from actors.engine.port import ControlInput, Refused
from actors.engine.vision import UNREADABLE, lacking, unreadable
from schemas.report import FailureKind
from schemas.style import ControlKind

SIGMA: Final = 1.0
LOW: Final = 0.27
HIGH: Final = 0.53
"""ControlNets learnt from OpenCV's Canny at 100 and 200 of 255 (0.39 and 0.78), without smoothing. Smoothing by SIGMA,
which keeps the grain of photos out, leaves 0.68 of a step's gradient (erf(1/sqrt 2)), hence these."""

_MUST_AGREE: Final = ("block_out_channels", "layers_per_block", "cross_attention_dim")


def scale_at(given: ControlInput, step: int, steps: int) -> float:
    """How strongly it acts on step number *step* of *steps*: 0 outside ``start`` to ``end`` (diffusers' rule)."""
    outside = step / steps < given.start or (step + 1) / steps > given.end
    return 0.0 if outside else given.scale


class Controls:
    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._nets: dict[ControlKind, Any] = {}

    def load(self, folder: Path, kinds: Collection[ControlKind], unet: Any) -> None:
        """From ``controlnet/<kind>/`` below the checkpoint's *folder*. Kinds already loaded stay.

        Raises `Refused` (BAD_WEIGHTS): ``checkpoint_lacks_part``, ``part_unreadable``, ``part_does_not_fit``.
        """
        for kind in sorted(set(kinds) - self._nets.keys()):
            at = folder / "controlnet" / kind
            if not (at / "config.json").exists():
                raise lacking(f"The checkpoint has no ControlNet for {kind} (controlnet/{kind}/).")
            self._nets[kind] = self._read(at, unet)

    def clear(self) -> None:
        """Another checkpoint is coming."""
        self._nets.clear()

    def condition(self, given: ControlInput, picture: Image) -> Tensor:
        """(1, 3, H, W), 0 to 1, in the UNet's dtype. *picture*: the source, whose edges are found if none are given.

        Raises `Refused` (BAD_WEIGHTS, ``checkpoint_lacks_part``) when there is no ControlNet to look at it.
        """
        self._net(given.kind)
        shown = given.picture.convert("RGB") if given.picture is not None else None
        pixels = edges(picture) if shown is None else np.asarray(shown, dtype=np.float32) / 255.0
        found = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).unsqueeze(0)
        return found.to(self._device, self._dtype)

    def residuals(
        self,
        kind: ControlKind,
        sample: Tensor,
        timesteps: Tensor,
        text: Tensor,
        added: dict[str, Any],
        conditions: Tensor,
        scales: Tensor,
    ) -> tuple[list[Tensor], Tensor]:
        """What the UNet adds: ``down_block_additional_residuals`` and ``mid_block_additional_residual``.

        Everything has the N rows of the UNet's pass: a guided pass of B pictures has N = 2B, and the caller repeats
        *conditions* (N, 3, H, W) and *scales* (N,) as it repeats the rest. *sample*: what the UNet gets, or its first
        channels, those of the latents. *timesteps* (N,), *text* (N, tokens, d), *added*: as for the UNet; reference
        pictures in it are not looked at.

        A row whose scale is 0 gets zeros, which change no bit of it: a pass without any other may go without.
        """
        net = self._net(kind)
        down, mid = net(
            sample[:, : int(net.config.in_channels)],
            timesteps,
            encoder_hidden_states=text,
            controlnet_cond=conditions,
            added_cond_kwargs=added,
            return_dict=False,
        )
        by_row = scales.to(self._device, torch.float32).view(-1, 1, 1, 1)
        return [_scaled(each, by_row) for each in down], _scaled(mid, by_row)

    def _net(self, kind: ControlKind) -> Any:
        if kind not in self._nets:
            raise lacking(f"No ControlNet for {kind} was asked for when the weights were loaded.")
        return self._nets[kind]

    def _read(self, at: Path, unet: Any) -> Any:
        try:
            net, found = ControlNetModel.from_pretrained(  # type: ignore[no-untyped-call]
                at,
                torch_dtype=self._dtype,
                local_files_only=True,
                use_safetensors=True,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
            if found["missing_keys"]:  # diffusers would go on with random numbers in their place
                raise ValueError(f"the weights lack {', '.join(sorted(found['missing_keys'])[:5])}")
        except UNREADABLE as error:
            raise unreadable(at, error) from error
        for name in _MUST_AGREE:
            if net.config[name] != unet.config[name]:
                detail = f"{at.parent.name}/{at.name} has {name} {net.config[name]}, the UNet {unet.config[name]}."
                raise Refused(FailureKind.BAD_WEIGHTS, "part_does_not_fit", detail)
        if self._device.type == "cuda":
            net = net.to(memory_format=torch.channels_last)
        return net.to(self._device).eval()


def edges(picture: Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(H, W, 3), edges 1, the rest 0."""
    light = np.asarray(picture.convert("L"), dtype=np.float32) / 255.0
    found = canny(light, sigma=SIGMA, low_threshold=LOW, high_threshold=HIGH)  # type: ignore[no-untyped-call]
    return np.repeat(found[:, :, None].astype(np.float32), 3, axis=2)


def _scaled(residual: Tensor, by_row: Tensor) -> Tensor:
    """In fp32 and rounded once, as a plain number would be. Where the scale is 0 even an infinity gives 0."""
    return torch.where(by_row == 0, 0.0, residual * by_row).to(residual.dtype)
