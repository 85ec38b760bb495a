"""Rows for the engine, and what diffusers' own pipelines make of them, on the tiny checkpoint."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import (
    ControlNetModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image, ImageDraw
from transformers import CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from actors.engine.control import edges
from actors.engine.port import Engine, ReferenceInput, Rendered, Row
from schemas.style import Sampler, StrengthMode

WIDTH: Final = 64
HEIGHT: Final = 48
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def soft(number: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def a_mask() -> Image.Image:
    """An ellipse with a soft edge, off the grid of the latents."""
    mask = Image.new("L", (WIDTH * 4, HEIGHT * 4))
    ImageDraw.Draw(mask).ellipse((70, 30, 210, 150), fill=255)
    return mask.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def a_row(number: int = 1, **changes: Any) -> Row:
    row = Row(
        source=f"source {number}",
        picture=soft(number),
        prompt=f"a cat {number}",
        negative="blur",
        seed=number,
        size=f"{WIDTH}x{HEIGHT}",
        strength=0.7,
        steps=8,
        guidance=5.0,
        sampler=Sampler.EULER,
        mode=StrengthMode.DIFFUSERS,
    )
    return replace(row, **changes)


def a_reference(number: int) -> ReferenceInput:
    return ReferenceInput(f"reference {number}", soft(100 + number, (40, 52)))


def rendered(engine: Engine, *rows: Row) -> list[Pixels]:
    """All begin at once."""
    ended = [engine.begin(number, row) for number, row in enumerate(rows)]
    found = {end.id: end.result for end in ended if end is not None}
    for _ in range(len(rows) * 10):
        for group in {row.group for row in rows}:
            found |= {end.id: end.result for end in engine.step(group)}
        if len(found) == len(rows):
            return [pixels(found[number]) for number in range(len(rows))]
    raise AssertionError(f"only {len(found)} of {len(rows)} rows have ended")


def pixels(result: object) -> Pixels:
    assert isinstance(result, Rendered), result
    return np.asarray(result.picture())


def bits(pictures: Sequence[Pixels]) -> list[bytes]:
    return [picture.tobytes() for picture in pictures]


# what it is compared with


def scheduler(sampler: Sampler, config: Any) -> Any:
    match sampler:
        case Sampler.EULER:
            return EulerDiscreteScheduler.from_config(config)  # type: ignore[no-untyped-call]
        case Sampler.DPMPP_2M:
            return DPMSolverMultistepScheduler.from_config(  # type: ignore[no-untyped-call]
                config, algorithm_type="dpmsolver++", solver_order=2, use_karras_sigmas=True
            )
        case Sampler.LCM:
            return LCMScheduler.from_config(config)  # type: ignore[no-untyped-call]


def stock(pipeline: Any, folder: Path, row: Row, *, controlnet: Any = None, **given: Any) -> Pixels:
    """*pipeline*'s picture of *row*; *given* is what its kind of pipeline takes beside."""
    extra = {} if controlnet is None else {"controlnet": controlnet}
    pipe = pipeline.from_pretrained(folder, **extra)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = scheduler(row.sampler, pipe.scheduler.config)
    if row.references:
        _load_references(pipe, folder)
        pipe.set_ip_adapter_scale(row.reference_scale)
        given["ip_adapter_image"] = row.references[0].picture
    found = pipe(
        prompt=row.prompt,
        negative_prompt=row.negative,
        image=row.picture,
        strength=row.strength,
        num_inference_steps=row.steps,
        guidance_scale=row.guidance,
        generator=[torch.Generator().manual_seed(row.seed)],
        **given,
    ).images[0]
    return np.asarray(found)


def _load_references(pipe: Any, folder: Path) -> None:
    encoder = CLIPVisionModelWithProjection.from_pretrained(folder / "ip_adapter" / "image_encoder")
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pipe.register_modules(image_encoder=encoder, feature_extractor=processor)
    pipe.load_ip_adapter(folder, subfolder="ip_adapter", weight_name="ip_adapter.safetensors")


def img2img(folder: Path, row: Row) -> Pixels:
    return stock(StableDiffusionXLImg2ImgPipeline, folder, row)


def inpainted(folder: Path, row: Row) -> Pixels:
    """A UNet of 4 channels does not look at the masked source, but the pipeline would draw it all the same, from the
    generator that the noise of LCM's steps comes from. It is given one instead."""
    given: dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "mask_image": row.mask}
    if folder.name != "inpainting":
        given["masked_image_latents"] = torch.zeros(1, 4, HEIGHT // 4, WIDTH // 4)
    return stock(StableDiffusionXLInpaintPipeline, folder, row, **given)


def controlled(folder: Path, row: Row) -> Pixels:
    assert row.control is not None
    net: Any = ControlNetModel.from_pretrained(folder / "controlnet" / row.control.kind)  # type: ignore[no-untyped-call]
    drawn = Image.fromarray((edges(row.picture) * 255).astype(np.uint8))
    return stock(
        StableDiffusionXLControlNetImg2ImgPipeline,
        folder,
        row,
        controlnet=net,
        control_image=row.control.picture or drawn,
        controlnet_conditioning_scale=row.control.scale,
        control_guidance_start=row.control.start,
        control_guidance_end=row.control.end,
    )


def assert_same(ours: Pixels, theirs: Pixels) -> None:
    away = np.abs(ours.astype(int) - theirs.astype(int))
    assert away.max() <= 1
    assert (away > 0).mean() < 0.005


def assert_others(ours: Pixels, plain: Pixels) -> None:
    """Far beyond rounding: twenty times as much differs as `assert_same` lets pass."""
    assert (ours != plain).mean() > 0.1
