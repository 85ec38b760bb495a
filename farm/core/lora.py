"""Which weights of a checkpoint a LoRA changes, and whether it fits them.

Two layouts are read: that of diffusers and peft (``unet.mid_block.attn.to_q.lora_A.weight``, also with ``lora.down``),
and that of kohya with diffusers names (``lora_unet_mid_block_attn_to_q.lora_down.weight``). A LoRA adds ``B @ A``,
where A is (r, in) and B is (out, r), to a weight of shape (out, in).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from farm.core.errors import BadRequest
from farm.core.safetensors import Header, Shape
from schemas.problem import Fault

MAX_HEADER_BYTES = 2 * 2**20
MAX_TENSORS = 20_000
NAMED_AT_MOST = 10

_KEY = re.compile(r"(?P<module>.+?)\.(?:(?P<down>lora_A|lora_down|lora\.down)|(?P<up>lora_B|lora_up|lora\.up))\.weight")
_ALPHA = re.compile(r"(?P<module>.+?)\.alpha")
_KOHYA = {"lora_unet_": "unet.", "lora_te1_": "text_encoder.", "lora_te2_": "text_encoder_2."}


@dataclass(frozen=True, slots=True)
class Fit:
    targets: int
    rank: int  # the largest


@dataclass(slots=True)
class _Pair:
    down: Shape | None = None
    up: Shape | None = None


@dataclass(slots=True)
class _Read:
    pairs: dict[str, _Pair] = field(default_factory=dict)  # by module
    wrong: list[str] = field(default_factory=list)


def fit(header: Header, shapes: Mapping[str, Shape]) -> Fit:
    """Raises `BadRequest` with the code ``lora_does_not_fit``, naming the first ten weights that do not."""
    read = _read(header)
    weights = _weights_by_module(shapes)
    for module, pair in read.pairs.items():
        why = _misfit(pair, weights.get(_plain(module)))
        if why:
            read.wrong.append(f"{module}: {why}")
    if not read.pairs and not read.wrong:
        read.wrong.append("the file changes no weight at all")
    if read.wrong:
        raise _refusal(read.wrong)
    ranks = [pair.down[0] for pair in read.pairs.values() if pair.down]
    return Fit(targets=len(read.pairs), rank=max(ranks))


def _read(header: Header) -> _Read:
    read = _Read()
    for name, shape in header.shapes.items():
        if name not in header.floats:
            read.wrong.append(f"{name}: it holds no floating-point numbers")
        elif match := _KEY.fullmatch(name):
            pair = read.pairs.setdefault(match["module"], _Pair())
            if match["down"]:
                pair.down = shape
            else:
                pair.up = shape
        elif not _ALPHA.fullmatch(name):
            read.wrong.append(f"{name}: this is no name that is known of LoRAs for SDXL")
        elif shape not in ((), (1,)):
            read.wrong.append(f"{name}: it should be one number, and is {_show(shape)}")
    return read


def _plain(module: str) -> str:
    """Alike for both layouts: no dots, and without the ``text_model`` that some releases of transformers leave out."""
    for kohya, component in _KOHYA.items():
        if module.startswith(kohya):
            module = component + module.removeprefix(kohya)
    component, _, rest = module.partition(".")
    return f"{component}.{rest.replace('.', '_').removeprefix('text_model_')}"


def _weights_by_module(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    return {_plain(name.removesuffix(".weight")): shape for name, shape in shapes.items() if name.endswith(".weight")}


def _misfit(pair: _Pair, weight: Shape | None) -> str | None:
    if weight is None:
        return "the checkpoint has no such weight"
    if pair.down is None or pair.up is None:
        return "only one half of it is there"
    if len(weight) < 2 or not pair.down or not pair.up:
        return f"the checkpoint's weight is {_show(weight)}, which no LoRA can change"
    rank = pair.down[0]
    down, up = (rank, *weight[1:]), (weight[0], rank, *(1 for _ in weight[2:]))
    if not 1 <= rank <= max(weight[0], weight[1]):
        return f"its rank is {rank}"
    if pair.down != down:
        return f"A is {_show(pair.down)}, the checkpoint wants {_show(down)}"
    if pair.up != up:
        return f"B is {_show(pair.up)}, the checkpoint wants {_show(up)}"
    return None


def _show(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "one number"


def _refusal(wrong: list[str]) -> BadRequest:
    named = wrong[:NAMED_AT_MOST]
    more = f" There are {len(wrong) - len(named)} more." if len(wrong) > len(named) else ""
    faults = [Fault(pointer="", code="lora_does_not_fit", detail=one[:300]) for one in named]
    detail = f"This LoRA does not fit the checkpoint: {named[0][:300]}.{more}"
    return BadRequest(detail, code="lora_does_not_fit", faults=faults)
