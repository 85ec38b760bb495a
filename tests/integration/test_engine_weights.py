"""Weights as the engine loads them: folders, single files, parts, LoRAs in every layout on every layer."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from actors.engine import checkpoint, lora
from actors.engine.base_config import FOLDERS
from actors.engine.port import LoraFile, Refused, Weights
from actors.engine.tiers import Tiers
from farm.core import lora as farm_lora
from farm.core.sdxl import diffusers_names
from farm.usecases.weight_files import read_header
from tests.support import single, tiny

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
RANK = 3


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("small")
    single.build(at)
    return at


@pytest.fixture
def small_config(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single file is taken for SDXL base 1.0; here for the small one, whose layout is the same."""
    for name, config in single.configs(small).items():
        monkeypatch.setitem(FOLDERS, name, config)


def load(folder: Path) -> Any:
    return checkpoint.load(folder, dtype=torch.float32, tokenizer=None)


def modules_of(pipe: Any) -> dict[str, nn.Module]:
    return lora.targets({part: getattr(pipe, part) for part in lora.PARTS})


def bits(pipe: Any) -> dict[str, Tensor]:
    parts = (*lora.PARTS, "vae")
    return {f"{part}.{key}": value.clone() for part in parts for key, value in getattr(pipe, part).state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


# checkpoints


@pytest.mark.usefixtures("small_config")
def test_a_single_file_holds_the_bits_of_the_folder(small: Path) -> None:
    assert same(bits(load(small / "single")), bits(load(small / "folder")))


@pytest.mark.usefixtures("small_config")
def test_a_single_file_gives_the_embeddings_of_the_folder(small: Path) -> None:
    one, other = load(small / "single"), load(small / "folder")
    for text in ("a cat", ""):
        found, wanted = (pipe.encode_prompt(prompt=text, do_classifier_free_guidance=False) for pipe in (one, other))
        assert torch.equal(found[0], wanted[0])
        assert torch.equal(found[2], wanted[2])


@pytest.mark.usefixtures("small_config")
@pytest.mark.parametrize("layout", ["folder", "single"])
def test_the_vae_is_not_rounded_with_the_rest(small: Path, layout: str) -> None:
    pipe, full = checkpoint.load(small / layout, dtype=torch.bfloat16, tokenizer=None), load(small / layout)
    assert pipe.unet.dtype == pipe.text_encoder.dtype == pipe.text_encoder_2.dtype == torch.bfloat16
    wanted = full.vae.state_dict()
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in wanted.values())
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in pipe.vae.state_dict().items())


@pytest.mark.usefixtures("small_config")
def test_a_single_file_needs_the_vocabulary_of_clip(small: Path, tmp_path: Path) -> None:
    shutil.copy(small / "single" / "model.safetensors", tmp_path)
    with pytest.raises(Refused, match=r"vocab\.json and merges\.txt") as refused:
        load(tmp_path)
    assert refused.value.failure.code == "checkpoint_no_tokenizer"
    pipe = checkpoint.load(tmp_path, dtype=torch.float32, tokenizer=small / "folder" / "tokenizer")
    assert same(bits(pipe), bits(load(small / "folder")))


