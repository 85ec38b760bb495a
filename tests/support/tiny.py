"""A tiny SDXL of our own, for tests of the engine: built in seconds, the same bytes every time.

The same classes as the real one, small numbers, weights from a seed and from construction, no training. `build` writes
``checkpoint/`` (a diffusers folder) and ``loras/<name>.safetensors``.

Pictures come out recognisable, because three things are built in rather than left to chance:
the VAE averages 4x4 pixels into one latent and spreads it again; the UNet takes for noise what stands out from its
surroundings, so denoising smooths; and the rest of the UNet, random, adds a little that depends on prompt and LoRAs.
"""

import json
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from actors.engine.base_config import SAMPLER, tokenizer
from actors.engine.lora import PARTS, targets

SEED: Final = 20_25
STYLES: Final = ("anime", "cartoon", "cinematic", "illustration")
RANK: Final = 4
LORA_STRENGTH: Final = 6.0
ANCHOR: Final = 100.0
"""A pair of constant channels, +ANCHOR and -ANCHOR. They dominate the variance that a GroupNorm divides by, so the
norm becomes nearly a constant factor and lets brightness through."""

_TEXT: Final[dict[str, Any]] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "projection_dim": 32,
    "max_position_embeddings": 77,
}


def build(at: Path) -> None:
    torch.manual_seed(SEED)
    folder = at / "checkpoint"
    vocabulary = _write_vocabulary(at / "checkpoint")
    texts = CLIPTextConfig(**_TEXT, **vocabulary)
    pipe: Any = StableDiffusionXLImg2ImgPipeline(  # type: ignore[no-untyped-call]
        vae=_vae(),
        text_encoder=CLIPTextModel(texts),
        text_encoder_2=CLIPTextModelWithProjection(texts),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=_unet(),
        scheduler=EulerDiscreteScheduler.from_config(SAMPLER),  # type: ignore[no-untyped-call]
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipe.save_pretrained(folder, safe_serialization=True)
    (at / "loras").mkdir(parents=True, exist_ok=True)
    modules = targets({part: getattr(pipe, part) for part in PARTS})
    for number, name in enumerate(STYLES):
        metadata = {"format": "pt"}  # one entry only: safetensors writes several in any order
        save_file(_lora(modules, SEED + 1 + number), at / "loras" / f"{name}.safetensors", metadata=metadata)


# text


def _write_vocabulary(folder: Path) -> dict[str, Any]:
    """Bytes as letters, no merges: small, and every prompt has its own tokens."""
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    ids = {token: number for number, token in enumerate(tokens)}
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        at = folder / name
        at.mkdir(parents=True, exist_ok=True)
        (at / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False))
        (at / "merges.txt").write_text("#version: 0.2\n")
        (at / "tokenizer_config.json").write_text(json.dumps(tokenizer(pad)))
    start, end = ids["<|startoftext|>"], ids["<|endoftext|>"]
    return {"vocab_size": len(tokens), "bos_token_id": start, "eos_token_id": end, "pad_token_id": end}


