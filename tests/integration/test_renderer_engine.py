"""The real engine on the tiny SDXL of our own: loading, merging LoRAs, and a shard through a renderer."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from actors.engine.denoise import SdxlEngine
from actors.engine.port import LoraFile, Refused, Weights
from actors.renderer import Renderer, RendererSettings
from schemas.report import FailureKind, Tried
from tests.support import tiny
from tests.support.modes import a_row, bits, rendered
from tests.unit.actors.support import Scheduler, checkpoint_folder, lora, order, picture, recipe, row, running_depot

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SIZE = "64x64"


@pytest.fixture(scope="module")
def farmyard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint and its LoRAs."""
    at = tmp_path_factory.mktemp("tiny")
    tiny.build(at)
    return at


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> SdxlEngine:
    cache = tmp_path_factory.mktemp("cache")
    return SdxlEngine(RendererSettings(name="farm/test/1/0", device="cpu", batch=3, threads=1, cache=cache))


def weights(at: Path, *names: str, scale: float = 1.0) -> Weights:
    files = tuple(LoraFile(name, at / "loras" / f"{name}.safetensors", scale) for name in names)
    return Weights("tiny", at / "checkpoint", files)


def one(at: Path, file: Path, scale: float = 1.0) -> Weights:
    return Weights("tiny", at / "checkpoint", (LoraFile(file.stem, file, scale),))


def made(engine: SdxlEngine, **changes: object) -> bytes:
    return bits(rendered(engine, a_row(1, **changes)))[0]


def test_prompt_seed_strength_and_loras_change_the_picture(farmyard: Path, engine: SdxlEngine) -> None:
    engine.load(weights(farmyard))
    pictures = [made(engine), made(engine, prompt="two dogs"), made(engine, strength=0.9), made(engine, seed=2)]
    for name in tiny.STYLES:
        engine.load(weights(farmyard, name))
        pictures.append(made(engine))
    assert len(set(pictures)) == len(pictures)


def test_removing_all_loras_gives_the_pristine_bits_back(farmyard: Path, engine: SdxlEngine) -> None:
    engine.load(weights(farmyard))
    assert engine._model is not None
    unet, picture = engine._model.pipe.unet, made(engine)
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    for names in (("anime",), ("anime", "cartoon"), ("cinematic",)):
        engine.load(weights(farmyard, *names, scale=0.7))
    changed = [name for name, tensor in unet.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed
    engine.load(weights(farmyard))
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())
    assert made(engine) == picture


def test_lora_with_unknown_keys_is_refused_by_name_and_does_no_harm(
    farmyard: Path, engine: SdxlEngine, tmp_path: Path
) -> None:
    tensors = load_file(farmyard / "loras" / "anime.safetensors")
    tensors["unet.no.such.module.lora_A.weight"] = torch.zeros(4, 4)
    save_file(tensors, tmp_path / "odd.safetensors")
    engine.load(weights(farmyard))
    before = made(engine)
    with pytest.raises(Refused, match=r"unet\.no\.such\.module") as refused:
        engine.load(one(farmyard, tmp_path / "odd.safetensors"))
    assert refused.value.failure.kind is FailureKind.BAD_WEIGHTS
    engine.load(weights(farmyard))
    assert made(engine) == before


def test_texts_are_embedded_anew_when_a_lora_changes_their_encoders(
    farmyard: Path, engine: SdxlEngine, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for part in ("text_encoder", "text_encoder_2"):
        name = f"{part}.text_model.encoder.layers.0.mlp.fc1"
        tensors[f"{name}.lora_A.weight"] = torch.randn(2, 32, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(64, 2, generator=generator)
    save_file(tensors, tmp_path / "text.safetensors")
    engine.load(weights(farmyard))
    plain = made(engine)
    engine.load(one(farmyard, tmp_path / "text.safetensors", 5.0))
    changed = made(engine)
    assert changed != plain
    loads = engine.counts.prompt_loads
    engine.load(weights(farmyard))
    assert made(engine) == plain
    engine.load(one(farmyard, tmp_path / "text.safetensors", 5.0))
    assert made(engine) == changed
    assert engine.counts.prompt_loads == loads  # embeddings of both states were kept


def test_a_lora_of_the_unet_alone_leaves_embeddings_as_they_are(farmyard: Path, engine: SdxlEngine) -> None:
    engine.load(weights(farmyard))
    made(engine)
    loads = engine.counts.prompt_loads
    engine.load(weights(farmyard, "anime"))
    made(engine)
    assert engine.counts.prompt_loads == loads


def test_tiny_checkpoint_is_the_same_every_time(farmyard: Path, tmp_path: Path) -> None:
    tiny.build(tmp_path)
    for path in sorted(farmyard.rglob("*")):
        if path.is_file():
            assert (tmp_path / path.relative_to(farmyard)).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"model_index.json": '{"_class_name": "FluxPipeline"}'}, "checkpoint_not_sdxl"),
        ({"model_index.json": '{"_class_name": "StableDiffusionXLPipeline"}'}, "checkpoint_unreadable"),
        ({"one.safetensors": ""}, "checkpoint_no_tokenizer"),
        ({"readme.txt": ""}, "checkpoint_layout"),
    ],
)
def test_checkpoints_that_cannot_be_loaded_say_why_and_the_next_one_can(
    farmyard: Path, engine: SdxlEngine, tmp_path: Path, content: dict[str, str], code: str
) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(Refused) as refused:
        engine.load(Weights("bad", tmp_path))
    assert (refused.value.failure.kind, refused.value.failure.code) == (FailureKind.BAD_WEIGHTS, code)
    assert engine.held().checkpoint == ""
    engine.load(weights(farmyard))
    assert engine.held().checkpoint == "tiny"


@pytest.fixture
def renderer(tmp_path: Path) -> Iterator[Renderer]:
    settings = RendererSettings(name="farm/test/1/0", device="cpu", batch=2, threads=1, cache=tmp_path / "cache")
    own = Renderer(settings)
    yield own
    own.__ray_shutdown__()


def test_renderer_renders_a_shard_with_the_tiny_checkpoint(farmyard: Path, renderer: Renderer) -> None:
    with running_depot() as depot:
        source = depot.add(picture())
        ref, used = lora(depot, (farmyard / "loras" / "cartoon.safetensors").read_bytes())
        bad, refused = lora(depot, b"no LoRA at all", name="bad")
        checkpoint = checkpoint_folder(depot, farmyard / "checkpoint")
        good = [row(n, recipe(source, size=SIZE, loras=(used,), seed=n % 2), depot) for n in range(3)]
        renderer.offer(order(good, depot, checkpoint=checkpoint, loras=(ref,)).model_dump_json())
        odd = [row(9, recipe(source, size=SIZE, loras=(refused,)), depot)]
        renderer.offer(order(odd, depot, shard=2, checkpoint=checkpoint, loras=(bad,)).model_dump_json())
        scheduler = Scheduler(renderer)
        rows = scheduler.all_of(4)

        assert [rows[number].tried for number in (0, 1, 2, 9)] == [Tried.SUCCEEDED] * 3 + [Tried.FAILED]
        assert rows[9].failure is not None
        assert rows[9].failure.code == "lora_unreadable"
        first, other, same = (Image.open(io.BytesIO(depot.objects[f"/out/{n}/picture"])) for n in range(3))
        assert first.tobytes() == same.tobytes() != other.tobytes()
        assert first.size == (64, 64)
        assert all(rows[n].seconds.gpu > 0 for n in range(3))
        assert all(rows[n].numerics.endswith("dtype=float32 batch=2") for n in range(3))
