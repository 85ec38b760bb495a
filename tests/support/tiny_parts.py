"""Parts and variants of the tiny SDXL: ControlNets, an IP-Adapter, a UNet for inpainting, one for few steps.

Random numbers from a seed, large enough to be seen in a picture and small enough to leave it recognisable.
"""

import shutil
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from schemas.style import ControlKind
from tests.support.tiny import FREE, SEED

EMBEDDED: Final = 16
"""Length of the tiny CLIP's embedding of a picture."""

SEEN: Final = 32
"""Width of its hidden states."""


def add_control(checkpoint: Path, *kinds: ControlKind) -> None:
    """``controlnet/<kind>/`` for each, all different. Two halvings: the tiny VAE's factor is 4."""
    unet = _unet(checkpoint)
    for kind in kinds:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(SEED + 100 + list(ControlKind).index(kind))
            net: Any = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 32))
            for conv in net.controlnet_cond_embedding.modules():  # its own start is so small that nothing comes through
                if isinstance(conv, torch.nn.Conv2d):
                    torch.nn.init.normal_(conv.weight, std=2 * conv.weight[0].numel() ** -0.5)
            for conv in (*net.controlnet_down_blocks, net.controlnet_mid_block):
                torch.nn.init.normal_(conv.weight, std=0.05)
            net.controlnet_down_blocks[0].weight[:, 30:].zero_()  # what the anchor says would drown the rest
        net.save_pretrained(checkpoint / "controlnet" / kind, safe_serialization=True)


def add_reference(checkpoint: Path, *, plus: bool = False) -> None:
    """``ip_adapter/``, of the plain kind, or of the "plus" kind, which looks at patches."""
    at = checkpoint / "ip_adapter"
    add_vision(at / "image_encoder")
    unet, draw = _unet(checkpoint), torch.Generator().manual_seed(SEED + 200)
    width = int(unet.config.cross_attention_dim)
    projection = _plus(width, draw) if plus else _plain(width, draw)
    tensors = {f"image_proj.{name}": tensor for name, tensor in projection.items()}
    across = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(across):
        rows = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        for what in ("to_k_ip", "to_v_ip"):
            tensors[f"ip_adapter.{2 * number + 1}.{what}.weight"] = torch.randn(rows, width, generator=draw)
    save_file(tensors, at / "ip_adapter.safetensors", metadata={"format": "pt"})


def add_vision(at: Path) -> None:
    """A tiny CLIP that looks at 32x32 pixels."""
    config = CLIPVisionConfig(
        hidden_size=SEEN,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=EMBEDDED,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED + 300)
        model: Any = CLIPVisionModelWithProjection(config)
        for module in model.modules():  # its own start is so small that all pictures look alike
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
    model.save_pretrained(at)


def inpainting(checkpoint: Path, at: Path) -> None:
    """*checkpoint* with a UNet of 9 channels: latents, mask, latents of the masked picture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED + 400)
        unet, plain = _variant(checkpoint, at, in_channels=9)
    with torch.no_grad():
        draw = torch.Generator().manual_seed(SEED + 401)
        unet.conv_in.weight.zero_()
        unet.conv_in.weight[:, :4] = plain["conv_in.weight"]
        shape = unet.conv_in.weight[FREE, 4:].shape
        unet.conv_in.weight[FREE, 4:] = torch.randn(shape, generator=draw)
    unet.save_pretrained(at / "unet", safe_serialization=True)


def few_steps(checkpoint: Path, at: Path) -> None:
    """*checkpoint* with a UNet that is told the guidance instead of being run twice, as LCM's are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED + 500)
        unet, _ = _variant(checkpoint, at, time_cond_proj_dim=8)
        torch.nn.init.normal_(unet.time_embedding.cond_proj.weight)
    unet.save_pretrained(at / "unet", safe_serialization=True)


def _variant(checkpoint: Path, at: Path, **changes: int) -> tuple[Any, dict[str, Tensor]]:
    """A copy of everything but the UNet; the new UNet, and the weights of the old one, as far as they fit in it."""
    shutil.copytree(checkpoint, at, ignore=shutil.ignore_patterns("unet"))
    plain = _unet(checkpoint)
    unet: Any = UNet2DConditionModel.from_config({**plain.config, **changes})  # type: ignore[no-untyped-call]
    weights = plain.state_dict()
    fitting = {name: tensor for name, tensor in weights.items() if unet.state_dict()[name].shape == tensor.shape}
    unet.load_state_dict(fitting, strict=False)
    return unet, weights


def _unet(checkpoint: Path) -> Any:
    return UNet2DConditionModel.from_pretrained(  # type: ignore[no-untyped-call]
        checkpoint / "unet", local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False
    )


def _plain(width: int, draw: torch.Generator) -> dict[str, Tensor]:
    """Four tokens from one embedding."""
    return {
        "proj.weight": torch.randn(4 * width, EMBEDDED, generator=draw),
        "proj.bias": torch.randn(4 * width, generator=draw),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }


def _plus(width: int, draw: torch.Generator) -> dict[str, Tensor]:
    """Four tokens from all patches: a resampler of four layers, one head of 64, in the names of its authors."""
    inner = 64

    def drawn(rows: int, columns: int) -> Tensor:
        found: Tensor = torch.randn(rows, columns, generator=draw) / columns**0.5
        return found

    tensors = {
        "latents": torch.randn(1, 4, inner, generator=draw),
        "proj_in.weight": drawn(inner, SEEN),
        "proj_in.bias": torch.zeros(inner),
        "proj_out.weight": drawn(width, inner),
        "proj_out.bias": torch.zeros(width),
        "norm_out.weight": torch.ones(width),
        "norm_out.bias": torch.zeros(width),
    }
    for layer in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            tensors[f"layers.{layer}.{norm}.weight"] = torch.ones(inner)
            tensors[f"layers.{layer}.{norm}.bias"] = torch.zeros(inner)
        tensors[f"layers.{layer}.0.to_q.weight"] = drawn(64, inner)
        tensors[f"layers.{layer}.0.to_kv.weight"] = drawn(128, inner)
        tensors[f"layers.{layer}.0.to_out.weight"] = drawn(inner, 64)
        tensors[f"layers.{layer}.1.1.weight"] = drawn(4 * inner, inner)
        tensors[f"layers.{layer}.1.3.weight"] = drawn(inner, 4 * inner)
    return tensors
