"""The engine: diffusers' SDXL image-to-image loop, in passes of one fixed size.

The same row gives the same bits whoever its neighbours are: sources and texts are encoded and pictures decoded one by
one, the UNet always sees ``batch`` rows (missing ones are copies of the first), and noise comes from the row's own CPU
generator, in fp32: first the draw from the source's posterior, then the noise that is added.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; without it cuBLAS may vary
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers
import torch
import transformers
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler
from PIL import Image
from torch import Tensor

from actors.engine import checkpoint, lora
from actors.engine.encode import Embedding, Kept, Latents, drawn, embedding_of, latents_of, unscaled
from actors.engine.failures import mapped
from actors.engine.port import GpuSeconds, Held, PassKey, Refused, Rendered, Row, Stopped, Weights
from actors.engine.shelf import Shelf
from schemas.report import CacheCounts, Failure, FailureKind
from schemas.style import Sampler

_BAD_PICTURE: Final = Failure(
    kind=FailureKind.BAD_PICTURE, code="picture_not_finite", detail="The checkpoint gave pixels that are not numbers."
)


class DiffusersEngine:
    def __init__(self, *, batch: int, device: str, threads: int, ram_bytes: int, tokenizer: Path | None) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._device = torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
        self._dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
        torch.backends.cudnn.benchmark = False  # it may choose another kernel each time
        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        self._batch, self._tokenizer = batch, tokenizer
        self._pipe: Any = None
        self._sampler_config: Any = None
        self._modules: dict[str, torch.nn.Module] = {}
        self._merger = lora.Merger({})
        self._shelf = Shelf(ram_bytes)
        self._weights: Weights | None = None
        self._latents: Kept[Latents] = Kept()
        self._texts: Kept[Embedding] = Kept()

    @property
    def gpu(self) -> str:
        return torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"

    @property
    def numerics(self) -> str:
        place = _cuda() if self._device.type == "cuda" else _cpu()
        dtype = str(self._dtype).removeprefix("torch.")
        libraries = f"torch={torch.__version__} diffusers={diffusers.__version__}"
        return f"{self.gpu} {place} {libraries} dtype={dtype} batch={self._batch}"

    @property
    def batch(self) -> int:
        return self._batch

    @property
    def counts(self) -> CacheCounts:
        return self._shelf.counts

    def held(self) -> Held:
        return Held(self._weights.digest if self._weights else "", self._shelf.loras())

    # weights

    def load(self, weights: Weights) -> None:
        with _mapped():
            if self._weights is None or self._weights.digest != weights.digest:
                self._load_checkpoint(weights)
            else:
                self._shelf.hit_checkpoint()
            self._texts.clear()  # LoRAs may change the text encoders; embedding a text again costs 0.1 TFLOP
            layers = int(self._pipe.unet.config.layers_per_block)
            self._merger.merge(
                (self._shelf.lora(wanted, self._modules, layers), wanted.scale) for wanted in weights.loras
            )
            self._weights = weights

    def _load_checkpoint(self, weights: Weights) -> None:
        self._weights = self._pipe = None  # the old one leaves the GPU before the new one comes
        self._modules, self._merger = {}, lora.Merger({})
        self._latents.clear()
        self._shelf.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        with self._shelf.loading_checkpoint():
            self._pipe = checkpoint.load(weights.checkpoint, dtype=self._dtype, tokenizer=self._tokenizer)
            self._pipe.to(self._device)
        self._sampler_config = self._pipe.scheduler.config
        self._modules = lora.targets({part: getattr(self._pipe, part) for part in lora.PARTS})
        self._merger = lora.Merger(self._modules)
        self._weights = Weights(weights.digest, weights.checkpoint)

    # pictures

    @torch.inference_mode()
    def render(self, rows: Sequence[Row], should_stop: Callable[[], bool]) -> Sequence[Rendered | Failure]:
        try:
            with _mapped():
                return self._render(rows, should_stop)
        except Refused as refused:
            if refused.failure.kind is FailureKind.OUT_OF_VRAM:
                torch.cuda.empty_cache()
            return [refused.failure] * len(rows)

    def _render(self, rows: Sequence[Row], should_stop: Callable[[], bool]) -> list[Rendered | Failure]:
        clock, key = _Clock(self._device), rows[0].key
        latents = [self._encoded(row) for row in rows]
        encode = clock.lap() / len(rows)
        finished = self._denoised(rows, latents, key, should_stop)
        denoise = clock.lap() / len(rows)
        results: list[Rendered | Failure] = []
        for number in range(len(rows)):
            picture = self._decoded(finished[number : number + 1])
            seconds = GpuSeconds(encode, denoise, clock.lap())
            results.append(_BAD_PICTURE if picture is None else Rendered(picture, seconds))
        return results

    def _encoded(self, row: Row) -> Latents:
        return self._latents.get((row.source, row.key.size), lambda: latents_of(self._pipe, row.picture))

    def _denoised(
        self, rows: Sequence[Row], latents: Sequence[Latents], key: PassKey, should_stop: Callable[[], bool]
    ) -> Tensor:
        """(rows, 4, h, w), fp32."""
        pipe = self._pipe
        pipe.scheduler = _sampler(self._sampler_config, key.sampler)
        pipe.scheduler.set_timesteps(key.steps, device=self._device)
        timesteps, _ = pipe.get_timesteps(key.steps, key.strength, self._device)
        generators = [torch.Generator("cpu").manual_seed(row.seed) for row in rows]
        start = torch.cat([drawn(each, generator, pipe) for each, generator in zip(latents, generators, strict=True)])
        if len(timesteps) == 0:  # too little strength for a single step: the source as the VAE sees it
            return start
        noise = torch.cat([torch.randn(start.shape[1:], generator=each).unsqueeze(0) for each in generators])
        noisy = pipe.scheduler.add_noise(start, noise.to(start.device), timesteps[:1].repeat(len(rows)))
        return self._steps(rows, noisy, key, should_stop)

    def _steps(self, rows: Sequence[Row], noisy: Tensor, key: PassKey, should_stop: Callable[[], bool]) -> Tensor:
        def check(_pipe: object, _step: int, _time: object, tensors: dict[str, Any]) -> dict[str, Any]:
            if should_stop():  # raising is the only way out that skips the rest; diffusers' own flag still decodes
                raise Stopped
            return tensors

        latents = _padded(noisy, self._batch).to(self._dtype)
        finished = self._pipe(
            image=torch.zeros_like(latents),  # not looked at: `latents` are given
            latents=latents,
            strength=key.strength,
            num_inference_steps=key.steps,
            guidance_scale=key.guidance,
            output_type="latent",
            callback_on_step_end=check,
            **self._conditions(rows, key.guidance),
        ).images
        kept: Tensor = finished[: len(rows)].float()
        return kept

    def _conditions(self, rows: Sequence[Row], guidance: float) -> dict[str, Tensor]:
        positive = [self._text(row.prompt, negative=False) for row in rows]
        found = {
            "prompt_embeds": _padded(torch.cat([each.sequence for each in positive]), self._batch),
            "pooled_prompt_embeds": _padded(torch.cat([each.pooled for each in positive]), self._batch),
        }
        if guidance > 1:  # below, diffusers runs without a negative prompt
            against = [self._text(row.negative, negative=True) for row in rows]
            found["negative_prompt_embeds"] = _padded(torch.cat([each.sequence for each in against]), self._batch)
            found["negative_pooled_prompt_embeds"] = _padded(torch.cat([each.pooled for each in against]), self._batch)
        return found

    def _text(self, text: str, *, negative: bool) -> Embedding:
        return self._texts.get((text, negative), lambda: embedding_of(self._pipe, text, negative=negative))

    def _decoded(self, latents: Tensor) -> Image.Image | None:
        """None when the pixels are not finite."""
        vae = self._pipe.vae
        pixels = vae.decode(unscaled(latents, self._pipe).to(vae.dtype), return_dict=False)[0][0].float()
        if not torch.isfinite(pixels).all():
            return None
        array = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
        return Image.fromarray(array.permute(1, 2, 0).contiguous().cpu().numpy())


class _Clock:
    def __init__(self, device: torch.device) -> None:
        self._device, self._last = device, time.monotonic()

    def lap(self) -> float:
        """Seconds since the last lap. The GPU runs behind the program, so it is waited for."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        return seconds


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        known = mapped(error)
        if known is error:
            raise
        raise known from error


def _cuda() -> str:
    """What besides the GPU itself chooses the kernels."""
    driver = Path("/proc/driver/nvidia/version")
    found = re.search(r"Module\s+(?:for \S+\s+)?([\d.]+)", driver.read_text()) if driver.exists() else None
    version = found[1] if found else "unknown"
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return f"driver={version} cuda={torch.version.cuda} cudnn={cudnn}"


def _cpu() -> str:
    return f"threads={torch.get_num_threads()} isa={torch.backends.cpu.get_cpu_capability()}"


def _padded(rows: Tensor, batch: int) -> Tensor:
    """Copies of the first row fill the pass: kernels, and with them bits, change with the shape."""
    missing = batch - rows.shape[0]
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows


def _sampler(config: Any, wanted: Sampler) -> Any:
    """A new one for each pass: it holds the state of a run."""
    match wanted:
        case Sampler.EULER:
            return EulerDiscreteScheduler.from_config(config)  # type: ignore[no-untyped-call]
        case Sampler.DPMPP_2M:
            kind = "dpmsolver++"
            return DPMSolverMultistepScheduler.from_config(  # type: ignore[no-untyped-call]
                config, algorithm_type=kind, solver_order=2
            )
