"""LoRAs: read, name the weights they change, merge in place from pristine weights.

    W = W0 + sum(scale_i * alpha_i / rank_i * B_i A_i)        (LoRA, arXiv 2106.09685)

accumulated in fp32 and rounded once, so that nothing drifts: with no LoRA left the pristine bits are back.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from actors.engine.kohya import diffusers_names
from actors.engine.port import Refused
from schemas.report import FailureKind

PARTS: Final = ("unet", "text_encoder", "text_encoder_2")
_KOHYA: Final = {"lora_unet_": "unet", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2"}
_ENDS: Final = re.compile(
    r"^(?P<target>.+?)\.(?P<what>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up|alpha)(?:\.default)?(?:\.weight)?$"
)
_WHAT: Final = {"lora_down": "lora_A", "lora.down": "lora_A", "lora_up": "lora_B", "lora.up": "lora_B"}
SHOWN: Final = 5
"""Names in a message: enough to see what is wrong, short enough to read."""


@dataclass(frozen=True, slots=True)
class Delta:
    """``up`` (out, r, ...) @ ``down`` (r, in, ...), to be multiplied by ``alpha / r``; fp32 or as stored."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])

    def full(self, scale: float, device: torch.device) -> Tensor:
        """fp32, in the shape of the weight: (out, in) or (out, in, kh, kw)."""
        down, up = self.down.to(device, torch.float32), self.up.to(device, torch.float32)
        product = up.flatten(1) @ down.flatten(1)
        shape = (up.shape[0], *down.shape[1:])
        return product.reshape(shape) * (scale * self.alpha / self.rank)


@dataclass(frozen=True, slots=True)
class Lora:
    """``deltas`` by the full name of the module they change, such as ``unet.mid_block.attentions.0.proj_in``."""

    deltas: Mapping[str, Delta]
    bytes: int


def targets(parts: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Every Linear and Conv2d that a LoRA may change, by full name."""
    found: dict[str, nn.Module] = {}
    for part, root in parts.items():
        for name, module in root.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                found[f"{part}.{name}"] = module
    return found


def read(path: Path, modules: Mapping[str, nn.Module], layers_per_block: int) -> Lora:
    """Raises `Refused` (BAD_WEIGHTS), with the names of what does not fit."""
    try:
        tensors = load_file(path, device="cpu")
    except (SafetensorError, OSError) as error:
        raise _refuse("lora_unreadable", f"The LoRA is no safetensors file: {error}") from error
    grouped = _grouped(diffusers_names(tensors, layers_per_block), modules)
    deltas = {name: _delta(name, found, modules[name]) for name, found in grouped.items()}
    if not deltas:
        raise _refuse("lora_empty", "The LoRA changes nothing.")
    return Lora(deltas, sum(tensor.nbytes for tensor in tensors.values()))


def _grouped(tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    """Tensors by module, then by what they are: lora_A, lora_B, alpha."""
    flat = {name.replace(".", "_"): name for name in modules}
    grouped: dict[str, dict[str, Tensor]] = {}
    unknown: list[str] = []
    for key, tensor in tensors.items():
        match = _ENDS.match(key)
        name = _module_name(match["target"], modules, flat) if match else None
        if match is None or name is None:
            unknown.append(key)
        else:
            grouped.setdefault(name, {})[_WHAT.get(match["what"], match["what"])] = tensor
    if unknown:
        raise _refuse("lora_unknown_keys", f"{len(unknown)} keys fit no weight of the checkpoint: {_some(unknown)}.")
    return grouped


def _module_name(target: str, modules: Mapping[str, nn.Module], flat: Mapping[str, str]) -> str | None:
    target = target.removeprefix("base_model.model.")
    if target in modules:
        return target
    for prefix, part in _KOHYA.items():
        if target.startswith(prefix):
            rest = target.removeprefix(prefix)
            # transformers 5 dropped the `text_model` level of its CLIP modules for some classes; files still have it
            return flat.get(f"{part}_{rest}") or flat.get(f"{part}_{rest.removeprefix('text_model_')}")
    for part in ("text_encoder", "text_encoder_2"):
        if target.startswith(f"{part}.text_model."):
            shorter = target.replace(f"{part}.text_model.", f"{part}.", 1)
            return shorter if shorter in modules else None
    return None


def _delta(name: str, found: Mapping[str, Tensor], module: nn.Module) -> Delta:
    if "lora_A" not in found or "lora_B" not in found:
        raise _refuse("lora_incomplete", f"{name} has only {_some(found)}.")
    down, up = found["lora_A"], found["lora_B"]
    alpha = float(found["alpha"].item()) if "alpha" in found else float(down.shape[0])
    weight = _weight(name, module)
    same_rank = down.ndim == up.ndim == weight.ndim and down.shape[0] == up.shape[1]
    if (
        not same_rank
        or any(side != 1 for side in up.shape[2:])
        or (up.shape[0], *down.shape[1:]) != tuple(weight.shape)
    ):
        shapes = f"{tuple(up.shape)} x {tuple(down.shape)} onto {tuple(weight.shape)}"
        raise _refuse("lora_wrong_shape", f"{name} does not fit: {shapes}.")
    if not (torch.isfinite(down).all() and torch.isfinite(up).all()):
        raise _refuse("lora_not_finite", f"{name} holds numbers that are not finite.")
    return Delta(down, up, alpha)


def _weight(name: str, module: nn.Module) -> Tensor:
    weight = module.weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"{name} has no weight")
    return weight


class Merger:
    """Owns the weights that LoRAs change. Pristine copies are kept of what was ever touched, beside the weights."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        self._pristine: dict[str, Tensor] = {}
        self._merged: frozenset[str] = frozenset()

    @torch.no_grad()
    def merge(self, loras: Iterable[tuple[Lora, float]]) -> None:
        """From whatever is merged now to exactly these. A failure in the middle is mended by the next merge."""
        wanted: dict[str, list[tuple[Delta, float]]] = {}
        for lora, scale in loras:
            for name, delta in lora.deltas.items():
                wanted.setdefault(name, []).append((delta, scale))
        touched = self._merged | wanted.keys()
        self._merged = touched
        for name in sorted(touched):
            self._write(name, wanted.get(name, []))
        self._merged = frozenset(wanted)

    def _write(self, name: str, deltas: list[tuple[Delta, float]]) -> None:
        weight = _weight(name, self._modules[name])
        pristine = self._pristine.get(name)
        if pristine is None:
            pristine = self._pristine[name] = weight.detach().clone()
        if not deltas:
            weight.copy_(pristine)
            return
        total = pristine.to(torch.float32, copy=True)
        for delta, scale in deltas:
            total += delta.full(scale, weight.device)
        weight.copy_(total)  # the one rounding


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "")


def _refuse(code: str, detail: str) -> Refused:
    return Refused(FailureKind.BAD_WEIGHTS, code, detail)
