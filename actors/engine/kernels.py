"""What the device computes with: dtype, layout, attention, compilation. All of it decides about bits."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from actors.engine import quantised
from actors.settings import RendererSettings

_HOPPER: Final = 9
_AMPERE: Final = 8
_BY_NAME: Final = {
    "cudnn": (SDPBackend.CUDNN_ATTENTION,),
    "flash": (SDPBackend.FLASH_ATTENTION,),
    "efficient": (SDPBackend.EFFICIENT_ATTENTION,),
    "math": (),
}
_GRAPHS: Final = 64
"""Shapes that are compiled before torch gives up: every size, bucket and control has one of its own."""

Pipe = Any
"""diffusers' pipelines are not typed."""


def device_of(settings: RendererSettings) -> torch.device:
    """Always with its number, and made the current one: streams and events belong to whatever that is."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device("cuda:0" if name == "cuda" else name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


class Kernels:
    def __init__(self, settings: RendererSettings, device: torch.device) -> None:
        self._settings, self._device = settings, device
        self._cuda = device.type == "cuda"
        major = torch.cuda.get_device_capability(device)[0] if self._cuda else 0
        self.dtype = torch.float32 if not self._cuda else torch.bfloat16 if major >= _AMPERE else torch.float16
        self._attention = _attention(settings.attention, major)
        torch.backends.cudnn.benchmark = False  # it may choose another kernel each time

    def __str__(self) -> str:
        names = "+".join(backend.name.removesuffix("_ATTENTION").lower() for backend in self._attention)
        layout = "channels_last" if self._cuda else "contiguous"
        extras = [f"vae={self._settings.vae}", f"attention={names or 'auto'}", f"layout={layout}"]
        if self._settings.compile:
            extras.append("compiled")
        if self._settings.quantise != "none":
            extras.append(f"quantised={self._settings.quantise}")
        return " ".join([*extras, f"dtype={str(self.dtype).removeprefix('torch.')}"])

    def attention(self) -> AbstractContextManager[None]:
        """Around the UNet and what hangs on it; the VAE's one head is too wide for most kernels."""
        if not self._attention:
            return nullcontext()
        chosen: AbstractContextManager[None] = sdpa_kernel(list(self._attention), set_priority=True)
        return chosen

    @contextmanager
    def vae(self) -> Iterator[None]:
        """Around the VAE. One in fp32 may have its products rounded to TF32, as torch by default does with its
        convolutions; nothing else here multiplies in TF32, and merging in particular does not."""
        before = torch.backends.cuda.matmul.fp32_precision
        if self._cuda:
            torch.backends.cuda.matmul.fp32_precision = "tf32"
        try:
            yield
        finally:
            torch.backends.cuda.matmul.fp32_precision = before

    def place(self, pipe: Pipe) -> None:
        """Brings a pipeline to the device, in its final dtypes and layout."""
        upcast = self._settings.vae == "fp32" or (self._settings.vae == "auto" and pipe.vae.config.force_upcast)
        wanted = torch.float32 if upcast else self.dtype
        if pipe.vae.dtype != wanted:
            pipe.vae.to(wanted)
        pipe.to(self._device)
        if self._cuda:
            pipe.unet.to(memory_format=torch.channels_last)
            pipe.vae.to(memory_format=torch.channels_last)
        if self._settings.quantise == "fp8":
            quantised.to_fp8(pipe.unet)
        if self._settings.compile:
            self._compile(pipe.unet)

    def _compile(self, unet: torch.nn.Module) -> None:
        """Every bucket is a graph of its own. Merging LoRAs writes into the weights and leaves graphs valid."""
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(self._settings.cache / "compiled")  # torch has set its own by now
        limits = {"recompile_limit": _GRAPHS}
        torch._dynamo.config.load_config(limits)  # noqa: SLF001 - there is no public way to say it
        unet.compile(dynamic=False)


def _attention(name: str, major: int) -> tuple[SDPBackend, ...]:
    """In the order of preference; the CPU has only one way. On Hopper cuDNN's is the fastest (FlashAttention-3's
    paper, figure 5: head dimension 64)."""
    if not major:
        return ()
    if name != "auto":
        return (*_BY_NAME[name], SDPBackend.MATH)
    best = ("cudnn", "flash") if major >= _HOPPER else ("flash",)
    return (*(_BY_NAME[each][0] for each in best), SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
