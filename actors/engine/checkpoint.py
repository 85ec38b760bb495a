"""Loads any SDXL checkpoint from disk: a diffusers folder, or one .safetensors file.

Offline, safetensors only, no code from the checkpoint. A single file holds no tokenizer, so for that layout the
vocabulary of CLIP has to be beside it, or in a folder that the settings name.
"""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, StableDiffusionXLImg2ImgPipeline

from actors.engine.base_config import FOLDERS, TOKENIZER_FILES
from actors.engine.port import Refused
from schemas.report import FailureKind
from schemas.style import ControlKind

PARTS: Final = {f"control.{kind}": f"controlnet/{kind}" for kind in ControlKind} | {"reference": "ip_adapter"}
"""Where what is beside SDXL itself lies in a diffusers folder, by its name in `EngineKey.parts`."""

_WEIGHTS: Final = {"reference": "ip_adapter.safetensors"}
KNOWN_CLASSES: Final = frozenset(
    {
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
    }
)


def load(folder: Path, *, dtype: torch.dtype, tokenizer: Path | None) -> Any:
    """The pipeline on the CPU, in *dtype*; the VAE in fp32, which whoever brings it to its device may round down.

    Raises `Refused` (BAD_WEIGHTS).
    """
    try:
        if (folder / "model_index.json").exists():
            pipe = _from_folder(folder, dtype)
        else:
            pipe = _from_file(folder, dtype, tokenizer)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        # diffusers, transformers and safetensors raise all of these for files that are missing or don't fit.
        raise _refuse("checkpoint_unreadable", f"The checkpoint cannot be loaded: {_first_line(error)}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe


def part_folders(folder: Path) -> dict[str, Path]:
    """The parts that the checkpoint brings: ``control.canny``, ``control.depth``, ``control.pose``, ``reference``."""
    found = {part: folder / at for part, at in PARTS.items()}
    return {
        part: at
        for part, at in found.items()
        if (at / _WEIGHTS.get(part, "diffusion_pytorch_model.safetensors")).is_file()
    }


def require(folder: Path, parts: Iterable[str]) -> dict[str, Path]:
    """The folders of *parts*. Raises `Refused` (BAD_WEIGHTS) when one is not there."""
    found = part_folders(folder)
    missing = sorted(set(parts) - found.keys())
    if missing:
        named = ", ".join(f"{part} ({PARTS.get(part, 'unknown')})" for part in missing)
        raise _refuse("checkpoint_lacks_part", f"The checkpoint does not bring {named}.")
    return {part: found[part] for part in parts}


def _from_folder(folder: Path, dtype: torch.dtype) -> Any:
    name = json.loads((folder / "model_index.json").read_text()).get("_class_name")
    if name not in KNOWN_CLASSES:
        raise _refuse("checkpoint_not_sdxl", f"The checkpoint is made for {name}, not for SDXL.")
    return StableDiffusionXLImg2ImgPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        folder,
        dtype={"default": dtype, "vae": torch.float32},
        local_files_only=True,
        use_safetensors=True,
        add_watermarker=False,
        low_cpu_mem_usage=False,  # True asks for accelerate, which we do without
        **_variant(folder),
    )


def _variant(folder: Path) -> dict[str, str]:
    """Folders that hold only fp16 files name them ``….fp16.safetensors`` and must be asked for by that name."""
    unet = folder / "unet"
    if any(unet.glob("*.fp16.safetensors")) and not (unet / "diffusion_pytorch_model.safetensors").exists():
        return {"variant": "fp16"}
    return {}


def _from_file(folder: Path, dtype: torch.dtype, tokenizer: Path | None) -> Any:
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        detail = f"Expected model_index.json or exactly one .safetensors file, found {len(files)}."
        raise _refuse("checkpoint_layout", detail)
    vocabulary = _vocabulary(folder, tokenizer)
    with tempfile.TemporaryDirectory() as config:
        write_base_config(Path(config), vocabulary)
        vae = AutoencoderKL.from_single_file(
            str(files[0]), config=config, subfolder="vae", dtype=torch.float32, local_files_only=True
        )
        return StableDiffusionXLImg2ImgPipeline.from_single_file(
            str(files[0]), config=config, vae=vae, dtype=dtype, local_files_only=True, add_watermarker=False
        )


def _vocabulary(folder: Path, tokenizer: Path | None) -> Path:
    for candidate in (folder / "tokenizer", folder, tokenizer):
        if candidate is not None and all((candidate / name).is_file() for name in TOKENIZER_FILES):
            return candidate
    detail = (
        f"A single-file checkpoint needs {' and '.join(TOKENIZER_FILES)} of CLIP: beside it, "
        "or in the folder that the renderer's setting `tokenizer` names. Or add it as a diffusers folder."
    )
    raise _refuse("checkpoint_no_tokenizer", detail)


def write_base_config(at: Path, vocabulary: Path) -> None:
    """The configuration of SDXL base 1.0 as a folder, which `from_single_file` reads instead of asking a hub."""
    for name, value in FOLDERS.items():
        path = at / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    for folder in ("tokenizer", "tokenizer_2"):
        for name in TOKENIZER_FILES:
            (at / folder / name).write_bytes((vocabulary / name).read_bytes())


def _refuse(code: str, detail: str) -> Refused:
    return Refused(FailureKind.BAD_WEIGHTS, code, detail)


def _first_line(error: Any) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
