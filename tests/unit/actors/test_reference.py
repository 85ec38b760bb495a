"""Reference pictures: diffusers' IP-Adapter while on, and the plain UNet, object for object, while off."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, UNet2DConditionModel
from diffusers.models.embeddings import MultiIPAdapterImageProjection
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from actors.engine import lora, vision
from actors.engine.port import ReferenceInput, Refused
from actors.engine.reference import References
from schemas.report import FailureKind
from tests.support import tiny, tiny_parts

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
CPU = torch.device("cpu")
KINDS = ("plain", "plus")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    at = tmp_path_factory.mktemp("tiny")
    tiny.build(at)
    shutil.copytree(at / "checkpoint", at / "plus")
    tiny_parts.add_reference(at / "checkpoint")
    tiny_parts.add_reference(at / "plus", plus=True)
    return {"plain": at / "checkpoint", "plus": at / "plus"}


@pytest.fixture
def unet(checkpoints: dict[str, Path]) -> Any:
    return UNet2DConditionModel.from_pretrained(checkpoints["plain"] / "unet")  # type: ignore[no-untyped-call]


@pytest.fixture
def stock(checkpoints: dict[str, Path], request: pytest.FixtureRequest) -> Any:
    """diffusers' pipeline with the adapter loaded its way."""
    folder = checkpoints[request.node.callspec.params["kind"]]
    encoder = CLIPVisionModelWithProjection.from_pretrained(folder / "ip_adapter" / "image_encoder")
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pipe: Any = StableDiffusionXLImg2ImgPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        folder, image_encoder=encoder, feature_extractor=processor
    )
    pipe.load_ip_adapter(folder, subfolder="ip_adapter", weight_name="ip_adapter.safetensors")
    return pipe


def references(folder: Path, unet: Any) -> References:
    made = References(CPU, torch.float32)
    made.load(folder, unet)
    return made


def a_reference(seed: int) -> ReferenceInput:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return ReferenceInput(str(seed), Image.fromarray(coarse).resize((50, 40), Image.Resampling.BICUBIC))


@torch.inference_mode()
def run(unet: Any, embedding: torch.Tensor | None = None) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    added: dict[str, Any] = {"text_embeds": torch.randn(2, 32, generator=draw), "time_ids": torch.ones(2, 6)}
    if embedding is not None:
        added["image_embeds"] = [embedding]
    sample, text = torch.randn(2, 4, 8, 8, generator=draw), torch.randn(2, 7, 64, generator=draw)
    found: torch.Tensor = unet(sample, 500, text, added_cond_kwargs=added, return_dict=False)[0]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_embedding_is_that_of_diffusers(kind: str, checkpoints: dict[str, Path], unet: Any, stock: Any) -> None:
    ours = references(checkpoints[kind], unet)
    given = a_reference(1)
    against, towards = stock.prepare_ip_adapter_image_embeds(given.picture, None, CPU, 1, True)[0].chunk(2)
    assert torch.equal(ours.embedding([given]), towards)
    assert torch.equal(ours.nothing(), against)
    assert towards.any()


@pytest.mark.parametrize("kind", KINDS)
def test_unet_with_references_is_that_of_diffusers(
    kind: str, checkpoints: dict[str, Path], unet: Any, stock: Any
) -> None:
    ours = references(checkpoints[kind], unet)
    embedding = torch.cat([ours.nothing(), ours.embedding([a_reference(1)])])
    for scale in (0.6, 1.3):
        ours.on(unet, scale)
        stock.set_ip_adapter_scale(scale)
        assert torch.equal(run(unet, embedding), run(stock.unet, embedding))


@pytest.mark.parametrize("kind", KINDS)
def test_off_gives_the_plain_unet_back(kind: str, checkpoints: dict[str, Path], unet: Any) -> None:
    plain, state = run(unet), {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    processors, modules = dict(unet.attn_processors), lora.targets({"unet": unet})
    ours = references(checkpoints[kind], unet)
    assert torch.equal(run(unet), plain)
    embedding = ours.embedding([a_reference(1)]).repeat_interleave(2, dim=0)
    for scale in (0.6, 0.9):
        ours.on(unet, scale)
        ours.on(unet, scale)
        assert not torch.equal(run(unet, embedding), plain)
        ours.off(unet)
        ours.off(unet)
    assert torch.equal(run(unet), plain)
    assert unet.config.encoder_hid_dim_type is None
    assert unet.encoder_hid_proj is None
    after = unet.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in state.items())
    assert all(unet.attn_processors[name] is processor for name, processor in processors.items())
    assert all(lora.targets({"unet": unet})[name] is module for name, module in modules.items())


def test_several_references_count_as_their_mean(checkpoints: dict[str, Path], unet: Any) -> None:
    ours = references(checkpoints["plain"], unet)
    one, other = (ours.embedding([a_reference(seed)]) for seed in (1, 2))
    both = ours.embedding([a_reference(1), a_reference(2)])
    assert both.shape == one.shape == (1, 1, tiny_parts.EMBEDDED)
    assert torch.equal(both, (one + other) / 2)
    assert not torch.allclose(one, other, atol=1e-2)


def test_processors_that_came_after_loading_come_back(checkpoints: dict[str, Path], unet: Any) -> None:
    ours = references(checkpoints["plain"], unet)
    unet.set_default_attn_processor()
    later = dict(unet.attn_processors)
    ours.on(unet, 0.5)
    ours.off(unet)
    assert all(unet.attn_processors[name] is processor for name, processor in later.items())


def test_checkpoint_without_an_adapter_is_refused(unet: Any, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        references(tmp_path, unet)
    assert (refused.value.failure.kind, refused.value.failure.code) == (
        FailureKind.BAD_WEIGHTS,
        "checkpoint_lacks_part",
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ip_adapter.1.to_k_ip.weight": None}, "part_unreadable"),
        ({"ip_adapter.1.to_k_ip.weight": torch.zeros(3, 3)}, "part_unreadable"),
        ({"something.else": torch.zeros(1)}, "part_unreadable"),
        ({"image_proj.proj.weight": torch.zeros(4 * 64, 9)}, "part_does_not_fit"),
    ],
)
def test_adapter_that_does_not_fit_is_refused_and_leaves_the_unet_alone(
    checkpoints: dict[str, Path], unet: Any, tmp_path: Path, change: dict[str, torch.Tensor | None], code: str
) -> None:
    shutil.copytree(checkpoints["plain"] / "ip_adapter", tmp_path / "ip_adapter")
    path = tmp_path / "ip_adapter" / "ip_adapter.safetensors"
    tensors = {**load_file(path), **change}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    plain, made = run(unet), References(CPU, torch.float32)
    with pytest.raises(Refused) as refused:
        made.load(tmp_path, unet)
    assert refused.value.failure.code == code
    assert torch.equal(run(unet), plain)
    made.load(checkpoints["plain"], unet)
    made.on(unet, 1.0)
    assert not torch.equal(run(unet, made.embedding([a_reference(1)]).repeat_interleave(2, dim=0)), plain)


@pytest.mark.parametrize("where", ["vision", "projection"])
def test_a_gpu_without_room_for_an_adapter_is_no_fault_of_the_adapter(
    checkpoints: dict[str, Path], unet: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    target: tuple[Any, str] = (vision, "_model") if where == "vision" else (MultiIPAdapterImageProjection, "forward")
    with monkeypatch.context() as patch:
        patch.setattr(*target, fail)
        with pytest.raises(Refused) as refused:
            references(checkpoints["plain"], unet)
    assert refused.value.failure.kind is FailureKind.OUT_OF_VRAM
    references(checkpoints["plain"], unet)
