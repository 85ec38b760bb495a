"""What the hardware can do, what a render costs, and what a device did meanwhile."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from ops.bench._engine_work import Files, Work
from schemas.style import dimensions

GEMM_SIDES: Final = {"cuda": (4096, 8192, 16384), "cpu": (512, 1024, 2048)}
SAME: Final = 99.0
"""dB that stand for "not one pixel differs": JSON has no infinity."""


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def gemm_peak(device: str, dtype: torch.dtype, *, seconds: float) -> float:
    """FLOP/s of the fastest square product of random matrices, for *seconds* each."""
    return max(_gemm(side, device, dtype, seconds) for side in GEMM_SIDES[device])


def _gemm(side: int, device: str, dtype: torch.dtype, seconds: float) -> float:
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    into = left @ right
    synchronise(device)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(4):
            torch.matmul(left, right, out=into)
        synchronise(device)  # not after each: starting a kernel takes time that the next ones hide
        done += 4
    return done * 2 * side**3 / (time.perf_counter() - began)


# what a render costs


def flops_of(files: Files, work: Work) -> float:
    """FLOP that the renders of *work* need together: two rows of the UNet a step (guidance), each picture decoded,
    each source encoded once. Texts are left out: 0.1 TFLOP for a style. Counted on the real configurations."""
    width, height = dimensions(work.size)
    unet, encode, decode = _counted(files, width, height)
    sources = len({task.source for task in work.tasks})
    return 2 * unet * work.unet_steps + decode * len(work.tasks) + encode * sources


def _counted(files: Files, width: int, height: int) -> tuple[float, float, float]:
    with torch.device("meta"):  # shapes only: it takes no time and no memory, whatever the size
        unet: Any = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(files.checkpoint / "unet"))  # type: ignore[no-untyped-call]
        vae: Any = AutoencoderKL.from_config(AutoencoderKL.load_config(files.checkpoint / "vae"))  # type: ignore[no-untyped-call]
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        latents = torch.empty(1, vae.config.latent_channels, height // factor, width // factor)
        pixels = torch.empty(1, 3, height, width)
        text = torch.empty(1, 77, unet.config.cross_attention_dim)
        ids = 6 * unet.config.addition_time_embed_dim
        added = {
            "text_embeds": torch.empty(1, unet.config.projection_class_embeddings_input_dim - ids),
            "time_ids": torch.empty(1, 6),
        }
        return (
            _count(lambda: unet(latents, torch.tensor(1), encoder_hidden_states=text, added_cond_kwargs=added)),
            _count(lambda: vae.encode(pixels)),
            _count(lambda: vae.decode(latents)),
        )


def _count(call: Callable[[], object]) -> float:
    # in plain products: the counter does not know the fused attention of every device
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


# what the device did


def idle_share(device: str, call: Callable[[], object]) -> float:
    """Of the time that *call* takes: how much of it no kernel ran on the GPU, or no operator of torch on the CPU.

    From torch's profiler, which slows the program down, so idleness is if anything overstated.
    """
    gpu = device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities) as seen:
        began = time.perf_counter_ns()
        call()
        synchronise(device)
        whole = time.perf_counter_ns() - began
    found: Any = seen.profiler
    events = found.kineto_results.events()
    wanted = torch.autograd.DeviceType.CUDA if gpu else torch.autograd.DeviceType.CPU  # type: ignore[attr-defined]
    spans = ((each.start_ns(), each.start_ns() + each.duration_ns()) for each in events if each.device_type() == wanted)
    return max(0.0, 1 - union_of(spans) / whole)


def union_of(spans: Iterable[tuple[int, int]]) -> int:
    """The length of what the spans cover together."""
    covered, until = 0, -math.inf
    for begin, end in sorted(spans):
        if end > until:
            covered += end - int(max(begin, until))
            until = end
    return covered


def psnr(one: Image.Image, other: Image.Image) -> float:
    """dB; `SAME` when not one pixel differs."""
    left, right = (np.asarray(each, dtype=np.float64) for each in (one, other))
    error = float(np.mean((left - right) ** 2))
    return SAME if error == 0 else 10 * math.log10(255**2 / error)


def blank(picture: Image.Image) -> bool:
    """One colour only: what becomes of numbers that are not finite."""
    array = np.asarray(picture.convert("RGB"))
    return bool((array == array[:1, :1]).all())


def timed(device: str, calls: Sequence[Callable[[], object]]) -> list[float]:
    found: list[float] = []
    for call in calls:
        synchronise(device)
        began = time.perf_counter()
        call()
        synchronise(device)
        found.append(time.perf_counter() - began)
    return found
