"""The real engine on the tiny SDXL of our own: loading, merging LoRAs, the same bits whoever the neighbours are."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from actors.engine import lora as loras
from actors.engine.denoise import DiffusersEngine
from actors.engine.port import LoraFile, PassKey, Refused, Rendered, Row, Stopped, Weights
from actors.renderer import Renderer, RendererSettings
from schemas.report import Failure, FailureKind, Tried
from schemas.style import Sampler
from tests.support import tiny
from tests.unit.actors.support import Scheduler, checkpoint_folder, lora, order, picture, recipe, row, running_depot

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
SIZE = "64x64"


@pytest.fixture(scope="session")
def farmyard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint and its LoRAs."""
    at = tmp_path_factory.mktemp("tiny")
    tiny.build(at)
    return at


@pytest.fixture(scope="module")
def engine() -> DiffusersEngine:
    return DiffusersEngine(batch=3, device="cpu", threads=1, ram_bytes=2**30, tokenizer=None)


def weights(at: Path, *names: str, scale: float = 1.0) -> Weights:
    files = tuple(LoraFile(name, at / "loras" / f"{name}.safetensors", scale) for name in names)
    return Weights("tiny", at / "checkpoint", files)


def a_row(number: int, *, strength: float = 0.5, sampler: Sampler = Sampler.EULER, prompt: str = "a cat") -> Row:
    noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    start = Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC)
    key = PassKey(strength=strength, steps=6, guidance=5.0, sampler=sampler, size=SIZE)
    return Row(f"source {number}", start, prompt, "", number, key)


def pixels(result: Rendered | Failure) -> bytes:
    assert isinstance(result, Rendered), result
    return result.picture.tobytes()


def never() -> bool:
    return False


@pytest.mark.parametrize("sampler", list(Sampler))
def test_same_row_gives_the_same_bits_beside_any_neighbours(
    farmyard: Path, engine: DiffusersEngine, sampler: Sampler
) -> None:
    engine.load(weights(farmyard, "anime"))
    rows = [a_row(number, sampler=sampler, prompt=f"a cat {number}") for number in range(4)]
    alone = pixels(engine.render(rows[:1], never)[0])
    first = pixels(engine.render(rows[:3], never)[0])
    last = pixels(engine.render([rows[3], rows[2], rows[0]], never)[2])
    assert alone == first == last
    assert alone != pixels(engine.render(rows[1:2], never)[0])


def test_prompt_seed_strength_and_loras_change_the_picture(farmyard: Path, engine: DiffusersEngine) -> None:
    engine.load(weights(farmyard))
    plain = pixels(engine.render([a_row(1)], never)[0])
    others = [
        pixels(engine.render([a_row(1, prompt="two dogs")], never)[0]),
        pixels(engine.render([a_row(1, strength=0.9)], never)[0]),
    ]
    for name in tiny.STYLES:
        engine.load(weights(farmyard, name))
        others.append(pixels(engine.render([a_row(1)], never)[0]))
    assert len({plain, *others}) == 1 + len(others)


def test_too_little_strength_for_a_step_gives_the_source_as_the_vae_sees_it(
    farmyard: Path, engine: DiffusersEngine
) -> None:
    engine.load(weights(farmyard))
    given = a_row(1, strength=0.1)
    result = engine.render([given], never)[0]
    assert isinstance(result, Rendered)
    difference = np.asarray(result.picture, dtype=float) - np.asarray(given.picture, dtype=float)
    assert np.abs(difference).mean() < 40


def test_removing_all_loras_gives_the_pristine_bits_back(farmyard: Path, engine: DiffusersEngine) -> None:
    engine.load(weights(farmyard))
    unet = engine._pipe.unet
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    for names in (("anime",), ("anime", "cartoon"), ("cinematic",)):
        engine.load(weights(farmyard, *names, scale=0.7))
    changed = [name for name, tensor in unet.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed
    engine.load(weights(farmyard))
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())


def test_stock_pipeline_loads_the_checkpoint_and_agrees(farmyard: Path, engine: DiffusersEngine) -> None:
    """The stock call, with the source given as pixels and our generator, finds the same picture."""
    from diffusers import StableDiffusionXLImg2ImgPipeline

    engine.load(weights(farmyard))
    folder = farmyard / "checkpoint"
    pipe = StableDiffusionXLImg2ImgPipeline.from_pretrained(folder)  # type: ignore[no-untyped-call]
    pipe.set_progress_bar_config(disable=True)
    given = a_row(5)
    stock = pipe(
        prompt="a cat",
        image=given.picture,
        strength=0.5,
        num_inference_steps=6,
        guidance_scale=5.0,
        generator=[torch.Generator().manual_seed(given.seed)],
    ).images[0]
    ours = engine.render([given], never)[0]
    assert isinstance(ours, Rendered)
    difference = np.asarray(stock, dtype=int) - np.asarray(ours.picture, dtype=int)
    assert np.abs(difference).max() <= 1  # another batch size: other kernels, the last bit of 8


def test_render_stops_between_two_steps(farmyard: Path, engine: DiffusersEngine) -> None:
    engine.load(weights(farmyard))
    answers = iter([False, True])
    with pytest.raises(Stopped):
        engine.render([a_row(1, strength=1.0)], lambda: next(answers))
    assert next(answers, "asked no more") == "asked no more"


