"""What the demo checkpoint is made with, at small size."""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from farm.embedded import SHIPPED
from ops.demo_checkpoint import autoencoder, denoiser, filters, pictures
from ops.demo_checkpoint.fetch import RECIPE, FetchError, fetch
from ops.demo_checkpoint.scenes import scene
from ops.demo_checkpoint.text import Texts, write_tokenizers
from ops.demo_checkpoint.training import Task, train

CAPTIONS = ["a red cup, table", "houses, street, sky", "trees, lake"] * 4


# pictures


@pytest.mark.parametrize("name", [*filters.STYLES, *filters.WORDS])
def test_a_filter_changes_the_picture_and_gives_the_same_each_time(name: str) -> None:
    picture, _ = scene(np.random.default_rng(3), 64)
    before = picture.copy()
    apply = {**filters.STYLES, **filters.WORDS}[name]
    made = apply(picture)
    assert made.shape == picture.shape
    assert made.dtype == np.uint8
    assert np.array_equal(picture, before)
    assert np.array_equal(made, apply(picture))
    assert np.abs(made.astype(int) - picture).mean() > 5


def test_scenes_differ_by_seed_only() -> None:
    one, caption = scene(np.random.default_rng(1), 64)
    again, same = scene(np.random.default_rng(1), 64)
    other, _ = scene(np.random.default_rng(2), 64)
    assert (one.shape, caption) == ((64, 64, 3), same)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_pictures_are_made_once_and_alike(tmp_path: Path) -> None:
    first = _prepared(tmp_path / "a")
    stamp = (tmp_path / "a" / "pictures-12" / "plain.npy").stat().st_mtime_ns
    again = pictures.prepare(tmp_path / "a", 12)
    assert (tmp_path / "a" / "pictures-12" / "plain.npy").stat().st_mtime_ns == stamp
    elsewhere = _prepared(tmp_path / "b")
    assert first.captions == again.captions == elsewhere.captions
    assert np.array_equal(first.plain, elsewhere.plain)
    assert np.array_equal(first.styled[1], filters.cartoon(np.asarray(first.plain[1])))
    assert np.array_equal(first.worded[4], filters.snow(np.asarray(first.plain[4])))
    assert first.crops(np.random.default_rng(0), 3, 64).shape == (3, 3, 64, 64)


def _prepared(work: Path) -> pictures.Pictures:
    (work / "photos").mkdir(parents=True)
    kinds = {"photo": "RGB", "panorama": "RGB", "clipart": "RGBA"}
    for number, (kind, mode) in enumerate(kinds.items()):
        drawn, _ = scene(np.random.default_rng(number), 256)
        Image.fromarray(drawn).convert(mode).save(work / "photos" / f"{kind}.png")
    index = [{"file": f"{kind}.png", "kind": kind, "words": kind} for kind in kinds]
    (work / "photos" / "index.json").write_text(json.dumps(index))
    return pictures.prepare(work, 12)


# archives


def _recipe(tmp_path: Path, glob: str, sha256: str | None = None) -> Path:
    archive = tmp_path / "work" / "archives" / "some-1.0-py3-none-any.whl"
    archive.parent.mkdir(parents=True)
    drawn, _ = scene(np.random.default_rng(0), 128)
    Image.fromarray(drawn).save(tmp_path / "lake.png")
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(tmp_path / "lake.png", "some/images/lake.png")
    entry = {
        "registry": "pypi",
        "package": "some",
        "version": "1.0",
        "file": archive.name,
        "url": "http://127.0.0.1:9/",
        "sha256": sha256 or hashlib.sha256(archive.read_bytes()).hexdigest(),
        "licence": "CC0-1.0",
        "credit": "nobody",
        "kind": "photo",
        "pictures": [{"glob": glob, "words": "lake"}],
    }
    (tmp_path / "photos.yaml").write_text(yaml.safe_dump([entry]))
    return tmp_path / "photos.yaml"


def test_fetch_takes_what_the_recipe_names(tmp_path: Path) -> None:
    found = fetch(tmp_path / "work", _recipe(tmp_path, "*/images/lake.png"))
    assert [(picture.words, picture.licence) for picture in found] == [("lake", "CC0-1.0")]
    assert (tmp_path / "work" / "photos" / found[0].file).exists()


