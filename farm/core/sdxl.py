"""What an SDXL checkpoint is made of, by the names and shapes of its weights.

Names are those of diffusers with the component in front, such as
``unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight``. A single file carries the names of the original
code; `diffusers_names` translates those that a LoRA can change. Both are compared without their dots (`plain`), as
kohya's LoRAs are written.
"""

import re
from collections.abc import Iterable, Mapping

from farm.core.errors import BadRequest
from farm.core.safetensors import Shape
from schemas.style import ControlKind

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
CONTROL_FILES = ("config.json", "diffusion_pytorch_model.safetensors")
REFERENCE_FILES = ("ip_adapter.safetensors", "image_encoder/config.json", "image_encoder/model.safetensors")
PARTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    **{f"control.{kind}": (f"controlnet/{kind}/", CONTROL_FILES) for kind in ControlKind},
    "reference": ("ip_adapter/", REFERENCE_FILES),
}
"""What a checkpoint may bring beside SDXL itself: name of the part -> its folder, the files that it needs."""


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


def parts_of(paths: Iterable[str]) -> frozenset[str]:
    """The parts that a folder with these files brings, by their names in `EngineKey.parts`."""
    there = frozenset(paths)
    return frozenset(part for part, (folder, files) in PARTS.items() if all(folder + file in there for file in files))


def half_parts(paths: Iterable[str]) -> dict[str, list[str]]:
    """Folders of parts of which some files are there and others are not: the ones that are not."""
    there = frozenset(paths)
    found: dict[str, list[str]] = {}
    for folder, files in PARTS.values():
        missing = [file for file in files if folder + file not in there]
        if missing and any(path.startswith(folder) for path in there):
            found[folder] = missing
    return found


# names


def plain(module: str) -> str:
    """Alike for all layouts: no dots, and without the ``text_model`` that some releases of transformers leave out."""
    component, _, rest = module.partition(".")
    return f"{component}.{rest.replace('.', '_').removeprefix('text_model_')}"


def diffusers_names(single: Mapping[str, Shape]) -> Shapes:
    """Weights and biases of a single file that a LoRA can change, under the names of diffusers; the UNet's `plain`."""
    layers = _layers(single)
    found: Shapes = {}
    for name, shape in single.items():
        if name.startswith("model.diffusion_model."):
            module, _, kind = name.removeprefix("model.diffusion_model.").rpartition(".")
            if kind in ("weight", "bias") and (translated := unet_name(module.replace(".", "_"), layers)):
                found[f"unet.{translated}.{kind}"] = shape
        elif name.startswith("conditioner.embedders.0.transformer."):
            found["text_encoder." + name.removeprefix("conditioner.embedders.0.transformer.")] = shape
        elif name.startswith("conditioner.embedders.1.model."):
            found |= _second_encoder(name.removeprefix("conditioner.embedders.1.model."), shape)
    return found


def _layers(single: Mapping[str, Shape]) -> int:
    """Layers of a block. The first input block that only halves the picture ends the first block."""
    found = (re.match(r"model\.diffusion_model\.input_blocks\.(\d+)\.0\.op\.weight$", name) for name in single)
    return max(1, min((int(match[1]) - 1 for match in found if match), default=2))


def layers_per_block(shapes: Mapping[str, Shape]) -> int:
    """The same from the names of diffusers."""
    found = (re.match(r"unet\.down_blocks[._]0[._]resnets[._](\d+)[._]conv1\.weight$", name) for name in shapes)
    return 1 + max((int(match[1]) for match in found if match), default=1)


_OUTSIDE = {
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
    "input_blocks_0_0": "conv_in",
    "out_2": "conv_out",
}
_RESNET = {
    "in_layers_2": "conv1",
    "out_layers_3": "conv2",
    "emb_layers_1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
_INNER = ("resnets", "attentions", "upsamplers")
_BLOCK = re.compile(r"(input_blocks|middle_block|output_blocks)_(\d+)_(?:(\d+)_)?(.+)")


def unet_name(original: str, layers: int) -> str | None:
    """Of a module of the original UNet, without dots. Blocks were numbered through there, down- and upsampling too."""
    if original in _OUTSIDE:
        return _OUTSIDE[original]
    match = _BLOCK.fullmatch(original)
    if match is None:
        return None
    side, number, inner, rest = match[1], int(match[2]), int(match[3] or 0), match[4]
    if side == "middle_block":
        kind, layer = (("resnets", 0), ("attentions", 0), ("resnets", 1))[min(number, 2)]
        whole = rest if match[3] is None else f"{match[3]}_{rest}"
        return f"mid_block_{kind}_{layer}_{_inside(whole, kind)}"
    block, layer = divmod(number - (side == "input_blocks"), layers + 1)
    if side == "input_blocks" and rest == "op":
        return f"down_blocks_{block}_downsamplers_0_conv"
    if side == "input_blocks":
        kind = _INNER[min(inner, 1)]
        return f"down_blocks_{block}_{kind}_{layer}_{_inside(rest, kind)}"
    if rest == "conv":
        return f"up_blocks_{block}_upsamplers_0_conv"
    kind = _INNER[min(inner, 2)]
    return f"up_blocks_{block}_{kind}_{layer}_{_inside(rest, kind)}"


def _inside(rest: str, kind: str) -> str:
    return _RESNET.get(rest, rest) if kind == "resnets" else rest


_SECOND = {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj"}


def _second_encoder(name: str, shape: Shape) -> Shapes:
    """OpenCLIP keeps query, key and value in one matrix; transformers keeps three."""
    if name == "text_projection":  # stored the other way round
        return {"text_encoder_2.text_projection.weight": shape[::-1]}
    match = re.match(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)$", name)
    if match is None:
        return {}
    layer = f"text_encoder_2.text_model.encoder.layers.{match[1]}"
    if match[2] == "attn.in_proj":
        third = (shape[0] // 3, *shape[1:])
        return {f"{layer}.self_attn.{part}_proj.{match[3]}": third for part in "qkv"}
    renamed = _SECOND.get(match[2])
    return {f"{layer}.{renamed}.{match[3]}": shape} if renamed else {}
