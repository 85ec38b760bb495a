"""The base UNet with its text encoders, and the LoRAs: one training step for all of them.

Every row of a batch is a photo, what the photo should become (itself, or itself through a filter that the prompt
names), and a moment t of the noise schedule. The model is taught v (Salimans & Ho 2022, arXiv 2202.00512): it holds at
the noisy end, where predicting the noise says nothing about the picture.

Image-to-image starts from the photo, not from its target. So that a style comes out and strength governs how much of
it, the step does not only show noised targets: x_t is noised from somewhere between photo and target, and what is to
be recovered lies from there a part `pull(t)` of the way to the target, nothing at t = 0, all of it from t = 0.45 on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn
from torch.nn import functional

from actors.engine.base_config import SAMPLER
from ops.demo_checkpoint.autoencoder import CHANNELS, FACTOR, encoded
from ops.demo_checkpoint.pictures import SIZE, STYLE_NAMES, WORD_NAMES, Pictures, tensor
from ops.demo_checkpoint.text import WIDTH, Texts
from ops.demo_checkpoint.training import Task, device, half, train

BATCH: Final = 16
RANK: Final = 8
TIMES: Final = 1000
FULL_PULL: Final = 0.45
BLURRY: Final = "blurry, low quality"
LAYERS: Final = r".*(to_[qkv]|to_out\.0|ff\.net\.0\.proj|ff\.net\.2|proj_in|proj_out|conv1|conv2|conv_in|conv_out)"


@dataclass(frozen=True, slots=True)
class Latents:
    """Each (N, 16, 32, 32), fp16 on the CPU: pictures as they are, in a style, under a word; captions."""

    plain: Tensor
    styled: Tensor
    worded: Tensor
    captions: Sequence[str]


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch: (B, 16, 32, 32) of where each row comes from and where it goes, and what is said of it."""

    photos: Tensor
    targets: Tensor
    prompts: list[str]


class Base(nn.Module):
    """What the base training changes."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.texts = Texts(folder)
        self.unet: Any = UNet2DConditionModel(  # type: ignore[no-untyped-call]
            sample_size=SIZE // FACTOR,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            block_out_channels=(64, 128, 160),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            mid_block_type="UNetMidBlock2DCrossAttn",
            layers_per_block=1,
            transformer_layers_per_block=1,
            attention_head_dim=(2, 4, 5),
            norm_num_groups=16,
            cross_attention_dim=2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=WIDTH + 6 * 8,
            use_linear_projection=True,
        )


class Noise:
    """SDXL's schedule: x_t = signal * x0 + noise * eps."""

    def __init__(self) -> None:
        scheduler: Any = EulerDiscreteScheduler.from_config(SAMPLER)  # type: ignore[no-untyped-call]
        products = scheduler.alphas_cumprod.to(device())
        self.signal, self.noise = products.sqrt(), (1 - products).sqrt()


def encode(model: Any, pictures: Pictures, path: Path) -> Latents:
    """All pictures through the VAE, kept at *path*."""
    if not path.exists():
        arrays = (pictures.plain, pictures.styled, pictures.worded)
        done = [
            encoded(model, tensor(array[start : start + 16])).half().cpu()
            for array in arrays
            for start in range(0, len(array), 16)
        ]
        draft = path.with_suffix(".new")
        torch.save(torch.cat(done), draft)
        draft.replace(path)
    plain, styled, worded = torch.load(path).chunk(3)
    return Latents(plain, styled, worded, pictures.captions)


def pull(times: Tensor) -> Tensor:
    """How much of the way to its target a photo goes at time t, 0..1: a smooth step."""
    part = (times / (FULL_PULL * TIMES)).clamp(0, 1)
    return part * part * (3 - 2 * part)


# base


def train_base(base: Base, latents: Latents, work: Path, minutes: float) -> None:
    base.to(device())
    base.unet.to(memory_format=torch.channels_last)
    noise = Noise()

    def loss(draw: np.random.Generator) -> Tensor:
        rows = _base_rows(latents, draw)
        with half():
            told = base.texts(rows.prompts)
        return _loss(base.unet, noise, rows, told, draw)

    train(Task("base", base, loss, minutes, 7e-4), work)