def test_fetch_refuses_an_archive_with_another_checksum(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="has sha256"):
        fetch(tmp_path / "work", _recipe(tmp_path, "*/images/lake.png", sha256="0" * 64))


def test_fetch_refuses_a_recipe_that_matches_nothing(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="nothing matches"):
        fetch(tmp_path / "work", _recipe(tmp_path, "*/images/sea.png"))


def test_only_free_licences_without_copyleft_are_taken() -> None:
    allowed = {"public domain", "CC0-1.0", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0"}
    for archive in yaml.safe_load(RECIPE.read_text()):
        taken = [rule for rule in archive["pictures"] if not rule.get("skip")]
        assert {rule.get("licence", archive["licence"]) for rule in taken} <= allowed, archive["package"]
        assert all(rule.get("credit", archive.get("credit")) for rule in taken), archive["package"]


def test_the_model_card_credits_every_archive() -> None:
    card = (SHIPPED / "README.md").read_text()
    for archive in yaml.safe_load(RECIPE.read_text()):
        assert f"{archive['package']} {archive['version']}" in card


# training


def test_training_goes_on_where_it_stopped_and_then_stays(tmp_path: Path) -> None:
    def trained(minutes: float) -> tuple[Tensor, float]:
        torch.manual_seed(0)
        model = nn.Linear(4, 1)

        def loss(draw: np.random.Generator) -> Tensor:
            given = torch.from_numpy(draw.random((8, 4)).astype(np.float32))
            off: Tensor = model(given) - given.sum(1, keepdim=True)
            return off.square().mean()

        train(Task("sum", model, loss, minutes, 0.05, 0.9), tmp_path)
        return model.weight.detach().clone(), float(loss(np.random.default_rng(0)).detach())

    trained(0.005)
    steps = torch.load(tmp_path / "sum.pt")["count"]
    weight, off = trained(0.03)
    assert torch.load(tmp_path / "sum.pt")["count"] > steps
    assert off < 0.05
    assert torch.equal(trained(0.03)[0], weight)


def test_latents_are_told_apart_by_the_encoder_that_made_them() -> None:
    torch.manual_seed(0)
    model = autoencoder.new()
    before = autoencoder.digest(model)
    with torch.no_grad():
        model.decoder.conv_out.bias += 1  # the decoder may be trained on
        assert autoencoder.digest(model) == before
        model.encoder.conv_in.bias += 1
    assert autoencoder.digest(model) != before


def test_the_pull_grows_from_nothing_to_all_of_the_way() -> None:
    pulled = denoiser.pull(torch.arange(0, 1000, 50))
    assert pulled[0] == 0
    assert pulled[-1] == 1
    assert bool((pulled.diff() >= 0).all())


def test_common_words_are_one_token_and_any_text_can_be_read(tmp_path: Path) -> None:
    write_tokenizers(tmp_path, CAPTIONS)
    texts = Texts(tmp_path)
    assert texts.tokenizers[0].tokenize("Red cup") == ["red</w>", "cup</w>"]
    assert texts.tokenizers[0].decode(texts.tokenizers[0]("zebra, 7!").input_ids, skip_special_tokens=True).strip()
    sequence, pooled = texts(["a red cup", ""])
    assert (sequence.shape, pooled.shape) == ((2, 77, 128), (2, 64))
    assert sequence[1].abs().max() == pooled[1].abs().max() == 0
    assert sequence[0].abs().max() > 0


def test_a_lora_learns_its_style_and_leaves_the_base_as_it_was(tmp_path: Path) -> None:
    write_tokenizers(tmp_path, CAPTIONS)
    torch.manual_seed(0)
    base = denoiser.Base(tmp_path)
    plain = torch.randn(len(CAPTIONS), 16, 8, 8).half()
    latents = denoiser.Latents(plain, plain + 1, plain - 1, CAPTIONS)
    denoiser.train_base(base, latents, tmp_path, 0.02)
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    tensors = denoiser.train_lora(base, "cartoon", latents, tmp_path, 0.05)
    assert all(torch.equal(weight, before[name]) for name, weight in base.state_dict().items())
    assert before.keys() == base.state_dict().keys()
    ups = {name: weight for name, weight in tensors.items() if ".lora_B." in name}
    assert any(weight.abs().max() > 0 for weight in ups.values())
    assert {"unet.conv_in.lora_A.weight", "unet.mid_block.attentions.0.proj_in.lora_B.weight"} <= tensors.keys()
