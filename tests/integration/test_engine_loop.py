"""The denoising loop, through the engine's port, on the tiny checkpoint.

It makes the same picture as diffusers' own pipeline, and the same bits whoever the neighbours are and whenever a row
joined.
"""

import json
import shutil
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from actors.engine.denoise import SdxlEngine
from actors.engine.port import LoraFile, Poisoned, Rendered, Row, Weights
from actors.settings import RendererSettings
from schemas.report import Failure, FailureKind
from schemas.style import Sampler, StrengthMode
from tests.support import tiny
from tests.support.modes import Pixels, a_row, assert_same, bits, img2img, pixels

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
MIXED = (
    a_row(1, sampler=Sampler.EULER, strength=0.8, steps=9),
    a_row(2, sampler=Sampler.DPMPP_2M, strength=0.45, steps=7, mode=StrengthMode.NOISE, guidance=3.0),
    a_row(3, sampler=Sampler.LCM, strength=0.6, steps=4, mode=StrengthMode.NOISE, negative="ugly"),
    a_row(4, sampler=Sampler.DPMPP_2M, strength=1.0, steps=5),
    a_row(5, sampler=Sampler.EULER, strength=0.33, steps=12, mode=StrengthMode.NOISE, guidance=9.0),
)
"""They share one group."""


@pytest.fixture(scope="module")
def farmyard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint, and the same one taken for one that predicts velocity."""
    at = tmp_path_factory.mktemp("tiny")
    tiny.build(at)
    shutil.copytree(at / "checkpoint", at / "velocity")
    config = at / "velocity" / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "prediction_type": "v_prediction"}))
    return at


def made(farmyard: Path, cache: Path, *, batch: int = 3, name: str = "checkpoint") -> SdxlEngine:
    own = SdxlEngine(RendererSettings(name="farm/test/1/0", device="cpu", batch=batch, threads=1, cache=cache))
    own.load(Weights(name, farmyard / name))
    return own


@pytest.fixture(scope="module")
def engine(farmyard: Path, tmp_path_factory: pytest.TempPathFactory) -> SdxlEngine:
    return made(farmyard, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def fresh(farmyard: Path, tmp_path: Path) -> SdxlEngine:
    """For tests that leave it changed."""
    return made(farmyard, tmp_path)


def rendered(engine: SdxlEngine, *rows: Row) -> list[Pixels]:
    """They begin together."""
    begun = [engine.begin(number, row) for number, row in enumerate(rows)]
    found = {ended.id: ended.result for ended in begun if ended is not None} | ends(engine, rows[0], steps=20)
    return [pixels(found[number]) for number in range(len(rows))]


def alone(engine: SdxlEngine, row: Row) -> bytes:
    return bits(rendered(engine, row))[0]


def ends(engine: SdxlEngine, row: Row, *, steps: int = 200) -> dict[Hashable, object]:
    """Everything of the row's group that ends, until nothing is left to do."""
    found: dict[Hashable, object] = {}
    for _ in range(steps):
        found |= {ended.id: ended.result for ended in engine.step(row.group)}
    return found


# as diffusers


@pytest.mark.parametrize("name", ["checkpoint", "velocity"])
@pytest.mark.parametrize("sampler", list(Sampler))
@pytest.mark.parametrize(("strength", "steps"), [(0.3, 10), (0.7, 8), (1.0, 17)])
def test_the_loop_makes_the_picture_of_diffusers_own_pipeline(
    farmyard: Path, fresh: SdxlEngine, name: str, sampler: Sampler, strength: float, steps: int
) -> None:
    fresh.load(Weights(name, farmyard / name))
    row = a_row(6, sampler=sampler, strength=strength, steps=steps)
    assert_same(rendered(fresh, row)[0], img2img(farmyard / name, row))


def test_without_guidance_it_is_diffusers_too(farmyard: Path, engine: SdxlEngine) -> None:
    row = a_row(6, guidance=1.0)
    assert not row.group.guided
    assert_same(rendered(engine, row)[0], img2img(farmyard / "checkpoint", row))


