"""ControlNets: diffusers' numbers, a scale for each row, and parts that cannot be used."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageDraw
from torch import Tensor

from actors.engine.control import Controls, edges, scale_at
from actors.engine.port import ControlInput, Refused
from schemas.report import FailureKind
from schemas.style import ControlKind
from tests.support import tiny, tiny_parts

CPU = torch.device("cpu")
CANNY, DEPTH = ControlKind.CANNY, ControlKind.DEPTH


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("tiny")
    tiny.build(at)
    tiny_parts.add_control(at / "checkpoint", CANNY, DEPTH)
    return at / "checkpoint"


@pytest.fixture(scope="module")
def unet(checkpoint: Path) -> Any:
    return UNet2DConditionModel.from_pretrained(checkpoint / "unet")  # type: ignore[no-untyped-call]


@pytest.fixture
def controls(checkpoint: Path, unet: Any) -> Controls:
    made = Controls(CPU, torch.float32)
    made.load(checkpoint, (CANNY, DEPTH), unet)
    return made


def inputs(rows: int) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(1)
    return {
        "sample": torch.randn(rows, 4, 8, 8, generator=draw),
        "timesteps": torch.linspace(900, 100, rows),
        "text": torch.randn(rows, 7, 64, generator=draw),
        "added": {"text_embeds": torch.randn(rows, 32, generator=draw), "time_ids": torch.ones(rows, 6)},
        "conditions": torch.rand(rows, 3, 32, 32, generator=draw),
    }


def parts(residuals: tuple[list[Tensor], Tensor]) -> list[Tensor]:
    return [*residuals[0], residuals[1]]


@torch.inference_mode()
def test_residuals_are_those_of_diffusers(checkpoint: Path, controls: Controls) -> None:
    given = inputs(3)
    net: Any = ControlNetModel.from_pretrained(checkpoint / "controlnet" / "depth")  # type: ignore[no-untyped-call]
    down, mid = net(
        given["sample"],
        given["timesteps"],
        given["text"],
        given["conditions"],
        conditioning_scale=0.8,
        added_cond_kwargs=given["added"],
        return_dict=False,
    )
    ours = parts(controls.residuals(DEPTH, **given, scales=torch.full((3,), 0.8)))
    assert all(torch.equal(one, other) for one, other in zip(ours, [*down, mid], strict=True))
    assert any(bool(one.any()) for one in ours)


@torch.inference_mode()
def test_rows_of_one_pass_have_scales_of_their_own(controls: Controls) -> None:
    given, scales = inputs(3), torch.tensor([0.3, 0.0, 1.7])
    mixed = parts(controls.residuals(CANNY, **given, scales=scales))
    for row, scale in enumerate(scales):
        alone = parts(controls.residuals(CANNY, **given, scales=scale.expand(3)))
        assert all(torch.equal(one[row], other[row]) for one, other in zip(mixed, alone, strict=True))
    assert not any(one[1].any() for one in mixed)
    assert all(one[0].any() for one in mixed)


@torch.inference_mode()
def test_row_that_is_not_controlled_gets_zeros_even_from_an_infinity(controls: Controls) -> None:
    controls._nets[CANNY].controlnet_mid_block.bias.data.fill_(float("inf"))
    _, mid = controls.residuals(CANNY, **inputs(2), scales=torch.tensor([0.0, 1.0]))
    assert not mid[0].any()
    assert mid[1].isinf().all()


@torch.inference_mode()
def test_half_precision_is_rounded_once(checkpoint: Path, unet: Any) -> None:
    made = Controls(CPU, torch.bfloat16)
    made.load(checkpoint, (DEPTH,), unet)
    given = {key: value.bfloat16() for key, value in inputs(1).items() if isinstance(value, Tensor)}
    added = {key: value.bfloat16() for key, value in inputs(1)["added"].items()}
    full = parts(made.residuals(DEPTH, **given, added=added, scales=torch.ones(1)))
    less = parts(made.residuals(DEPTH, **given, added=added, scales=torch.tensor([0.8])))
    assert all(torch.equal(one * 0.8, other) for one, other in zip(full, less, strict=True))


@torch.inference_mode()
def test_controlnet_looks_only_at_the_latents_of_a_wider_input(controls: Controls) -> None:
    given = inputs(2)
    wide = {**given, "sample": torch.cat([given["sample"], torch.ones(2, 5, 8, 8)], dim=1)}
    plain = parts(controls.residuals(CANNY, **given, scales=torch.ones(2)))
    ours = parts(controls.residuals(CANNY, **wide, scales=torch.ones(2)))
    assert all(torch.equal(one, other) for one, other in zip(plain, ours, strict=True))


@pytest.mark.parametrize(
    ("start", "end", "active"),
    [
        (0.0, 1.0, [0, 1, 2, 3, 4]),
        (0.2, 1.0, [1, 2, 3, 4]),
        (0.3, 1.0, [2, 3, 4]),
        (0.0, 0.6, [0, 1, 2]),
        (0.0, 0.59, [0, 1]),
        (0.5, 0.5, []),
    ],
)
def test_controlnet_acts_from_start_to_end(start: float, end: float, active: list[int]) -> None:
    given = ControlInput(CANNY, None, 0.7, start, end)
    assert [step for step in range(5) if scale_at(given, step, 5)] == active
    assert {scale_at(given, step, 5) for step in active} <= {0.7}


def test_edges_of_a_square_are_its_outline() -> None:
    picture = Image.new("RGB", (40, 32), "#303030")
    ImageDraw.Draw(picture).rectangle((10, 8, 29, 23), fill="#e0e0e0")
    found = edges(picture)
    assert found.shape == (32, 40, 3)
    assert set(np.unique(found)) == {0.0, 1.0}
    assert np.array_equal(found[..., 0], found[..., 2])
    rows, columns = np.nonzero(found[..., 0])
    near = (
        (np.abs(rows - 8) <= 1) | (np.abs(rows - 23) <= 1) | (np.abs(columns - 10) <= 1) | (np.abs(columns - 29) <= 1)
    )
    assert near.all()
    assert len(rows) >= 2 * (16 + 20) - 8


def test_faint_grain_has_no_edges() -> None:
    grain = np.random.default_rng(0).integers(118, 138, (48, 48), dtype=np.uint8)
    assert not edges(Image.fromarray(grain).convert("RGB")).any()


def test_condition_is_the_given_picture_or_the_edges_of_the_source(controls: Controls) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (32, 24, 3), dtype=np.uint8)
    source, depth = Image.fromarray(noise), Image.fromarray(noise[::-1].copy())
    processor: Any = VaeImageProcessor(vae_scale_factor=4, do_convert_rgb=True, do_normalize=False)
    assert torch.equal(
        controls.condition(ControlInput(DEPTH, depth, 1.0), source), processor.preprocess(depth, height=32, width=24)
    )
    found = controls.condition(ControlInput(CANNY, None, 1.0), source)
    assert torch.equal(found[0].permute(1, 2, 0), torch.from_numpy(edges(source)))


def test_part_that_is_loaded_is_not_read_again_until_cleared(checkpoint: Path, unet: Any, tmp_path: Path) -> None:
    made = Controls(CPU, torch.float32)
    made.load(checkpoint, (CANNY,), unet)
    made.load(tmp_path, (CANNY,), unet)
    made.clear()
    with pytest.raises(Refused, match="no ControlNet for canny") as refused:
        made.load(tmp_path, (CANNY,), unet)
    assert (refused.value.failure.kind, refused.value.failure.code) == (
        FailureKind.BAD_WEIGHTS,
        "checkpoint_lacks_part",
    )


def test_pickled_weights_are_refused(checkpoint: Path, unet: Any, tmp_path: Path) -> None:
    at = tmp_path / "controlnet" / "canny"
    at.mkdir(parents=True)
    at.joinpath("config.json").write_text((checkpoint / "controlnet" / "canny" / "config.json").read_text())
    net: Any = ControlNetModel.from_pretrained(checkpoint / "controlnet" / "canny")  # type: ignore[no-untyped-call]
    torch.save(net.state_dict(), at / "diffusion_pytorch_model.bin")
    with pytest.raises(Refused) as refused:
        Controls(CPU, torch.float32).load(tmp_path, (CANNY,), unet)
    assert refused.value.failure.code == "part_unreadable"


def test_weights_that_are_incomplete_are_refused(checkpoint: Path, unet: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    at, name = tmp_path / "controlnet" / "canny", "diffusion_pytorch_model.safetensors"
    at.mkdir(parents=True)
    at.joinpath("config.json").write_text((checkpoint / "controlnet" / "canny" / "config.json").read_text())
    tensors = load_file(checkpoint / "controlnet" / "canny" / name)
    del tensors["controlnet_mid_block.bias"]
    save_file(tensors, at / name, metadata={"format": "pt"})
    with pytest.raises(Refused, match=r"lack controlnet_mid_block\.bias"):
        Controls(CPU, torch.float32).load(tmp_path, (CANNY,), unet)


def test_controlnet_of_another_family_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((checkpoint / "unet" / "config.json").read_text())
    other: Any = UNet2DConditionModel.from_config({**config, "cross_attention_dim": 32})  # type: ignore[no-untyped-call]
    with pytest.raises(Refused, match="cross_attention_dim 64, the UNet 32") as refused:
        Controls(CPU, torch.float32).load(checkpoint, (CANNY,), other)
    assert refused.value.failure.code == "part_does_not_fit"
