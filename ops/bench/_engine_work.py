"""The renders that every arm of the engine's benchmarks makes, and the files it makes them from.

A campaign in small: each source in four of eight styles, a style is a prompt and a LoRA of its own, strengths mixed.
Sources and prompts are new in every turn, for an arm that keeps what it encoded must not find it there from before;
weights are the same, for a renderer is at work for days.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from actors.engine.base_config import FOLDERS, SAMPLER
from schemas.recipe import unet_steps
from schemas.style import dimensions
from tests.support import tiny

STRENGTHS: Final = (0.3, 0.5, 0.7)
STYLES: Final = 8
STYLES_EACH: Final = 4
GUIDANCE: Final = 5.0
NEGATIVE: Final = "blurry, watermark, text"
LORA_SCALE: Final = 0.8
FULL_RANKS: Final = (128, 16, 32, 64, 16, 128, 32, 64)
"""Widest first: a tuned diffusers needs the largest one before it is compiled."""

TINY_RANKS: Final = (16, 2, 4, 8, 2, 16, 4, 8)
_TARGETS: Final = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")


@dataclass(frozen=True, slots=True)
class Task:
    """One picture to make. ``source`` and ``style`` count within a turn."""

    number: int
    source: int
    style: int
    strength: float

    @property
    def seed(self) -> int:
        return 1_000 + self.number


@dataclass(frozen=True, slots=True)
class Work:
    """One turn. ``tasks`` stand as a plain script makes them: source by source."""

    name: str
    size: str
    steps: int
    pictures: tuple[Image.Image, ...]
    prompts: tuple[str, ...]
    tasks: tuple[Task, ...]

    def by_style(self) -> list[list[Task]]:
        """As the farm shards it: weights first, then sources."""
        found = [[task for task in self.tasks if task.style == style] for style in range(STYLES)]
        return [tasks for tasks in found if tasks]

    def first(self, tasks: int) -> "Work":
        return Work(self.name, self.size, self.steps, self.pictures, self.prompts, self.tasks[:tasks])

    @property
    def unet_steps(self) -> int:
        """Of all tasks together, guidance not counted: the same for every arm."""
        return sum(unet_steps(self.steps, task.strength) for task in self.tasks)


def work_of(name: str, *, sources: int, size: str, steps: int) -> Work:
    """Each strength comes equally often with each style when *sources* is a multiple of six."""
    tasks: list[Task] = []
    for source in range(sources):
        for each in range(STYLES_EACH):
            style = (source + 2 * each) % STYLES
            tasks.append(Task(len(tasks), source, style, STRENGTHS[source // 2 % len(STRENGTHS)]))
    pictures = tuple(_picture(f"{name}/{source}", dimensions(size)) for source in range(sources))
    prompts = tuple(f"a product photo in style {style}, {name}" for style in range(STYLES))
    return Work(name, size, steps, pictures, prompts, tuple(tasks))


def _picture(name: str, size: tuple[int, int]) -> Image.Image:
    """Soft colours: something that a VAE has to work on, never twice the same."""
    random = np.random.default_rng(list(name.encode()))
    small = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


# weights


@dataclass(frozen=True, slots=True)
class Files:
    """``loras`` in the order of their styles."""

    checkpoint: Path
    loras: tuple[Path, ...]


def tiny_files(folder: Path) -> Files:
    tiny.build(folder / "tiny")
    checkpoint = folder / "tiny" / "checkpoint"
    return Files(checkpoint, _write_loras(folder / "loras", _shapes(checkpoint), TINY_RANKS, torch.float32))


def full_files(folder: Path, *, device: str, dtype: torch.dtype = torch.bfloat16) -> Files:
    """SDXL base from its configuration, random weights, as a diffusers folder: 7 GB in bf16, and 2.4 GB of LoRAs.

    CLIP's vocabulary cannot be had from its configuration, so the tokenizer is the tests' own: every byte is a token.
    """
    tiny.build(folder / "tiny")
    checkpoint = folder / "checkpoint"
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(folder / "tiny" / "checkpoint" / name, checkpoint / name)
    torch.manual_seed(tiny.SEED)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            pipe = _random_pipe(checkpoint)
    finally:
        torch.set_default_dtype(before)
    pipe.save_pretrained(checkpoint, safe_serialization=True)
    shapes = {name: tuple(module.weight.shape) for name, module in _linears(pipe.unet)}
    return Files(checkpoint, _write_loras(folder / "loras", shapes, FULL_RANKS, dtype))


def _random_pipe(checkpoint: Path) -> Any:
    def config(name: str) -> dict[str, Any]:
        return FOLDERS[f"{name}/config.json"]

    return StableDiffusionXLImg2ImgPipeline(  # type: ignore[no-untyped-call]
        vae=AutoencoderKL.from_config(config("vae")),  # type: ignore[no-untyped-call]
        text_encoder=CLIPTextModel(CLIPTextConfig(**config("text_encoder"))),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**config("text_encoder_2"))),
        tokenizer=CLIPTokenizer.from_pretrained(checkpoint / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(checkpoint / "tokenizer_2"),
        unet=UNet2DConditionModel.from_config(config("unet")),  # type: ignore[no-untyped-call]
        scheduler=EulerDiscreteScheduler.from_config(SAMPLER),  # type: ignore[no-untyped-call]
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def _linears(unet: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [
        (name, module)
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(_TARGETS)
    ]


def _shapes(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    """Of the weights that LoRAs change, by module."""
    tensors = load_file(checkpoint / "unet" / "diffusion_pytorch_model.safetensors")
    found = {name.removesuffix(".weight"): tuple(tensor.shape) for name, tensor in tensors.items()}
    return {name: shape for name, shape in found.items() if name.endswith(_TARGETS)}


def _write_loras(
    folder: Path, shapes: dict[str, tuple[int, ...]], ranks: Sequence[int], dtype: torch.dtype
) -> tuple[Path, ...]:
    """On attention and feed-forward of the UNet, in peft's names."""
    folder.mkdir(parents=True)
    paths: list[Path] = []
    for number, rank in enumerate(ranks):
        generator = torch.Generator().manual_seed(tiny.SEED + number)
        tensors: dict[str, Tensor] = {}
        for name, (rows, columns) in shapes.items():
            down = torch.randn(rank, columns, generator=generator) / columns**0.5
            up = torch.randn(rows, rank, generator=generator) * (0.1 / rank**0.5)
            tensors[f"unet.{name}.lora_A.weight"], tensors[f"unet.{name}.lora_B.weight"] = down.to(dtype), up.to(dtype)
        paths.append(folder / f"style-{number}.safetensors")
        save_file(tensors, paths[-1], metadata={"format": "pt"})
    return tuple(paths)


def ranks_of(files: Files) -> tuple[int, ...]:
    found: list[int] = []
    for path in files.loras:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        found.append(next(each["shape"][0] for name, each in header.items() if name.endswith("lora_A.weight")))
    return tuple(found)
