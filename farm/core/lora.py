"""Which weights of a checkpoint a LoRA changes, and whether it fits them.

These layouts are read: diffusers and peft (``unet.mid_block.attn.to_q.lora_A.weight``, also ``lora.down`` and the
older ``processor.to_q_lora.down``), and kohya with the names of diffusers
(``lora_unet_mid_block_attn_to_q.lora_down.weight``) or of the original UNet (``lora_unet_middle_block_1_...``).
A LoRA adds ``B @ A``, where A is (r, in) and B is (out, r), to a weight of shape (out, in); for a convolution A is
(r, in, kh, kw) and B is (out, r, 1, 1).

`actors.engine.lora` makes the same decisions when it merges; one table of keys tests both.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from farm.core.errors import BadRequest
from farm.core.safetensors import Header, Shape
from farm.core.sdxl import layers_per_block, plain, unet_name
from schemas.problem import Fault

MAX_HEADER_BYTES = 2 * 2**20
MAX_TENSORS = 20_000
NAMED_AT_MOST = 10

_KEY = re.compile(
    r"(?P<module>.+?)\.(?:(?P<down>lora_A|lora_down|lora\.down)|(?P<up>lora_B|lora_up|lora\.up)|(?P<alpha>alpha))"
    r"(?:\.default)?(?:\.weight)?"
)
_OLD_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)_lora\.(?=down|up)")
_KOHYA = {"lora_unet_": "unet.", "lora_te1_": "text_encoder.", "lora_te2_": "text_encoder_2."}
_CHANGED = tuple(_KOHYA.values())
_TABLES = (".token_embedding", ".position_embedding")
_OTHER_KINDS = {
    "DoRA": re.compile(r"\.(dora_scale|lora_magnitude_vector(\.\w+)*)$"),
    "LoKr": re.compile(r"\.lokr_\w+$"),
    "LoHa": re.compile(r"\.hada_\w+$"),
    "(IA)3": re.compile(r"\.(on_input|ia3_\w+(\.\w+)*)$"),
    "OFT": re.compile(r"\.(oft_\w+(\.\w+)*)$"),
    "LoCon with a middle factor": re.compile(r"\.lora_mid(\.weight)?$"),
    "a full difference": re.compile(r"\.(diff|diff_b|w_norm|b_norm)$"),
}


@dataclass(frozen=True, slots=True)
class Fit:
    targets: int
    rank: int  # the largest


@dataclass(slots=True)
class _Pair:
    named: str  # as in the file
    down: Shape | None = None
    up: Shape | None = None
    alpha: Shape | None = None


@dataclass(slots=True)
class _Read:
    pairs: dict[str, _Pair] = field(default_factory=dict)  # by plain name
    wrong: list[str] = field(default_factory=list)


def fit(header: Header, shapes: Mapping[str, Shape]) -> Fit:
    """Raises `BadRequest`, naming the first ten weights that do not fit: ``lora_does_not_fit``, or
    ``lora_kind_unsupported`` for what is something else than a plain LoRA."""
    _refuse_other_kinds(header)
    read = _read(header, layers_per_block(shapes))
    weights = _weights_by_module(shapes)
    for module, pair in read.pairs.items():
        why = _misfit(pair, weights.get(module))
        if why:
            read.wrong.append(f"{pair.named}: {why}")
    if not read.pairs and not read.wrong:
        read.wrong.append("the file changes no weight at all")
    if read.wrong:
        raise _refusal("lora_does_not_fit", "This LoRA does not fit the checkpoint", read.wrong)
    ranks = [pair.down[0] for pair in read.pairs.values() if pair.down]
    return Fit(targets=len(read.pairs), rank=max(ranks))


def _refuse_other_kinds(header: Header) -> None:
    for kind, ends in _OTHER_KINDS.items():
        if found := sorted(name for name in header.shapes if ends.search(name)):
            raise _refusal("lora_kind_unsupported", f"This is {kind}, which is not merged here", found)


def _read(header: Header, layers: int) -> _Read:
    read = _Read()
    for name, shape in header.shapes.items():
        match = _KEY.fullmatch(_OLD_PROCESSOR.sub(_peft_name, name))
        if name not in header.floats:
            read.wrong.append(f"{name}: it holds no floating-point numbers")
        elif match is None:
            read.wrong.append(f"{name}: this is no name that is known of LoRAs for SDXL")
        else:
            pair = read.pairs.setdefault(_module(match["module"], layers), _Pair(match["module"]))
            what = "down" if match["down"] else "up" if match["up"] else "alpha"
            if getattr(pair, what) is not None:
                read.wrong.append(f"{name}: the same weight is changed twice")
            setattr(pair, what, shape)
    return read


def _peft_name(match: re.Match[str]) -> str:
    return f".{match[1].replace('to_out', 'to_out.0')}.lora."


def _module(named: str, layers: int) -> str:
    """`plain`, under the name that diffusers has for it."""
    module = named.removeprefix("base_model.model.")
    for prefix, component in _KOHYA.items():
        if module.startswith(prefix):
            rest = module.removeprefix(prefix)
            return plain(component + (unet_name(rest, layers) or rest if prefix == "lora_unet_" else rest))
    return plain(module)


def _weights_by_module(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Of layers that multiply: norms and biases have one dimension, and tables of embeddings are looked up."""
    found: dict[str, Shape] = {}
    for name, shape in shapes.items():
        module, _, kind = name.rpartition(".")
        if kind == "weight" and module.startswith(_CHANGED) and not module.endswith(_TABLES) and len(shape) in (2, 4):
            found[plain(module)] = shape
    return found


def _misfit(pair: _Pair, weight: Shape | None) -> str | None:
    if weight is None:
        return "the checkpoint has no such weight, or none that a LoRA can change"
    if pair.down is None or pair.up is None:
        return "only one half of it is there"
    if pair.alpha not in (None, (), (1,)):
        return f"alpha should be one number, and is {_show(pair.alpha)}"
    rank = pair.down[0] if pair.down else 0
    down, up = (rank, *weight[1:]), (weight[0], rank, *(1 for _ in weight[2:]))
    if rank < 1:
        return "its rank is 0"
    if pair.down != down:
        return f"A is {_show(pair.down)}, the checkpoint wants {_show(down)}"
    if pair.up != up:
        return f"B is {_show(pair.up)}, the checkpoint wants {_show(up)}"
    return None


def _show(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "one number"


def _refusal(code: str, what: str, wrong: list[str]) -> BadRequest:
    named = wrong[:NAMED_AT_MOST]
    more = f" There are {len(wrong) - len(named)} more." if len(wrong) > len(named) else ""
    faults = [Fault(pointer="", code=code, detail=one[:300]) for one in named]
    return BadRequest(f"{what}: {named[0][:300]}.{more}", code=code, faults=faults)
