"""A small SDXL in both layouts: a diffusers folder, and one .safetensors file with the names of the original code.

Levels, layers and transformers are as many as SDXL has or differ between levels, so that every rule of the numbering is
met; the two text encoders differ in width, by which diffusers tells them apart.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from actors.engine.base_config import SAMPLER
from tests.support.tiny import _write_vocabulary

LAYERS: Final = 2
_RESNET: Final = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE: Final = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_MID: Final = {"resnets.0": "middle_block.0", "attentions.0": "middle_block.1", "resnets.1": "middle_block.2"}


def build(at: Path, *, in_channels: int = 4) -> Any:
    """Writes ``folder/`` and ``single/model.safetensors`` with the tokenizer beside it; the pipeline, fp32."""
    torch.manual_seed(11)
    pipe = _pipe(at / "folder", in_channels)
    pipe.save_pretrained(at / "folder", safe_serialization=True)
    single = at / "single"
    single.mkdir()
    for name in ("vocab.json", "merges.txt"):
        (single / name).write_bytes((at / "folder" / "tokenizer" / name).read_bytes())
    save_file(dict(_original(pipe)), single / "model.safetensors")
    return pipe


def configs(at: Path) -> dict[str, dict[str, Any]]:
    """The configurations of the folder, by the names that `base_config.FOLDERS` has for them."""
    parts = ("unet", "vae", "text_encoder", "text_encoder_2")
    return {f"{part}/config.json": json.loads((at / "folder" / part / "config.json").read_text()) for part in parts}


def original_unet_name(module: str) -> str:
    """Of a module by its diffusers name. `output_blocks.n.2.conv` follows an attention, `.1.conv` does not."""
    if module in _OUTSIDE:
        return _OUTSIDE[module]
    if match := re.match(r"mid_block\.(resnets\.\d|attentions\.0)\.(.+)", module):
        return f"{_MID[match[1]]}.{_inside(match[2])}"
    match = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.+)", module)
    if match is None:
        raise ValueError(module)
    side, block, kind, layer, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    first = block * (LAYERS + 1) + (side == "down")
    blocks = "input_blocks" if side == "down" else "output_blocks"
    match kind:
        case "downsamplers":
            return f"{blocks}.{first + LAYERS}.0.op"
        case "upsamplers":
            return f"{blocks}.{first + LAYERS}.2.conv"
        case "resnets":
            return f"{blocks}.{first + layer}.0.{_inside(rest)}"
        case _:
            return f"{blocks}.{first + layer}.1.{rest}"


def _inside(rest: str) -> str:
    return _RESNET.get(rest, rest)


def _pipe(folder: Path, in_channels: int) -> Any:
    vocabulary = _write_vocabulary(folder)
    unet: Any = UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=16,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        layers_per_block=LAYERS,
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(1, 2, 2),
        norm_num_groups=4,
        cross_attention_dim=32 + 48,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 48,
        use_linear_projection=True,
    )
    vae: Any = AutoencoderKL(  # type: ignore[no-untyped-call]
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=32,
        force_upcast=False,
    )
    return StableDiffusionXLImg2ImgPipeline(  # type: ignore[no-untyped-call]
        vae=vae,
        text_encoder=CLIPTextModel(_text(32, vocabulary)),
        text_encoder_2=CLIPTextModelWithProjection(_text(48, vocabulary)),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=unet,
        scheduler=EulerDiscreteScheduler.from_config(SAMPLER),  # type: ignore[no-untyped-call]
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def _text(width: int, vocabulary: dict[str, Any]) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=4,
        num_hidden_layers=2,
        projection_dim=width,
        max_position_embeddings=77,
        **vocabulary,
    )


def _original(pipe: Any) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in pipe.unet.state_dict().items():
        module, _, kind = name.rpartition(".")
        yield f"model.diffusion_model.{original_unet_name(module)}.{kind}", tensor.clone()
    for name, tensor in pipe.vae.state_dict().items():
        yield _vae_name(name), _vae_tensor(name, tensor)
    for name, tensor in pipe.text_encoder.state_dict().items():
        whole = f"text_model.{name.removeprefix('text_model.')}"
        yield f"conditioner.embedders.0.transformer.{whole}", tensor.clone()
    yield from _open_clip(pipe.text_encoder_2.state_dict())


def _vae_name(name: str) -> str:
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{1 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{1 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for ours, theirs in (
        ("mid_block.attentions.0", "mid.attn_1"),
        ("conv_shortcut", "nin_shortcut"),
        ("conv_norm_out", "norm_out"),
        ("group_norm", "norm"),
        ("to_q", "q"),
        ("to_k", "k"),
        ("to_v", "v"),
        ("to_out.0", "proj_out"),
    ):
        name = name.replace(ours, theirs)
    return f"first_stage_model.{name}"


def _vae_tensor(name: str, tensor: Tensor) -> Tensor:
    """Attention was written as convolutions of 1x1."""
    matrix = ".attentions." in name and tensor.ndim == 2
    return tensor[:, :, None, None].clone() if matrix else tensor.clone()


def _open_clip(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    prefix = "conditioner.embedders.1.model."
    state = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    yield f"{prefix}token_embedding.weight", state["embeddings.token_embedding.weight"].clone()
    yield f"{prefix}positional_embedding", state["embeddings.position_embedding.weight"].clone()
    yield f"{prefix}text_projection", state["text_projection.weight"].T.contiguous()
    for kind in ("weight", "bias"):
        yield f"{prefix}ln_final.{kind}", state[f"final_layer_norm.{kind}"].clone()
    for layer in range(2):
        ours, theirs = f"encoder.layers.{layer}.", f"{prefix}transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            three = [state[f"{ours}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            yield f"{theirs}attn.in_proj_{kind}", torch.cat(three)
            for one, other in (
                ("self_attn.out_proj", "attn.out_proj"),
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ):
                yield f"{theirs}{other}.{kind}", state[f"{ours}{one}.{kind}"].clone()