def test_rows_of_mixed_samplers_strengths_and_steps_are_diffusers_each(farmyard: Path, engine: SdxlEngine) -> None:
    rows = [replace(row, mode=StrengthMode.DIFFUSERS) for row in MIXED[:3]]
    for row, ours in zip(rows, rendered(engine, *rows), strict=True):
        assert_same(ours, img2img(farmyard / "checkpoint", row))


# the same bits


@pytest.fixture
def latents(fresh: SdxlEngine, monkeypatch: pytest.MonkeyPatch) -> dict[Hashable, bytes]:
    """What the rows of the fresh engine end in before they are decoded, by id. Pictures of 8 bits would hide much."""
    found: dict[Hashable, bytes] = {}
    watch(
        monkeypatch,
        fresh,
        "_ended",
        lambda under, tensor, _: found.update({under.id: tensor.contiguous().numpy().tobytes()}),
    )
    return found


def test_a_row_gives_the_same_bits_beside_other_neighbours(fresh: SdxlEngine, latents: dict[Hashable, bytes]) -> None:
    expected = []
    for row in MIXED:
        alone(fresh, row)
        expected.append(latents[0])
    assert len(set(expected)) == len(MIXED)
    for together in ([0, 1, 2], [4, 3, 2], [4, 0], [3, 1, 0]):
        rendered(fresh, *(MIXED[number] for number in together))
        assert [latents[slot] for slot in range(len(together))] == [expected[number] for number in together]


