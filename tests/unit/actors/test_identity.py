"""How much of a subject was kept is told by a CLIP model that lies at hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from actors.engine.identity import Identity, cosine
from actors.engine.likeness import Likeness
from actors.engine.port import Refused
from schemas.report import FailureKind
from tests.support import tiny_parts
from tests.support.modes import a_row, soft

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("vision")
    tiny_parts.add_vision(at)
    return at


def a_picture(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def found(identity: Identity, picture: Image.Image) -> torch.Tensor:
    embedding = identity.embedding(picture)
    assert embedding is not None
    return embedding


def test_a_picture_is_nearer_to_itself_with_grain_than_to_another(folder: Path) -> None:
    identity = Identity(folder, CPU)
    grain = np.random.default_rng(9).integers(-6, 7, (40, 48, 3))
    grainy = Image.fromarray((np.asarray(a_picture(1)) + grain).clip(0, 255).astype(np.uint8))
    one = found(identity, a_picture(1))
    assert cosine(one, one) == pytest.approx(1.0, abs=1e-6)
    assert cosine(one, found(identity, grainy)) > 0.99
    assert cosine(one, found(identity, a_picture(2))) < 0.99
    assert cosine(one, -one) == pytest.approx(-1.0, abs=1e-6)


@torch.inference_mode()
def test_pictures_are_seen_as_clip_sees_them(folder: Path) -> None:
    model: Any = CLIPVisionModelWithProjection.from_pretrained(folder)
    processor: Any = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    expected = model(processor(a_picture(3, (70, 33)), return_tensors="pt")["pixel_values"]).image_embeds[0]
    ours = found(Identity(folder, CPU), a_picture(3, (70, 33)))
    assert ours.dtype is torch.float32
    assert torch.allclose(ours, expected / expected.norm(), rtol=0, atol=1e-6)


def test_what_a_mask_keeps_is_composed_back_before_a_picture_is_compared(folder: Path) -> None:
    likeness, nothing = Likeness(folder, CPU), Image.new("L", soft(1).size, 0)
    assert likeness.to(a_row(1, mask=nothing), lambda: soft(2))() == pytest.approx(1.0, abs=1e-6)
    open_to_all = likeness.to(a_row(1), lambda: soft(2))()
    assert open_to_all is not None
    assert open_to_all < 0.99


def test_model_may_say_how_it_wants_its_pictures(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = found(Identity(tmp_path, CPU), a_picture(4))
    config = {"size": 32, "crop_size": 32, "image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    assert not torch.allclose(before, found(Identity(tmp_path, CPU), a_picture(4)), atol=1e-3)


def test_nothing_is_measured_without_a_model() -> None:
    assert Identity(None, CPU).embedding(a_picture(1)) is None


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        Identity(tmp_path, CPU)
    assert (refused.value.failure.kind, refused.value.failure.code) == (FailureKind.BAD_WEIGHTS, "part_unreadable")
