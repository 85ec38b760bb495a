"""What the engine promises, on the device it is made for: bf16, the GPU's own kernels, its own memory."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.engine.denoise import SdxlEngine
from actors.engine.port import LoraFile, Weights
from actors.settings import RendererSettings
from schemas.style import Sampler
from tests.support import tiny
from tests.support.modes import a_row, rendered

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("tiny")
    tiny.build(at)
    return at


def made(files: Path, cache: Path, device: str) -> SdxlEngine:
    engine = SdxlEngine(RendererSettings(name="farm/test/1/0", device=device, batch=4, cache=cache))
    engine.load(Weights("checkpoint", files / "checkpoint"))
    return engine


@pytest.fixture
def engine(files: Path, tmp_path: Path) -> Iterator[SdxlEngine]:
    yield made(files, tmp_path, "cuda")
    torch.cuda.empty_cache()


def weights_of(engine: SdxlEngine) -> dict[str, torch.Tensor]:
    assert engine._model is not None
    return {name: tensor.clone() for name, tensor in engine._model.pipe.unet.state_dict().items()}


ROW = a_row(1)
NEIGHBOURS = (
    a_row(2, sampler=Sampler.DPMPP_2M, strength=0.4),
    a_row(3, guidance=9.0, strength=1.0, steps=12),
    a_row(4, prompt="two dogs"),
)


def test_the_same_row_gives_the_same_bits_whoever_its_neighbours_are(engine: SdxlEngine) -> None:
    alone = rendered(engine, ROW)[0]
    for others in (NEIGHBOURS, NEIGHBOURS[:1], tuple(reversed(NEIGHBOURS))):
        assert np.array_equal(rendered(engine, ROW, *others)[0], alone)
        assert np.array_equal(rendered(engine, *others, ROW)[-1], alone)


def test_the_picture_is_that_of_the_cpu_within_the_rounding_of_bf16(
    engine: SdxlEngine, files: Path, tmp_path: Path
) -> None:
    here = rendered(engine, ROW)[0].astype(int)
    there = rendered(made(files, tmp_path / "cpu", "cpu"), ROW)[0].astype(int)
    assert np.abs(here - there).mean() < 4


def test_taking_loras_away_brings_the_pristine_bits_back(engine: SdxlEngine, files: Path) -> None:
    plain = rendered(engine, ROW)[0]
    before = weights_of(engine)
    loras = tuple(LoraFile(name, files / "loras" / f"{name}.safetensors", 0.7) for name in ("anime", "cartoon"))
    engine.load(Weights("checkpoint", files / "checkpoint", loras))
    assert not np.array_equal(rendered(engine, ROW)[0], plain)
    engine.load(Weights("checkpoint", files / "checkpoint"))
    assert all(torch.equal(now, before[name]) for name, now in weights_of(engine).items())
    assert np.array_equal(rendered(engine, ROW)[0], plain)


def test_running_out_of_memory_halves_the_pass_and_still_makes_the_picture(engine: SdxlEngine) -> None:
    """Real memory: what the process may have is set to what it holds and a little."""
    large = replace(ROW, size="2048x2048", picture=ROW.picture.resize((2048, 2048)), steps=2, strength=1.0)
    used = torch.cuda.memory_allocated()
    whole = torch.cuda.get_device_properties(0).total_memory
    group = large.group
    torch.cuda.set_per_process_memory_fraction((used + (3 << 30)) / whole)
    try:
        picture = rendered(engine, large, *(replace(large, seed=seed) for seed in (11, 12, 13)))[0]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.capacity(group) < 4
    assert picture.shape == (2048, 2048, 3)