def _byte_letters() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes: printable ones stand for themselves, the rest from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain} | {byte: chr(256 + number) for number, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


# pixels


def _vae() -> Any:
    """Scale factor 4. Channels 0..5 hold red, green, blue as pairs (x, -x): silu(x) - silu(-x) is x exactly."""
    vae: Any = AutoencoderKL(  # type: ignore[no-untyped-call]
        block_out_channels=(16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=1,
        latent_channels=4,
        sample_size=128,
        scaling_factor=6.0,
        force_upcast=False,
    )
    with torch.no_grad():
        for module in vae.modules():
            _quiet(module)
        _build_encoder(vae)
        _build_decoder(vae)
    return vae


def _quiet(module: nn.Module) -> None:
    """Residual branches add nothing, so that what is built in passes unchanged."""
    for name in ("conv2", "to_out"):
        branch = getattr(module, name, None)
        last = branch[0] if isinstance(branch, nn.ModuleList) else branch
        if isinstance(last, nn.Conv2d | nn.Linear):
            last.weight.zero_()
            _zero_bias(last)


def _build_encoder(vae: Any) -> None:
    encoder = vae.encoder
    _pairs_in(encoder.conv_in, range(3))
    for block in encoder.down_blocks[:-1]:
        _per_channel(block.downsamplers[0].conv, torch.tensor([[0.25, 0.25, 0.0], [0.25, 0.25, 0.0], [0.0, 0.0, 0.0]]))
    _pairs_out(encoder.conv_out, range(3), gain=_norm_gain(encoder.conv_norm_out))
    encoder.conv_out.bias[4:].fill_(-8.0)  # log variance: the draw from the posterior is almost the mean
    _identity(vae.quant_conv)


def _build_decoder(vae: Any) -> None:
    _identity(vae.post_quant_conv)
    decoder = vae.decoder
    _pairs_in(decoder.conv_in, range(3))
    smooth = torch.tensor([1.0, 2.0, 1.0]) / 4
    for block in decoder.up_blocks[:-1]:
        _per_channel(block.upsamplers[0].conv, smooth[:, None] * smooth)
    _pairs_out(decoder.conv_out, range(3), gain=_norm_gain(decoder.conv_norm_out))


def _pairs_in(conv: nn.Conv2d, channels: range) -> None:
    """Channel i becomes the pair (2i, 2i + 1); the last pair becomes the anchor."""
    conv.weight.zero_()
    _zero_bias(conv)
    for i in channels:
        conv.weight[2 * i, i, 1, 1], conv.weight[2 * i + 1, i, 1, 1] = 1.0, -1.0
    if conv.bias is not None:
        conv.bias[-2], conv.bias[-1] = ANCHOR, -ANCHOR


def _pairs_out(conv: nn.Conv2d, channels: range, gain: float) -> None:
    conv.weight.zero_()
    _zero_bias(conv)
    for i in channels:
        conv.weight[i, 2 * i, 1, 1], conv.weight[i, 2 * i + 1, 1, 1] = gain, -gain


def _per_channel(conv: nn.Conv2d, kernel: Tensor) -> None:
    conv.weight.zero_()
    _zero_bias(conv)
    for i in range(conv.weight.shape[0]):
        conv.weight[i, i] = kernel


def _identity(conv: nn.Conv2d) -> None:
    conv.weight.zero_()
    _zero_bias(conv)
    for i in range(conv.weight.shape[0]):
        conv.weight[i, i, 0, 0] = 1.0


def _zero_bias(conv: nn.Conv2d | nn.Linear) -> None:
    if conv.bias is not None:
        conv.bias.zero_()


def _norm_gain(norm: nn.GroupNorm) -> float:
    """What undoes the norm: the spread of a group of which two channels are the anchor and the rest near nothing."""
    return float(ANCHOR * (2.0 / norm.num_channels) ** 0.5)


# noise


def _unet() -> Any:
    unet: Any = UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=32,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        layers_per_block=1,
        transformer_layers_per_block=1,
        attention_head_dim=(2, 4),
        norm_num_groups=1,
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
        use_linear_projection=True,
    )
    with torch.no_grad():
        _build_unet(unet)
    return unet


FREE: Final = slice(16, 30)
"""Channels of the last block that carry what the random part says; 0..15 are the pairs, 30 and 31 the anchor."""

SMOOTHING: Final = 1.0
COLOUR: Final = 1.2


def _build_unet(unet: Any) -> None:
    """noise = SMOOTHING * (x - blurred x) + COLOUR * (a random function of everything)."""
    _pairs_in(unet.conv_in, range(4))
    for i in range(4):
        unet.conv_in.weight[8 + 2 * i, i] = 1 / 9
        unet.conv_in.weight[9 + 2 * i, i] = -1 / 9
    last = unet.up_blocks[-1].resnets[-1]  # its input: what came up (32 channels), then conv_in's output (32)
    last.conv2.weight[:16].zero_()
    last.conv2.weight[30:].zero_()
    last.conv2.bias.zero_()
    last.conv_shortcut.weight[:, 32:].zero_()
    last.conv_shortcut.weight[:16, :32].zero_()
    last.conv_shortcut.weight[30:, :32].zero_()
    last.conv_shortcut.bias.zero_()
    for channel in (*range(16), 30, 31):
        last.conv_shortcut.weight[channel, 32 + channel, 0, 0] = 1.0
    gain = _norm_gain(unet.conv_norm_out)
    random = unet.conv_out.weight[:, FREE].clone()
    _pairs_out(unet.conv_out, range(4), gain=gain * SMOOTHING)
    for i in range(4):
        unet.conv_out.weight[i, 8 + 2 * i] = -gain * SMOOTHING / 9
        unet.conv_out.weight[i, 9 + 2 * i] = gain * SMOOTHING / 9
    unet.conv_out.weight[:, FREE] = random * COLOUR * gain


# LoRAs


def _lora(modules: dict[str, nn.Module], seed: int) -> dict[str, Tensor]:
    """On the attention of the UNet, in peft's names, fp16. Large enough to be seen."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        if not name.startswith("unet.") or not isinstance(module, nn.Linear):
            continue
        if not any(part in name for part in ("to_q", "to_k", "to_v", "to_out.0")):
            continue
        rows, columns = module.weight.shape
        down = torch.randn(RANK, columns, generator=generator) / columns**0.5
        up = torch.randn(rows, RANK, generator=generator) * (LORA_STRENGTH / RANK**0.5)
        tensors[f"{name}.lora_A.weight"] = down.half()
        tensors[f"{name}.lora_B.weight"] = up.half()
    return tensors
