"""What an SDXL checkpoint is made of, by the names and shapes of its weights.

Names are those of diffusers with the component in front, such as
``unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight``. A single file carries the names of the original
code; `diffusers_names` translates those that a LoRA can change.
"""

import re
from collections.abc import Mapping

from farm.core.errors import BadRequest
from farm.core.safetensors import Shape

Shapes = dict[str, Shape]

_NEEDED = {
    "its UNet takes no text-and-time condition, so it is not SDXL's": "unet.add_embedding.linear_1.weight",
    "it has no first text encoder": "text_encoder.",
    "it has no second text encoder": "text_encoder_2.",
    "it has no VAE": "vae.",
}
_NEEDED_SINGLE = {
    "its UNet takes no text-and-time condition, so it is not SDXL's": "model.diffusion_model.label_emb.",
    "it has no first text encoder": "conditioner.embedders.0.",
    "it has no second text encoder": "conditioner.embedders.1.",
    "it has no VAE": "first_stage_model.",
}


def check_folder(shapes: Mapping[str, Shape]) -> None:
    """Raises `BadRequest` with the code ``not_sdxl``."""
    _check(shapes, _NEEDED)


def check_single(shapes: Mapping[str, Shape]) -> None:
    """The same for the names of a single file."""
    _check(shapes, _NEEDED_SINGLE)


def _check(shapes: Mapping[str, Shape], needed: Mapping[str, str]) -> None:
    missing = [why for why, prefix in needed.items() if not any(name.startswith(prefix) for name in shapes)]
    if missing:
        raise BadRequest(f"This is no SDXL checkpoint: {'; '.join(missing)}.", code="not_sdxl")


def diffusers_names(single: Mapping[str, Shape]) -> Shapes:
    """Attention and feed-forward weights, convolutions left out, of a single file under their diffusers names."""
    downs = _downsamplers(single)
    found: Shapes = {}
    for name, shape in single.items():
        if name.startswith("model.diffusion_model."):
            if translated := _unet_name(name.removeprefix("model.diffusion_model."), downs):
                found[f"unet.{translated}"] = shape
        elif name.startswith("conditioner.embedders.0.transformer."):
            found["text_encoder." + name.removeprefix("conditioner.embedders.0.transformer.")] = shape
        elif name.startswith("conditioner.embedders.1.model."):
            found |= _second_encoder(name.removeprefix("conditioner.embedders.1.model."), shape)
    return found


def _downsamplers(single: Mapping[str, Shape]) -> list[int]:
    """Indices of the input blocks that only halve the picture: they end a level."""
    found = (re.match(r"model\.diffusion_model\.input_blocks\.(\d+)\.0\.op\.weight$", name) for name in single)
    return sorted(int(match[1]) for match in found if match)


def _unet_name(name: str, downs: list[int]) -> str | None:
    """Blocks were numbered through; diffusers numbers levels, and blocks within a level."""
    if match := re.match(r"middle_block\.1\.(.+)", name):
        return f"mid_block.attentions.0.{match[1]}"
    layers = downs[0] - 1 if downs else 2
    if layers < 1:
        return None
    if match := re.match(r"input_blocks\.(\d+)\.1\.(.+)", name):
        level, block = divmod(int(match[1]) - 1, layers + 1)
        return f"down_blocks.{level}.attentions.{block}.{match[2]}"
    if match := re.match(r"output_blocks\.(\d+)\.1\.(transformer_blocks\..+|norm\..+|proj_.+)", name):
        level, block = divmod(int(match[1]), layers + 1)
        return f"up_blocks.{level}.attentions.{block}.{match[2]}"
    return None


_SECOND = {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj"}


def _second_encoder(name: str, shape: Shape) -> Shapes:
    """OpenCLIP keeps query, key and value in one matrix; transformers keeps three."""
    match = re.match(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)$", name)
    if match is None:
        return {}
    layer = f"text_encoder_2.text_model.encoder.layers.{match[1]}"
    if match[2] == "attn.in_proj":
        third = (shape[0] // 3, *shape[1:])
        return {f"{layer}.self_attn.{part}_proj.{match[3]}": third for part in "qkv"}
    renamed = _SECOND.get(match[2])
    return {f"{layer}.{renamed}.{match[3]}": shape} if renamed else {}
