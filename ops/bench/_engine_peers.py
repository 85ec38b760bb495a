"""Diffusers' own pipeline as an arm: as a plain script uses it, and tuned as well as its documentation allows."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

import diffusers
import torch
import transformers
from diffusers import StableDiffusionXLImg2ImgPipeline
from PIL import Image

from ops.bench._engine_work import GUIDANCE, LORA_SCALE, NEGATIVE, Files, Task, Work, ranks_of

Pictures = dict[int, Image.Image]
"""By the number of their task."""


class Arm(Protocol):
    """A way of making the pictures: the same ones, from the same random numbers, whichever arm it is."""

    @property
    def name(self) -> str: ...

    def turn(self, work: Work, *, box: float) -> Pictures:
        """Makes the pictures; an arm that takes them one by one stops when *box* seconds are over."""
        ...

    def switch(self, style: int) -> None:
        """To the LoRA of *style*, as a turn does it."""
        ...


def opened_pipe(files: Files, *, device: str, dtype: torch.dtype) -> Any:
    diffusers.utils.logging.set_verbosity_error()  # it says at every load that a LoRA has nothing for the text encoders
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    pipe = StableDiffusionXLImg2ImgPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        files.checkpoint, dtype=dtype, local_files_only=True, use_safetensors=True, add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


class Stock:
    """What the first page of the documentation shows: picture by picture, the LoRA loaded for it and unloaded."""

    name: Final = "diffusers, stock loop"

    def __init__(self, files: Files, *, device: str, dtype: torch.dtype) -> None:
        self._files = files
        self._pipe = opened_pipe(files, device=device, dtype=dtype)

    def turn(self, work: Work, *, box: float) -> Pictures:
        began, made = time.perf_counter(), Pictures()
        for task in work.tasks:
            if made and time.perf_counter() - began > box:
                break
            self.switch(task.style)
            made[task.number] = self._pipe(
                prompt=work.prompts[task.style],
                negative_prompt=NEGATIVE,
                image=work.pictures[task.source],
                strength=task.strength,
                num_inference_steps=work.steps,
                guidance_scale=GUIDANCE,
                generator=torch.Generator("cpu").manual_seed(task.seed),
            ).images[0]
            self._pipe.unload_lora_weights()
        return made

    def switch(self, style: int) -> None:
        self._pipe.unload_lora_weights()
        self._pipe.load_lora_weights(self._files.loras[style], adapter_name="style")
        self._pipe.set_adapters("style", LORA_SCALE)


# tuned


class Swap(StrEnum):
    """The ways of changing the LoRA that diffusers documents."""

    ADAPTERS = "adapters"  # all loaded at the start, one active
    FUSE = "fuse"  # the same, and the active one fused into the weights
    HOTSWAP = "hotswap"  # one slot, overwritten from the file: what a compiled UNet needs


@dataclass(frozen=True, slots=True)
class Tuning:
    swap: Swap
    batch: int
    channels_last: bool
    compile: bool = False
    compile_mode: str = "default"

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        compiled = f", compiled ({self.compile_mode})" if self.compile else ""
        return f"{self.swap}, batch {self.batch}, {layout}{compiled}"


class Tuned:
    """Sorted by LoRA, batched, texts embedded once, the VAE in the dtype of the UNet; the rest says *tuning*."""

    name: Final = "diffusers, tuned"

    def __init__(self, files: Files, tuning: Tuning, *, device: str, dtype: torch.dtype) -> None:
        self._files, self._tuning = files, tuning
        self._pipe = pipe = opened_pipe(files, device=device, dtype=dtype)
        pipe.vae.register_to_config(force_upcast=False)  # as with the VAE that was mended for it
        if tuning.channels_last:
            pipe.unet.to(memory_format=torch.channels_last)
            pipe.vae.to(memory_format=torch.channels_last)
        self._fused = False
        self._load_loras()
        if tuning.compile:
            pipe.unet.compile(fullgraph=True, dynamic=False, mode=tuning.compile_mode)
            pipe.vae.decode = torch.compile(pipe.vae.decode, fullgraph=True, dynamic=False, mode=tuning.compile_mode)
        self._texts: dict[str, tuple[torch.Tensor, ...]] = {}

    def _load_loras(self) -> None:
        if self._tuning.swap is Swap.HOTSWAP:
            ranks = ranks_of(self._files)
            if ranks[0] != max(ranks):
                raise ValueError("Hotswap needs the LoRA of the largest rank first.")
            self._pipe.enable_lora_hotswap(target_rank=max(ranks))
            self._pipe.load_lora_weights(self._files.loras[0], adapter_name="style")
            return
        for style, path in enumerate(self._files.loras):
            self._pipe.load_lora_weights(path, adapter_name=f"style-{style}")

    def switch(self, style: int) -> None:
        match self._tuning.swap:
            case Swap.ADAPTERS:
                self._pipe.set_adapters(f"style-{style}", LORA_SCALE)
            case Swap.FUSE:
                if self._fused:
                    self._pipe.unfuse_lora(components=["unet"])
                self._fused = True
                self._pipe.set_adapters(f"style-{style}", 1.0)
                self._pipe.fuse_lora(components=["unet"], lora_scale=LORA_SCALE, adapter_names=[f"style-{style}"])
            case Swap.HOTSWAP:
                self._pipe.load_lora_weights(self._files.loras[style], adapter_name="style", hotswap=True)
                self._pipe.set_adapters("style", LORA_SCALE)

    def turn(self, work: Work, *, box: float) -> Pictures:  # noqa: ARG002 - sorted, a part would not stand for the whole
        self._texts.clear()
        made = Pictures()
        for tasks in work.by_style():
            self.switch(tasks[0].style)
            for batch in _same_strength(tasks, self._tuning.batch):
                made.update(self._batch(work, batch))
        return made

    def _batch(self, work: Work, tasks: Sequence[Task]) -> Iterator[tuple[int, Image.Image]]:
        padding = self._tuning.batch - len(tasks) if self._tuning.compile else 0  # another shape would compile anew
        rows = [*tasks, *(tasks[0] for _ in range(padding))]
        embedded = self._embedded(work.prompts[tasks[0].style])
        names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
        texts = {name: each.repeat_interleave(len(rows), dim=0) for name, each in zip(names, embedded, strict=True)}
        pictures = self._pipe(
            image=[work.pictures[task.source] for task in rows],
            strength=tasks[0].strength,
            num_inference_steps=work.steps,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator("cpu").manual_seed(task.seed) for task in rows],
            **texts,
        ).images
        return ((task.number, picture) for task, picture in zip(tasks, pictures[: len(tasks)], strict=True))

    def _embedded(self, prompt: str) -> tuple[torch.Tensor, ...]:
        if prompt not in self._texts:
            with torch.inference_mode(False), torch.no_grad():
                self._texts[prompt] = self._pipe.encode_prompt(
                    prompt=prompt, negative_prompt=NEGATIVE, do_classifier_free_guidance=True
                )
        return self._texts[prompt]


def _same_strength(tasks: Sequence[Task], batch: int) -> Iterator[list[Task]]:
    """A call of the pipeline has one strength."""
    for strength in sorted({task.strength for task in tasks}):
        found = [task for task in tasks if task.strength == strength]
        yield from (found[at : at + batch] for at in range(0, len(found), batch))