def test_bits_are_those_of_the_bucket(farmyard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the padding is for: with fewer rows in the pass, kernels round otherwise."""
    found: set[bytes] = set()
    for batch in (1, 2, 3):
        engine = made(farmyard, tmp_path, batch=batch)
        watch(monkeypatch, engine, "_ended", lambda _, tensor, __: found.add(tensor.contiguous().numpy().tobytes()))
        alone(engine, MIXED[0])
    assert len(found) > 1


@pytest.mark.parametrize("late", range(1, 6))
def test_a_row_gives_the_same_bits_whenever_it_joined(engine: SdxlEngine, late: int) -> None:
    expected = [alone(engine, row) for row in MIXED[:3]]
    found: dict[Hashable, object] = {}
    engine.begin(0, MIXED[0])
    for number in (1, 2):
        for _ in range(late):
            found |= {ended.id: ended.result for ended in engine.step(MIXED[0].group)}
        engine.begin(number, MIXED[number])
    found |= ends(engine, MIXED[0], steps=30)
    assert [pixels(found[number]).tobytes() for number in range(3)] == expected


def test_a_row_gives_the_same_bits_after_its_neighbours_were_dropped(engine: SdxlEngine) -> None:
    """What fills the slot of a dropped row, and who takes it then, is no matter to the others."""
    expected = [alone(engine, MIXED[number]) for number in (1, 4)]
    for number in range(3):
        engine.begin(number, MIXED[number])
    engine.step(MIXED[0].group)
    engine.drop({0})
    engine.step(MIXED[0].group)
    engine.drop({2, "never heard of"})
    engine.begin(4, MIXED[4])
    found = ends(engine, MIXED[0], steps=30)
    assert found.keys() == {1, 4}
    assert [pixels(found[number]).tobytes() for number in (1, 4)] == expected


def test_a_neighbour_that_is_no_number_any_more_harms_nobody(fresh: SdxlEngine) -> None:
    expected = alone(fresh, MIXED[1])
    fresh.begin("good", MIXED[1])
    fresh.begin("bad", replace(MIXED[0], guidance=float("inf")))
    found = ends(fresh, MIXED[0], steps=30)
    assert pixels(found["good"]).tobytes() == expected
    bad = found["bad"]
    assert isinstance(bad, Failure)
    assert (bad.kind, bad.code) == (FailureKind.BAD_PICTURE, "picture_not_finite")


def test_lone_rows_have_a_bucket_of_one_and_say_so(engine: SdxlEngine) -> None:
    row = a_row(1, lone=True)
    assert engine.capacity(row.group) == 1
    engine.begin("lone", row)
    lone = ends(engine, row, steps=10)["lone"]
    engine.begin("other", a_row(1))
    other = ends(engine, a_row(1), steps=10)["other"]
    assert isinstance(lone, Rendered)
    assert isinstance(other, Rendered)
    assert lone.numerics.endswith("batch=1")
    assert other.numerics.endswith("batch=3")
    assert lone.numerics.removesuffix("1") == other.numerics.removesuffix("3")


# strength


def away(source: Pixels, picture: Pixels) -> float:
    return float(np.abs(source.astype(float) - picture.astype(float)).mean())


@pytest.mark.parametrize("sampler", [Sampler.EULER, Sampler.DPMPP_2M])
def test_more_strength_leads_farther_from_the_source_between_whole_steps_too(
    engine: SdxlEngine, sampler: Sampler
) -> None:
    row = a_row(7, sampler=sampler, mode=StrengthMode.NOISE, steps=5)
    strengths = [0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0]
    source = rendered(engine, replace(row, strength=0.0))[0]
    found = [away(source, rendered(engine, replace(row, strength=strength))[0]) for strength in strengths]
    assert found == sorted(found)
    assert all(after - before > 0.05 for before, after in pairwise(found))


def test_diffusers_strength_stands_still_between_whole_steps(engine: SdxlEngine) -> None:
    row = a_row(7, mode=StrengthMode.DIFFUSERS, steps=5)
    assert alone(engine, replace(row, strength=0.61)) == alone(engine, replace(row, strength=0.79))
    noise = replace(row, mode=StrengthMode.NOISE)
    assert alone(engine, replace(noise, strength=0.61)) != alone(engine, replace(noise, strength=0.79))


@pytest.mark.parametrize("row", [a_row(1, strength=0.0, mode=StrengthMode.NOISE), a_row(1, strength=0.12, steps=8)])
def test_without_a_step_to_take_the_source_comes_back_as_the_vae_sees_it(engine: SdxlEngine, row: Row) -> None:
    ended = engine.begin("at once", row)
    assert ended is not None
    assert isinstance(ended.result, Rendered)
    source = np.asarray(row.picture)
    assert away(source, pixels(ended.result)) < 15
    assert engine.step(row.group) == ()


# rows come and go


def test_a_dropped_row_takes_no_further_step(fresh: SdxlEngine) -> None:
    row, calls = a_row(1), counted(fresh)
    fresh.begin("dropped", row)
    fresh.step(row.group)
    fresh.drop({"dropped"})
    assert ends(fresh, row, steps=10) == {}
    assert calls == [6]


def test_a_full_group_takes_no_more_rows_until_one_has_gone(engine: SdxlEngine) -> None:
    for number in range(3):
        engine.begin(number, a_row(number))
    with pytest.raises(ValueError, match="3 rows"):
        engine.begin(3, a_row(3))
    assert engine.begin("another group", a_row(3, guidance=1.0)) is None
    engine.drop({1})
    assert engine.begin(3, a_row(3)) is None
    engine.drop({0, 2, 3, "another group"})


def test_each_step_moves_the_rows_of_one_group(fresh: SdxlEngine) -> None:
    calls = counted(fresh)
    fresh.begin("guided", a_row(1))
    fresh.begin("plain", a_row(2, guidance=1.0))
    fresh.step(a_row(2, guidance=1.0).group)
    fresh.step(a_row(1).group)
    assert calls == [3, 6]


def test_another_checkpoint_drops_all_rows(farmyard: Path, fresh: SdxlEngine) -> None:
    fresh.begin("old", a_row(1))
    fresh.load(Weights("velocity", farmyard / "velocity"))
    assert ends(fresh, a_row(1), steps=10) == {}
    assert fresh.held().checkpoint == "velocity"


def test_rows_under_way_outlive_a_change_of_loras(farmyard: Path, fresh: SdxlEngine) -> None:
    """They wait while other weights are merged, and go on as if nothing had been."""
    plain = Weights("checkpoint", farmyard / "checkpoint")
    anime = replace(plain, loras=(LoraFile("anime", farmyard / "loras" / "anime.safetensors", 1.0),))
    row, other = a_row(1), a_row(2, guidance=1.0)
    expected = alone(fresh, row)
    fresh.begin("first", row)
    fresh.step(row.group)
    fresh.load(anime)
    styled = alone(fresh, other)
    fresh.load(plain)
    found = ends(fresh, row, steps=10)
    assert pixels(found["first"]).tobytes() == expected
    assert alone(fresh, other) != styled


# nothing twice


def test_a_source_and_a_text_are_encoded_once(fresh: SdxlEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh._model
    assert model is not None
    calls: list[str] = []
    watch(monkeypatch, model.pipe.vae, "encode", lambda *_: calls.append("source"))
    watch(monkeypatch, model.pipe, "encode_prompt", lambda *_: calls.append("text"))
    first, again = rendered(fresh, a_row(1), a_row(1, strength=0.4))
    assert sorted(calls) == ["source", "text", "text"]
    assert first.tobytes() != again.tobytes()
    counts = fresh.counts
    assert (counts.source_hits, counts.source_loads, counts.prompt_hits, counts.prompt_loads) == (1, 1, 2, 2)
    assert min(counts.source_load_seconds, counts.prompt_load_seconds) > 0


def watch(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, seen: Callable[..., object]) -> None:
    original = getattr(owner, name)

    def watched(*given: Any, **named: Any) -> Any:
        seen(*given)
        return original(*given, **named)

    monkeypatch.setattr(owner, name, watched)


def counted(engine: SdxlEngine, fail: Callable[[int], Exception | None] = lambda _rows: None) -> list[int]:
    """How many rows the UNet was given each time; *fail* may raise instead."""
    assert engine._model is not None
    unet, calls = engine._model.pipe.unet, []
    original = unet.forward

    def forward(sample: Tensor, *given: Any, **named: Any) -> Any:
        calls.append(len(sample))
        error = fail(len(sample))
        if error is not None:
            raise error
        return original(sample, *given, **named)

    unet.forward = forward
    return calls


# trouble


def too_many(rows: int) -> Callable[[int], Exception | None]:
    return lambda given: torch.OutOfMemoryError("CUDA out of memory.") if given > rows else None


def test_out_of_memory_halves_the_bucket_and_the_rows_begin_anew(farmyard: Path, tmp_path: Path) -> None:
    row, rows = a_row(1), [a_row(number) for number in range(4)]
    expected = [alone(made(farmyard, tmp_path / "b", batch=2), each) for each in rows]
    engine = made(farmyard, tmp_path / "a", batch=4)
    calls = counted(engine)
    for number in range(4):
        engine.begin(number, rows[number])
    engine.step(row.group)
    counted(engine, too_many(4))
    found = ends(engine, row, steps=40)
    assert bits([pixels(found[number]) for number in range(4)]) == expected
    assert set(calls) == {8, 4}
    assert engine.capacity(row.group) == 2
    assert all(found[number].numerics.endswith("batch=2") for number in range(4))  # type: ignore[attr-defined]


def test_another_engine_remembers_the_smaller_bucket(farmyard: Path, tmp_path: Path) -> None:
    engine, row = made(farmyard, tmp_path, batch=4), a_row(1)
    counted(engine, too_many(2))
    engine.begin(0, row)
    ends(engine, row, steps=12)
    other = made(farmyard, tmp_path, batch=4)
    assert other.capacity(row.group) == 1
    assert other.capacity(replace(row, size="128x128").group) == 4


def test_a_row_that_fits_nowhere_fails_and_the_others_are_tried(farmyard: Path, tmp_path: Path) -> None:
    engine, row = made(farmyard, tmp_path, batch=2), a_row(1)
    counted(engine, too_many(0))
    engine.begin("one", row)
    engine.begin("two", a_row(2))
    found = ends(engine, row, steps=10)
    kinds = [result.kind for result in found.values() if isinstance(result, Failure)]
    assert kinds == [FailureKind.OUT_OF_VRAM] * 2
    assert engine.begin("three", row) is None


def test_out_of_memory_while_a_row_joins_costs_the_others_only_time(
    fresh: SdxlEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = a_row(1)
    fresh.begin(0, row)
    fresh.step(row.group)
    assert fresh._model is not None
    left = [torch.OutOfMemoryError("CUDA out of memory.")]

    def fail(*_: Any) -> None:
        if left:
            raise left.pop()

    watch(monkeypatch, fresh._model.pipe.vae, "encode", fail)
    assert fresh.begin(1, a_row(2)) is None
    found = ends(fresh, row, steps=40)
    assert found.keys() == {0, 1}
    assert all(isinstance(result, Rendered) and result.numerics.endswith("batch=1") for result in found.values())


def test_rows_that_were_to_join_wait_when_the_first_of_them_made_the_bucket_smaller(
    farmyard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, left = made(farmyard, tmp_path / "a", batch=4), [torch.OutOfMemoryError("CUDA out of memory.")]
    assert engine._model is not None

    def fail(*_: Any) -> None:
        if left:
            raise left.pop()

    rows = [a_row(number) for number in range(4)]
    watch(monkeypatch, engine._model.pipe.vae, "encode", fail)
    assert [engine.begin(number, row) for number, row in enumerate(rows)] == [None] * 4
    with pytest.raises(ValueError, match="4 rows"):
        engine.begin(4, a_row(4))
    found = ends(engine, rows[0], steps=40)
    smaller = made(farmyard, tmp_path / "b", batch=2)
    assert bits([pixels(found[number]) for number in range(4)]) == [alone(smaller, row) for row in rows]
    assert engine.capacity(rows[0].group) == 2


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDA error: out of memory",
    ],
)
def test_libraries_that_find_no_memory_lose_no_context(fresh: SdxlEngine, words: str) -> None:
    left = [RuntimeError(words)]
    counted(fresh, lambda _rows: left.pop() if left else None)
    fresh.begin("row", a_row(1))
    found = ends(fresh, a_row(1), steps=20)["row"]
    assert isinstance(found, Rendered)
    assert found.numerics.endswith("batch=1")


def test_what_it_holds_is_told_while_the_checkpoint_is_changed(
    farmyard: Path, fresh: SdxlEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = [Weights("checkpoint", farmyard / "checkpoint"), None]

    class Changing(SdxlEngine):
        @property
        def _weights(self) -> Weights | None:  # type: ignore[override]
            return seen.pop(0) if len(seen) > 1 else seen[0]

    monkeypatch.setattr(fresh, "__class__", Changing)
    assert fresh.held().checkpoint == "checkpoint"


def test_an_error_of_the_unet_fails_the_rows_of_its_pass_only(fresh: SdxlEngine) -> None:
    row, other = a_row(1), a_row(2, guidance=1.0)
    counted(fresh, lambda rows: ValueError("no such thing") if rows == 6 else None)
    fresh.begin("fails", row)
    fresh.begin("stays", other)
    found = ends(fresh, row, steps=2)
    assert isinstance(found["fails"], Failure)
    assert (found["fails"].kind, found["fails"].code) == (FailureKind.ENGINE, "engine_error")
    assert isinstance(ends(fresh, other, steps=10)["stays"], Rendered)


def test_a_lost_context_is_no_failure_of_rows(fresh: SdxlEngine) -> None:
    counted(fresh, lambda _rows: RuntimeError("CUDA error: an illegal memory access was encountered"))
    fresh.begin("row", a_row(1))
    with pytest.raises(Poisoned):
        fresh.step(a_row(1).group)


def test_a_row_that_cannot_begin_fails_alone(fresh: SdxlEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh.begin("good", a_row(1))
    assert fresh._model is not None

    def fail(*_: Any) -> None:
        raise ValueError("this text cannot be read")

    with monkeypatch.context() as patch:
        watch(patch, fresh._model.pipe, "encode_prompt", fail)
        ended = fresh.begin("bad", a_row(2, prompt="unreadable"))
    assert ended is not None
    assert isinstance(ended.result, Failure)
    assert ends(fresh, a_row(1), steps=10).keys() == {"good"}


def test_each_row_says_what_it_cost(engine: SdxlEngine) -> None:
    rows: Sequence[Row] = [a_row(20), a_row(21, strength=1.0)]
    for number, row in enumerate(rows):
        engine.begin(number, row)
    found = ends(engine, rows[0], steps=20)
    short, long = found[0], found[1]
    assert isinstance(short, Rendered)
    assert isinstance(long, Rendered)
    assert min(short.seconds.encode, short.seconds.denoise, short.seconds.decode) > 0
    assert long.seconds.denoise > short.seconds.denoise