@pytest.mark.parametrize("layout", ["folder", "single"])
def test_an_inpainting_unet_of_nine_channels_loads(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single.build(tmp_path, in_channels=9)
    index = tmp_path / "folder" / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"))
    for name, config in single.configs(tmp_path).items():
        monkeypatch.setitem(FOLDERS, name, config)
    pipe = load(tmp_path / layout)
    assert pipe.unet.config.in_channels == 9
    assert tuple(pipe.unet.conv_in.weight.shape) == (16, 9, 3, 3)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda at: (at / "unet" / "diffusion_pytorch_model.safetensors").unlink(), "checkpoint_unreadable"),
        (lambda at: (at / "vae" / "config.json").write_text("{"), "checkpoint_unreadable"),
        (lambda at: (at / "model_index.json").write_text('{"_class_name": "FluxPipeline"}'), "checkpoint_not_sdxl"),
        (lambda at: (at / "model_index.json").unlink(), "checkpoint_layout"),
    ],
)
def test_a_folder_that_lacks_something_is_refused(
    small: Path, tmp_path: Path, spoil: Callable[[Path], object], code: str
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(small / "folder", folder)
    spoil(folder)
    with pytest.raises(Refused) as refused:
        load(folder)
    assert refused.value.failure.code == code


# parts


def test_parts_are_found_by_their_weights(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(small / "folder", folder)
    assert checkpoint.part_folders(folder) == {}
    for at in ("controlnet/canny/diffusion_pytorch_model.safetensors", "ip_adapter/ip_adapter.safetensors"):
        (folder / at).parent.mkdir(parents=True)
        (folder / at).touch()
    (folder / "controlnet" / "depth").mkdir()
    found = {"control.canny": folder / "controlnet" / "canny", "reference": folder / "ip_adapter"}
    assert checkpoint.part_folders(folder) == found
    assert checkpoint.require(folder, ("reference",)) == {"reference": folder / "ip_adapter"}
    load(folder)  # what is beside SDXL itself does not disturb it
    with pytest.raises(Refused, match=r"control\.depth \(controlnet/depth\)") as refused:
        checkpoint.require(folder, ("control.canny", "control.depth"))
    assert refused.value.failure.code == "checkpoint_lacks_part"


# LoRAs


def pairs(modules: dict[str, nn.Module]) -> dict[str, tuple[Tensor, Tensor]]:
    """Up and down for every weight that a LoRA may change: linear and convolution, UNet and both encoders."""
    generator = torch.Generator().manual_seed(5)
    made: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in modules.items():
        assert isinstance(module.weight, Tensor)
        out, *rest = module.weight.shape
        up = torch.randn(out, RANK, *(1 for _ in rest[1:]), generator=generator) / 10
        made[name] = up, torch.randn(RANK, *rest, generator=generator) / 10
    return made


def whole(name: str) -> str:
    """With the level that transformers 5 dropped, as files have it."""
    part, _, rest = name.partition(".")
    flat = part == "text_encoder" or (part == "text_encoder_2" and not rest.startswith("text_projection"))
    return f"{part}.text_model.{rest.removeprefix('text_model.')}" if flat else name


def peft(name: str, up: Tensor, down: Tensor) -> dict[str, Tensor]:
    return {f"{whole(name)}.lora_A.weight": down, f"{whole(name)}.lora_B.weight": up * 0.5}


def kohya(name: str, up: Tensor, down: Tensor) -> dict[str, Tensor]:
    part, _, rest = whole(name).partition(".")
    flat = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}[part]
    key = flat + rest.replace(".", "_")
    return {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(RANK * 0.5)}


def original(name: str, up: Tensor, down: Tensor) -> dict[str, Tensor]:
    if not name.startswith("unet."):
        return kohya(name, up, down)
    return kohya(f"unet.{single.original_unet_name(name.removeprefix('unet.'))}", up, down)


def diffusers(name: str, up: Tensor, down: Tensor) -> dict[str, Tensor]:
    return {f"{whole(name)}.lora.down.weight": down, f"{whole(name)}.lora.up.weight": up * 0.5}


def merged(pipe: Any, path: Path, scale: float = 1.0) -> Tiers:
    tiers = Tiers(device=torch.device("cpu"), ram_bytes=2**30, gpu_bytes=0)
    tiers.open("c", modules_of(pipe), int(pipe.unet.config.layers_per_block))
    tiers.merge(Weights("c", path, (LoraFile("l", path, scale),)))
    return tiers


def test_every_layout_on_every_layer_gives_the_same_bits_and_leaves_none(small: Path, tmp_path: Path) -> None:
    pipe = load(small / "folder")
    pristine, found = bits(pipe), []
    made = pairs(modules_of(pipe))
    for number, layout in enumerate((peft, diffusers, kohya, original)):
        tensors: dict[str, Tensor] = {}
        for name, (up, down) in made.items():
            tensors |= layout(name, up, down)
        path = tmp_path / f"{number}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
        tiers = merged(pipe, path)
        assert tiers.text_state == (("l", 1.0),)
        found.append(bits(pipe))
        tiers.merge(Weights("c", path, ()))
        assert same(bits(pipe), pristine)
        for header in (small / "single" / "model.safetensors", small / "folder"):
            assert farms_answer(path, header).targets == len(made)
    changed = {name for name in pristine if not torch.equal(found[0][name], pristine[name])}
    assert changed == {f"{name}.weight" for name in made}
    assert same(found[0], found[1])
    assert same(found[2], found[3])
    for name in changed:  # halving a factor or the product: the same number, but not always the same rounding
        assert torch.allclose(found[0][name], found[2][name], rtol=0, atol=1e-7)


def farms_answer(path: Path, checkpoint_at: Path) -> farm_lora.Fit:
    """As the API checks it, against a folder or a single file."""
    if checkpoint_at.is_file():
        shapes = diffusers_names(read_header(checkpoint_at).shapes)
    else:
        shapes = {}
        for file in checkpoint_at.rglob("*.safetensors"):
            part = file.parent.name
            shapes |= {f"{part}.{name}": shape for name, shape in read_header(file).shapes.items()}
    return farm_lora.fit(read_header(path, cap=farm_lora.MAX_HEADER_BYTES), shapes)


def test_merged_weights_are_those_that_peft_fuses(small: Path, tmp_path: Path) -> None:
    """diffusers' own way, in fp32: load the LoRA through peft and fuse it."""
    made = pairs(modules_of(load(small / "folder")))
    attention = {name: pair for name, pair in made.items() if ".to_" in name or name.startswith("text_encoder.")}
    tensors: dict[str, Tensor] = {}
    for name, (up, down) in attention.items():
        tensors |= kohya(name, up, down)
    path = tmp_path / "lora.safetensors"
    save_file(tensors, path)

    stock = load(small / "folder")
    stock.load_lora_weights(tmp_path, weight_name=path.name)
    stock.fuse_lora(lora_scale=0.7)
    stock.unload_lora_weights()
    ours = load(small / "folder")
    merged(ours, path, 0.7)
    theirs, mine = modules_of(stock), modules_of(ours)
    for name in attention:
        one, other = theirs[name].weight, mine[name].weight
        assert isinstance(one, Tensor)
        assert isinstance(other, Tensor)
        assert torch.allclose(one, other, rtol=0, atol=2e-7), name


def test_tiny_checkpoint_is_pristine_after_all_its_loras(tmp_path: Path) -> None:
    tiny.build(tmp_path)
    pipe = load(tmp_path / "checkpoint")
    pristine = bits(pipe)
    files = tuple(LoraFile(name, tmp_path / "loras" / f"{name}.safetensors", 0.7) for name in tiny.STYLES)
    tiers = Tiers(device=torch.device("cpu"), ram_bytes=0, gpu_bytes=0)
    tiers.open("c", modules_of(pipe), 1)
    tiers.merge(Weights("c", tmp_path, files))
    assert not same(bits(pipe), pristine)
    assert set(load_file(files[0].path)) >= {f"{name}.lora_A.weight" for name in tiers._copies}
    tiers.merge(Weights("c", tmp_path, files[2:]))
    tiers.merge(Weights("c", tmp_path, ()))
    assert same(bits(pipe), pristine)
