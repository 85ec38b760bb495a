"""From data to weights: ``python -m ops.demo_checkpoint --minutes 120``. Started again, it goes on where it was.

The minutes are those of training, shared out below; fetching and preparing come on top, about ten.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from farm.embedded import SHIPPED
from ops.demo_checkpoint import autoencoder, denoiser
from ops.demo_checkpoint.export import write_checkpoint, write_lora
from ops.demo_checkpoint.fetch import fetch
from ops.demo_checkpoint.filters import STYLES
from ops.demo_checkpoint.judge import train_judge
from ops.demo_checkpoint.pictures import Pictures, prepare
from ops.demo_checkpoint.text import write_tokenizers
from ops.demo_checkpoint.training import device, record

SHARES = {"judge": 0.02, "autoencoder": 0.39, "base": 0.295, "lora": 0.055, "decoder": 0.075}
PROMPTS = Path(__file__).parent / "prompts.txt"


def main() -> None:
    asked = _arguments()
    asked.work.mkdir(parents=True, exist_ok=True)
    fetch(asked.work)
    pictures = prepare(asked.work, asked.pictures)
    train_judge(pictures, asked.work, SHARES["judge"] * asked.minutes)
    vae = autoencoder.trained(pictures, asked.work, SHARES["autoencoder"] * asked.minutes)
    base, latents = _base(vae, pictures, asked.work)
    denoiser.train_base(base, latents, asked.work, SHARES["base"] * asked.minutes)
    for style in STYLES:
        tensors = denoiser.train_lora(base, style, latents, asked.work, SHARES["lora"] * asked.minutes)
        write_lora(tensors, asked.out / "loras" / f"{style}.safetensors")
    autoencoder.sharpen(vae, pictures, asked.work, SHARES["decoder"] * asked.minutes)
    write_checkpoint(vae, base, asked.work, asked.out / "checkpoint")
    record(asked.work, Path(__file__).with_name("training.json"))
    print(f"Written to {asked.out}")


def _base(vae: Any, pictures: Pictures, work: Path) -> tuple[denoiser.Base, denoiser.Latents]:
    latents = denoiser.encode(vae, pictures, work / f"latents-{len(pictures.captions)}-{autoencoder.digest(vae)}.pt")
    write_tokenizers(work, [*pictures.captions, *PROMPTS.read_text().splitlines() * 20])
    torch.manual_seed(0)
    return denoiser.Base(work).to(device()), latents


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops.demo_checkpoint", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120, help="of training, in all")
    parser.add_argument("--work", type=Path, default=Path(".demo-checkpoint"), help="data and states, about 5 GB")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="where the weights go")
    parser.add_argument("--pictures", type=int, default=4000, help="how many training pictures are made")
    return parser.parse_args()


if __name__ == "__main__":
    main()
