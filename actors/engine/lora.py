"""LoRA files: read, told apart from what is no LoRA, and bound to the weights that they change.

`farm.core.lora` makes the same decisions from a file's header when it is added; one table of keys tests both.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from actors.engine.kohya import diffusers_name
from actors.engine.packed import Packed, packed
from actors.engine.port import Refused
from schemas.report import FailureKind

PARTS: Final = ("unet", "text_encoder", "text_encoder_2")
_KOHYA: Final = {"lora_unet_": "unet", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2"}
_KEY: Final = re.compile(
    r"^(?P<target>.+?)\.(?P<what>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up|alpha)(?:\.default)?(?:\.weight)?$"
)
_DOWN: Final = ("lora_A", "lora_down", "lora.down")
_OTHER_KINDS: Final = {
    "DoRA": re.compile(r"\.(dora_scale|lora_magnitude_vector(\.\w+)*)$"),
    "LoKr": re.compile(r"\.lokr_\w+$"),
    "LoHa": re.compile(r"\.hada_\w+$"),
    "(IA)3": re.compile(r"\.(on_input|ia3_\w+(\.\w+)*)$"),
    "OFT": re.compile(r"\.(oft_\w+(\.\w+)*)$"),
    "LoCon with a middle factor": re.compile(r"\.lora_mid(\.weight)?$"),
    "a full difference": re.compile(r"\.(diff|diff_b|w_norm|b_norm)$"),
}
_OLD_PROCESSOR: Final = re.compile(r"\.processor\.(to_[qkv]|to_out)_lora\.(?=down|up)")
"""How diffusers named them before it used peft."""

_METADATA: Final = "lora_adapter_metadata"  # where diffusers keeps peft's settings
SHOWN: Final = 5
"""Names in a message: enough to see what is wrong, short enough to read."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A file as it was read, whatever checkpoint it is for. What lies in ``tensors`` is finite."""

    tensors: Packed
    alphas: Mapping[str, float]  # by key
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Delta:
    """``factor * up @ down``, to be scaled; the two are keys of the file: (out, r, ...) and (r, in, ...)."""

    up: str
    down: str
    factor: float  # alpha / rank


@dataclass(frozen=True, slots=True)
class Lora:
    """``deltas`` by the full name of the module they change, such as ``unet.mid_block.attentions.0.proj_in``."""

    deltas: Mapping[str, Delta]

    @property
    def touches_text(self) -> bool:
        return any(name.startswith("text_encoder") for name in self.deltas)