def test_weights_that_are_not_finite_give_no_picture(farmyard: Path, tmp_path: Path) -> None:
    own = DiffusersEngine(batch=1, device="cpu", threads=1, ram_bytes=2**30, tokenizer=None)
    own.load(weights(farmyard))
    own._pipe.vae.decoder.conv_out.bias.data.fill_(float("nan"))
    result = own.render([a_row(1)], never)[0]
    assert isinstance(result, Failure)
    assert result.kind is FailureKind.BAD_PICTURE


def test_lora_with_unknown_keys_is_refused_by_name_and_does_no_harm(
    farmyard: Path, engine: DiffusersEngine, tmp_path: Path
) -> None:
    tensors = load_file(farmyard / "loras" / "anime.safetensors")
    tensors["unet.no.such.module.lora_A.weight"] = torch.zeros(4, 4)
    save_file(tensors, tmp_path / "odd.safetensors")
    engine.load(weights(farmyard))
    before = pixels(engine.render([a_row(1)], never)[0])
    with pytest.raises(Refused, match=r"unet\.no\.such\.module") as refused:
        engine.load(Weights("tiny", farmyard / "checkpoint", (LoraFile("odd", tmp_path / "odd.safetensors", 1.0),)))
    assert refused.value.failure.kind is FailureKind.BAD_WEIGHTS
    engine.load(weights(farmyard))
    assert pixels(engine.render([a_row(1)], never)[0]) == before


def test_kohya_names_mean_the_same_as_diffusers_names(farmyard: Path, engine: DiffusersEngine, tmp_path: Path) -> None:
    engine.load(weights(farmyard, "anime"))
    expected = {name: tensor.clone() for name, tensor in engine._pipe.unet.state_dict().items()}
    kohya: dict[str, torch.Tensor] = {}
    for key, tensor in load_file(farmyard / "loras" / "anime.safetensors").items():
        module, what = key.removesuffix(".weight").rsplit(".", 1)
        name = "lora_unet_" + module.removeprefix("unet.").replace(".", "_")
        kohya[f"{name}.{'lora_down' if what == 'lora_A' else 'lora_up'}.weight"] = tensor
        kohya[f"{name}.alpha"] = torch.tensor(float(tiny.RANK))
    save_file(kohya, tmp_path / "kohya.safetensors")
    file = LoraFile("kohya", tmp_path / "kohya.safetensors", 1.0)
    engine.load(Weights("tiny", farmyard / "checkpoint", (file,)))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in engine._pipe.unet.state_dict().items())


def test_lora_on_the_text_encoders_changes_them(farmyard: Path, engine: DiffusersEngine, tmp_path: Path) -> None:
    engine.load(weights(farmyard))
    torch.manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for part, prefix in (("text_encoder", "lora_te1"), ("text_encoder_2", "lora_te2")):
        module = f"{prefix}_text_model_encoder_layers_0_self_attn_q_proj"
        tensors |= {f"{module}.lora_down.weight": torch.randn(2, 32), f"{module}.lora_up.weight": torch.randn(32, 2)}
        peft = f"{part}.text_model.encoder.layers.0.mlp.fc1"
        tensors |= {f"{peft}.lora_A.weight": torch.randn(2, 32), f"{peft}.lora_B.weight": torch.randn(64, 2)}
    save_file(tensors, tmp_path / "text.safetensors")
    plain = pixels(engine.render([a_row(1)], never)[0])
    parts = (engine._pipe.text_encoder, engine._pipe.text_encoder_2)
    before = [{name: tensor.clone() for name, tensor in part.state_dict().items()} for part in parts]
    engine.load(Weights("tiny", farmyard / "checkpoint", (LoraFile("t", tmp_path / "text.safetensors", 5.0),)))
    for part, old in zip(parts, before, strict=True):
        changed = [name for name, tensor in part.state_dict().items() if not torch.equal(tensor, old[name])]
        assert [name.split(".", 1)[1] if name.startswith("text_model.") else name for name in changed] == [
            "encoder.layers.0.self_attn.q_proj.weight",
            "encoder.layers.0.mlp.fc1.weight",
        ]
    assert pixels(engine.render([a_row(1)], never)[0]) != plain


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
def test_checkpoints_that_cannot_be_loaded_say_why(
    engine: DiffusersEngine, tmp_path: Path, content: dict[str, str], code: str
) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(Refused) as refused:
        engine.load(Weights("bad", tmp_path))
    assert (refused.value.failure.kind, refused.value.failure.code) == (FailureKind.BAD_WEIGHTS, code)


@pytest.fixture
def renderer(tmp_path: Path) -> Iterator[Renderer]:
    settings = RendererSettings(name="farm/test/1/0", device="cpu", batch=2, threads=1, cache=tmp_path / "cache")
    made = Renderer(settings)
    yield made
    made.__ray_shutdown__()


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
        assert "dtype=float32 batch=2" in renderer._gpu.numerics


def test_lora_of_the_wrong_shape_is_refused() -> None:
    module = torch.nn.Linear(8, 6)
    found = {"lora_A": torch.zeros(2, 9), "lora_B": torch.zeros(6, 2)}
    with pytest.raises(Refused, match="does not fit"):
        loras._delta("unet.x", found, module)
