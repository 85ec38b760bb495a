"""Names of LoRA tensors trained on the original SDXL UNet, translated into diffusers' names."""

import re
from typing import Final

_BLOCK: Final = re.compile(r"^lora_unet_(input_blocks|middle_block|output_blocks)_(\d+)_(?:(\d+)_)?(.+)$")
_INNER: Final = ("resnets", "attentions", "upsamplers")
_OUTSIDE: Final = {
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
    "input_blocks_0_0": "conv_in",
    "out_2": "conv_out",
}
_RESNET: Final = {
    "in_layers_2": "conv1",
    "out_layers_3": "conv2",
    "emb_layers_1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}


def diffusers_name(key: str, layers_per_block: int) -> str:
    """Keys of other layouts are returned as they are."""
    if not key.startswith("lora_unet_"):
        return key
    target, dot, end = key.partition(".")
    outside = _OUTSIDE.get(target.removeprefix("lora_unet_"))
    if outside is not None:
        return f"lora_unet_{outside}{dot}{end}"
    match = _BLOCK.match(target)
    if match is None:
        return key
    return f"lora_unet_{_block(match, layers_per_block)}{dot}{end}"


def _block(match: re.Match[str], layers_per_block: int) -> str:
    """The original counts layers through all blocks, with down- and upsampling as layers of their own."""
    side, number, inner, rest = match[1], int(match[2]), match[3], match[4]
    period = layers_per_block + 1
    if side == "middle_block":
        kind, layer = (("resnets", 0), ("attentions", 0), ("resnets", 1))[min(number, 2)]
        rest = f"{inner}_{rest}" if inner is not None else rest
        return f"mid_block_{kind}_{layer}_{_inside(rest, kind)}"
    if side == "input_blocks":
        block, layer = divmod(number - 1, period)
        if rest == "op":
            return f"down_blocks_{block}_downsamplers_0_conv"
        kind = _INNER[min(int(inner or 0), 1)]
        return f"down_blocks_{block}_{kind}_{layer}_{_inside(rest, kind)}"
    block, layer = divmod(number, period)
    kind = "upsamplers" if rest == "conv" else _INNER[min(int(inner or 0), 2)]
    return f"up_blocks_{block}_{kind}_{0 if kind == 'upsamplers' else layer}_{_inside(rest, kind)}"


def _inside(rest: str, kind: str) -> str:
    return _RESNET.get(rest, rest) if kind == "resnets" else rest