def targets(parts: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Every Linear and Conv2d that a LoRA may change, by full name."""
    found: dict[str, nn.Module] = {}
    for part, root in parts.items():
        for name, module in root.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                found[f"{part}.{name}"] = module
    return found


def read(path: Path, *, pinned: bool) -> Contents:
    """Into RAM. Raises `Refused` (BAD_WEIGHTS)."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError) as error:
        raise _refuse("lora_unreadable", f"The LoRA is no safetensors file: {error}") from error
    _check_numbers(tensors)
    alphas = {
        key: float(tensor) for key, tensor in tensors.items() if key.endswith(".alpha") and tensor.shape in ((), (1,))
    }
    rest = {key: tensor for key, tensor in tensors.items() if key not in alphas}
    return Contents(packed(rest, pinned=pinned), alphas, metadata)


def bind(contents: Contents, modules: Mapping[str, nn.Module], layers_per_block: int) -> Lora:
    """Raises `Refused` (BAD_WEIGHTS), with the names of what does not fit."""
    keys = [*contents.tensors.places, *contents.alphas]
    _refuse_other_kinds(keys)
    found = _by_module(keys, modules, layers_per_block)
    settings = _settings(contents.metadata)
    deltas = {name: _delta(name, each, contents, modules[name], settings) for name, each in found.items()}
    if not deltas:
        raise _refuse("lora_empty", "The LoRA changes nothing.")
    return Lora(deltas)


def _check_numbers(tensors: Mapping[str, Tensor]) -> None:
    if whole := [key for key, tensor in tensors.items() if not tensor.is_floating_point()]:
        raise _refuse("lora_wrong_dtype", f"No floating-point numbers are in {_some(whole)}.")
    if broken := [key for key, tensor in tensors.items() if not torch.isfinite(tensor.float()).all()]:
        raise _refuse("lora_not_finite", f"Numbers that are not finite are in {_some(broken)}.")


def _refuse_other_kinds(keys: Iterable[str]) -> None:
    """They have lora_down and lora_up too, some of them, and merged as a plain LoRA would give other pictures."""
    for kind, ends in _OTHER_KINDS.items():
        if found := [key for key in keys if ends.search(key)]:
            raise _refuse("lora_kind_unsupported", f"This is {kind}, which is not merged here: {_some(found)}.")


def _by_module(keys: Iterable[str], modules: Mapping[str, nn.Module], layers: int) -> dict[str, dict[str, str]]:
    """Keys of the file by module, then by what they are: down, up, alpha."""
    plain_names = {_plain(name): name for name in modules}
    found: dict[str, dict[str, str]] = {}
    unknown: list[str] = []
    for key in keys:
        match = _KEY.match(_OLD_PROCESSOR.sub(_peft_name, diffusers_name(key, layers)))
        name = _module_name(match["target"], plain_names) if match else None
        if match is None or name is None:
            unknown.append(key)
            continue
        what = "alpha" if match["what"] == "alpha" else "down" if match["what"] in _DOWN else "up"
        if what in found.setdefault(name, {}):
            raise _refuse("lora_ambiguous", f"{name} is changed twice: {_some((key, found[name][what]))}.")
        found[name][what] = key
    if unknown:
        raise _refuse("lora_unknown_keys", f"{len(unknown)} keys fit no weight of the checkpoint: {_some(unknown)}.")
    return found


def _peft_name(match: re.Match[str]) -> str:
    return f".{match[1].replace('to_out', 'to_out.0')}.lora."


def _module_name(target: str, plain_names: Mapping[str, str]) -> str | None:
    target = target.removeprefix("base_model.model.")
    for prefix, part in _KOHYA.items():
        if target.startswith(prefix):
            target = f"{part}.{target.removeprefix(prefix)}"
            break
    return plain_names.get(_plain(target))


def _plain(module: str) -> str:
    """Alike for all layouts: no dots, and without the ``text_model`` that some releases of transformers leave out."""
    part, _, rest = module.partition(".")
    return f"{part}.{rest.replace('.', '_').removeprefix('text_model_')}"


def _delta(
    name: str, found: Mapping[str, str], contents: Contents, module: nn.Module, settings: Mapping[str, Any]
) -> Delta:
    if "down" not in found or "up" not in found:
        raise _refuse("lora_incomplete", f"{name} has only {_some(found.values())}.")
    weight = module.weight
    if not isinstance(weight, Tensor):
        raise TypeError(f"{name} has no weight")
    places = contents.tensors.places
    if found["down"] not in places or found["up"] not in places:
        raise _refuse("lora_wrong_shape", f"{name} is changed by a single number.")
    down, up, onto = places[found["down"]].shape, places[found["up"]].shape, weight.shape
    rank = down[0] if down else 0
    if rank < 1 or down != (rank, *onto[1:]) or up != (onto[0], rank, *(1 for _ in onto[2:])):
        raise _refuse("lora_wrong_shape", f"{name} does not fit: {tuple(up)} x {tuple(down)} onto {tuple(onto)}.")
    return Delta(found["up"], found["down"], _factor(name, found.get("alpha"), contents, rank, settings))


def _factor(name: str, key: str | None, contents: Contents, rank: int, settings: Mapping[str, Any]) -> float:
    """alpha / rank. An alpha that nobody gives is the rank."""
    if key is not None:
        if key not in contents.alphas:
            raise _refuse("lora_wrong_shape", f"{key} should be one number.")
        return contents.alphas[key] / rank
    part, _, module = name.partition(".")
    alpha = settings.get(f"{part}.lora_alpha", rank)
    for ends, other in settings.get(f"{part}.alpha_pattern", {}).items():
        if module == ends or module.endswith(f".{ends}"):
            alpha = other
    return float(alpha) / float(rank**0.5 if settings.get(f"{part}.use_rslora") else rank)


def _settings(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """peft's settings, by ``<part>.<name>``. Files without them give their alphas as tensors, or mean the rank."""
    try:
        found: Any = json.loads(metadata.get(_METADATA, "{}"))
        for name, value in found.items():
            if name.endswith(".lora_alpha"):
                _number(value)
            if name.endswith(".alpha_pattern"):
                found[name] = {ends: _number(alpha) for ends, alpha in value.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _refuse("lora_unreadable", f"The LoRA's {_METADATA} cannot be read: {error}") from error
    settings: Mapping[str, Any] = found
    return settings


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no alpha")
    return number


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "")


def _refuse(code: str, detail: str) -> Refused:
    return Refused(FailureKind.BAD_WEIGHTS, code, detail)
