"""Writes what was trained as a user would add it: a diffusers folder and LoRA files, all fp16."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline
from safetensors.torch import save_file
from torch import Tensor

from actors.engine.base_config import SAMPLER
from ops.demo_checkpoint.denoiser import Base


def write_checkpoint(autoencoder: Any, base: Base, tokenizers: Path, folder: Path) -> None:
    """In place of whatever *folder* held. The tokenizers stay as they were written: vocab.json and merges.txt."""
    texts = base.texts
    pipe: Any = StableDiffusionXLImg2ImgPipeline(  # type: ignore[no-untyped-call]
        vae=autoencoder,
        text_encoder=texts.text_encoder,
        text_encoder_2=texts.text_encoder_2,
        tokenizer=texts.tokenizers[0],
        tokenizer_2=texts.tokenizers[1],
        unet=base.unet,
        scheduler=EulerDiscreteScheduler.from_config(  # type: ignore[no-untyped-call]
            {**SAMPLER, "prediction_type": "v_prediction"}
        ),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    shutil.rmtree(folder, ignore_errors=True)
    pipe.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.rmtree(folder / name)
        shutil.copytree(tokenizers / name, folder / name)


def write_lora(tensors: Mapping[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), path, metadata={"format": "pt"})