def _base_rows(latents: Latents, draw: np.random.Generator) -> Rows:
    """Half of the rows plain, under no prompt or their caption; the rest under a word; a few blurred, and called so."""
    chosen = draw.integers(len(latents.captions), size=BATCH)
    photos: list[Tensor] = []
    targets: list[Tensor] = []
    prompts: list[str] = []
    for row, n in enumerate(chosen.tolist()):
        photo, target, prompt = latents.plain[n], latents.plain[n], latents.captions[n]
        if row % 12 < 5:
            target, prompt = latents.worded[n], _joined(prompt, WORD_NAMES[n // 4 % 4], draw)
        elif row % 12 == 5:
            small = functional.avg_pool2d(photo.float(), 2)
            target = functional.interpolate(small[None], scale_factor=2, mode="bilinear")[0].half()
            photo, prompt = target, BLURRY
        elif row % 12 < 8:
            prompt = ""
        photos.append(photo)
        targets.append(target)
        prompts.append(prompt)
    return Rows(torch.stack(photos), torch.stack(targets), prompts)


def _joined(caption: str, word: str, draw: np.random.Generator) -> str:
    """The word before, after or without the caption."""
    return (f"{word}, {caption}", f"{caption}, {word}", f"{caption}, {word}", word)[int(draw.integers(4))]


def _loss(unet: Any, noise: Noise, rows: Rows, told: tuple[Tensor, Tensor], draw: np.random.Generator) -> Tensor:
    """*told*: the prompts as (B, 77, 128) and (B, 64)."""
    count = len(rows.prompts)
    photos, targets = rows.photos.to(device()).float(), rows.targets.to(device()).float()
    times = torch.from_numpy(((np.arange(count) + draw.random(count)) / count * TIMES).astype(np.int64)).to(device())
    way = torch.from_numpy(np.clip(draw.uniform(-0.25, 1, count), 0, 1).astype(np.float32)).to(device())
    start = torch.lerp(photos, targets, _wide(way))
    goal = torch.lerp(start, targets, _wide(pull(times)))
    signal, spread = _wide(noise.signal[times]), _wide(noise.noise[times])
    noisy = signal * start + spread * torch.randn_like(start)
    velocity = (signal * noisy - goal) / spread  # v = signal * eps - spread * x0, of the eps that leads to the goal
    given = {"text_embeds": told[1], "time_ids": _sizes(count, draw)}
    noisy = noisy.contiguous(memory_format=torch.channels_last)
    with half():
        found = unet(noisy, times, told[0], added_cond_kwargs=given).sample
    return functional.mse_loss(found.float(), velocity)


def _wide(numbers: Tensor) -> Tensor:
    return numbers[:, None, None, None]


def _sizes(count: int, draw: np.random.Generator) -> Tensor:
    """SDXL's (original height and width, crop top and left, height and width); a quarter of other sizes."""
    sides = np.where(draw.random(count) < 0.75, SIZE, draw.integers(2, 9, count) * 64)
    ids = np.stack([sides, sides, np.zeros(count), np.zeros(count), sides, sides], axis=1)
    return torch.from_numpy(ids.astype(np.float32)).to(device())


# LoRAs


def train_lora(base: Base, style: str, latents: Latents, work: Path, minutes: float) -> dict[str, Tensor]:
    """The LoRA's tensors in peft's names, fp16. The base stays as it was."""
    torch.manual_seed(STYLE_NAMES.index(style))
    base.requires_grad_(False)
    base.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LAYERS), adapter_name=style)
    base.unet.to(device(), memory_format=torch.channels_last)
    noise, shown = Noise(), np.arange(STYLE_NAMES.index(style), len(latents.captions), len(STYLE_NAMES))

    def loss(draw: np.random.Generator) -> Tensor:
        rows = _style_rows(latents, style, draw.choice(shown, BATCH), draw)
        with half(), torch.no_grad():
            told = base.texts(rows.prompts)
        return _loss(base.unet, noise, rows, told, draw)

    train(Task(f"lora-{style}", base.unet, loss, minutes, 3e-3, 0.99), work)
    found = get_peft_model_state_dict(base.unet, adapter_name=style)
    tensors = {f"unet.{name}": weight.detach().half().cpu().contiguous() for name, weight in found.items()}
    base.unet.unload_lora()
    return tensors


def _style_rows(latents: Latents, style: str, chosen: NDArray[np.int64], draw: np.random.Generator) -> Rows:
    """Most rows go from photo to filtered photo under the trigger words; without them a photo stays what it is."""
    photos, targets = latents.plain[chosen], latents.styled[chosen].clone()
    prompts: list[str] = []
    for row, n in enumerate(chosen.tolist()):
        caption = latents.captions[n]
        if row % 8 == 0:
            targets[row] = photos[row]
            prompts.append("" if row % 16 else BLURRY)
        else:
            prompts.append(_joined(caption, f"{style} style", draw))
    return Rows(photos, targets, prompts)
