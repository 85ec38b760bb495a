"""The engine's benchmarks: what their arms are given, what is measured, and that every line of them runs."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from actors.engine.base_config import FOLDERS
from actors.engine.model import Model
from actors.engine.passes import Pass
from ops.bench import cpu, gpu
from ops.bench._bare import Bare, Job
from ops.bench._engine_measure import SAME, blank, flops_of, idle_share, psnr, union_of
from ops.bench._engine_ours import OURS, Feature, Ours, features, same_bits, settings_for
from ops.bench._engine_peers import Pictures, Stock, Swap, Tuned, Tuning
from ops.bench._engine_run import Plan, Ready, compare, in_turn, spread
from ops.bench._engine_work import FULL_RANKS, STYLES, Files, Work, full_files, ranks_of, tiny_files, work_of
from schemas.recipe import Output, Recipe
from schemas.style import Fit, Sampler, StrengthMode

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`"),
]
SMALL = work_of("small", sources=4, size="64x64", steps=4)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return tiny_files(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two that share a core with other tests wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ours(files: Files, tmp_path: Path, feature: Feature = OURS) -> Ours:
    return Ours(feature, files, settings_for(tmp_path, device="cpu", batch=4, compiled=False))


# the work


def test_each_strength_comes_equally_often_with_each_style() -> None:
    work = work_of("turn", sources=24, size="64x64", steps=30)
    counts = Counter((task.style, task.strength) for task in work.tasks)
    assert len(counts) == 3 * STYLES
    assert set(counts.values()) == {4}


@given(sources=st.integers(1, 20))
def test_sorting_by_style_loses_no_task(sources: int) -> None:
    work = work_of("turn", sources=sources, size="16x16", steps=30)
    sorted_tasks = [task for tasks in work.by_style() for task in tasks]
    assert sorted(sorted_tasks, key=lambda task: task.number) == list(work.tasks)
    assert all(len({task.style for task in tasks}) == 1 for tasks in work.by_style())


def test_a_turn_has_other_sources_and_prompts_than_the_one_before() -> None:
    one, other = (work_of(name, sources=2, size="16x16", steps=4) for name in ("turn 0", "turn 1"))
    assert one.tasks == other.tasks
    assert not set(one.prompts) & set(other.prompts)
    assert all(psnr(a, b) < 30 for a, b in zip(one.pictures, other.pictures, strict=True))


def test_the_lora_of_the_largest_rank_comes_first_as_hotswap_needs_it(files: Files) -> None:
    assert ranks_of(files)[0] == max(ranks_of(files))
    assert len(ranks_of(files)) == STYLES


def test_the_full_size_checkpoint_is_one_that_all_arms_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrower and with fewer layers, or it would take 7 GB; the same code writes it."""
    narrow = {"block_out_channels": [32, 32, 64], "attention_head_dim": [1, 1, 2], "layers_per_block": 1}
    unet = FOLDERS["unet/config.json"] | narrow | {"transformer_layers_per_block": [1, 1, 1]}
    vae = FOLDERS["vae/config.json"] | {"block_out_channels": [32] * 4, "layers_per_block": 1}
    for name, config in (("unet", unet), ("vae", vae)):
        monkeypatch.setitem(FOLDERS, f"{name}/config.json", config)
    for name in ("text_encoder", "text_encoder_2"):
        config = FOLDERS[f"{name}/config.json"] | {"num_hidden_layers": 2, "intermediate_size": 64}
        monkeypatch.setitem(FOLDERS, f"{name}/config.json", config)
    wide = full_files(tmp_path / "wide", device="cpu")
    assert ranks_of(wide) == FULL_RANKS
    stock = Stock(wide, device="cpu", dtype=torch.float32).turn(SMALL.first(1), box=60)
    made = ours(wide, tmp_path).turn(SMALL.first(1), box=60)
    assert psnr(stock[0], made[0]) > 60
    assert not blank(made[0])


# what is measured


def test_a_full_size_render_costs_what_the_arithmetic_of_sdxl_says(tmp_path: Path) -> None:
    for name, config in FOLDERS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(config))
    work = work_of("turn", sources=24, size="1024x1024", steps=30)
    each = flops_of(Files(tmp_path, ()), work) / len(work.tasks)
    # ../shared research: U 6.761, E 4.88 (once for four renders), D 10.47 TFLOP; 15 steps in the mean, guided
    assert each / 1e12 == pytest.approx(2 * 15 * 6.761 + 4.88 / 4 + 10.47, rel=1e-3)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=12))
def test_the_union_of_spans_counts_every_moment_once(spans: list[tuple[int, int]]) -> None:
    given_spans = [(begin, begin + length) for begin, length in spans]
    assert union_of(given_spans) == len({moment for begin, end in given_spans for moment in range(begin, end)})


def test_a_device_that_only_waits_is_idle() -> None:
    assert idle_share("cpu", lambda: sum(range(200_000))) > 0.9


def test_a_device_that_only_multiplies_is_not_idle() -> None:
    left = torch.randn(700, 700)
    assert idle_share("cpu", lambda: [left @ left for _ in range(30)]) < 0.5


def test_psnr_of_one_level_everywhere_is_48_db() -> None:
    dark, lighter = (Image.new("RGB", (4, 4), (level,) * 3) for level in (10, 11))
    assert psnr(dark, lighter) == pytest.approx(48.13, abs=0.01)
    assert psnr(dark, dark) == SAME


def test_ratios_are_taken_round_by_round() -> None:
    assert spread([2.0, 6.0, 4.0], [1.0, 2.0, 1.0]) == {"ratio": 3.0, "least": 2.0, "most": 4.0}


class Blank:
    name = "one that gives up"

    def turn(self, work: Work, *, box: float) -> Pictures:
        return {0: Image.new("RGB", (8, 8))}

    def switch(self, style: int) -> None: ...


def test_an_arm_whose_numbers_were_not_finite_is_not_compared() -> None:
    plan = gpu.plan_of(gpu.read_arguments(["--small"]))
    with pytest.raises(RuntimeError, match="one that gives up"):
        in_turn(plan, [Ready(Blank(), 0.0, 0)], rounds=1, sources=1, say=print)


# the arms


@pytest.mark.parametrize(
    "tuning", [Tuning(swap, 2, last) for swap, last in zip(Swap, (True, False, True), strict=True)]
)
def test_every_tuning_of_diffusers_draws_what_the_stock_loop_draws(files: Files, tuning: Tuning) -> None:
    stock = Stock(files, device="cpu", dtype=torch.float32).turn(SMALL.first(6), box=60)
    tuned = Tuned(files, tuning, device="cpu", dtype=torch.float32).turn(SMALL, box=60)
    assert len(stock) == 6
    assert len(tuned) == len(SMALL.tasks)
    assert min(psnr(picture, tuned[number]) for number, picture in stock.items()) > 60


def test_ours_draws_what_the_stock_loop_draws_whatever_is_off(files: Files, tmp_path: Path) -> None:
    stock = Stock(files, device="cpu", dtype=torch.float32).turn(SMALL.first(6), box=60)
    same = [feature for feature in features(gpu=False, compiled=False) if feature.share_texts]
    same += [Feature("contiguous", contiguous=True), Feature("waits", waits=True)]
    for feature in (OURS, *same):
        made = ours(files, tmp_path, feature).turn(SMALL, box=60)
        assert len(made) == len(SMALL.tasks), feature.name
        assert min(psnr(picture, made[number]) for number, picture in stock.items()) > 60, feature.name


def test_longest_rows_first_leave_fewer_empty_places(files: Files, tmp_path: Path) -> None:
    work = work_of("fill", sources=12, size="32x32", steps=10)
    first, as_they_come = (ours(files, tmp_path, each) for each in (OURS, Feature("", longest_first=False)))
    first.turn(work, box=60)
    as_they_come.turn(work, box=60)
    assert as_they_come.fill < first.fill < 1


def test_a_neighbour_that_changes_bits_is_noticed(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm = ours(files, tmp_path)
    arm.turn(SMALL, box=60)
    assert same_bits(arm, SMALL)
    whole = Model.step

    def leaking(self: Model, rows: Pass) -> None:
        whole(self, rows)
        rows.rows("latents").add_(0.05 * rows.rows("latents").mean(dim=0, keepdim=True))

    monkeypatch.setattr(Model, "step", leaking)
    assert not same_bits(arm, SMALL)


# the whole


def test_the_gpu_benchmark_runs_from_end_to_end_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.run(["--small", "--keep"], results=tmp_path)
    line = json.loads((tmp_path / "gpu.jsonl").read_text())
    figures: dict[str, Any] = line["figures"]
    assert line["quick"] is True
    assert all(arm["images_per_second"] > 0 for arm in figures["arms"].values())
    assert all(decibels > 60 for decibels in figures["psnr_to_stock_fp32"].values())
    assert figures["same_bits"] is True
    assert 0 <= figures["idle_share"] < 1
    assert set(figures["features"]) == {feature.name for feature in features(gpu=False, compiled=False)}
    assert figures["cache"]["lora_hits"] == STYLES
    assert "the same bits" in capsys.readouterr().out


def test_what_there_was_no_time_for_is_named(files: Files, tmp_path: Path) -> None:
    asked = gpu.read_arguments(["--small", "--limit", "0", "--only", "features"])
    figures = compare(gpu.plan_of(asked), files, tmp_path, print)
    assert figures["features"] == {}
    assert figures["left_out"] == [feature.name for feature in features(gpu=False, compiled=False)]


def test_without_a_gpu_the_benchmark_says_so_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        return
    with pytest.raises(SystemExit) as ended:
        gpu.read_arguments([])
    assert ended.value.code == 2
    assert "no CUDA device here. `--small`" in capsys.readouterr().err
    assert gpu.read_arguments(["--quick"]).small


def test_the_cpu_benchmark_compares_in_fp32_with_the_settings_that_it_names() -> None:
    plan: Plan = cpu.plan_of(cpu.read_arguments([]))
    assert (plan.device, plan.dtype, plan.rounds) == ("cpu", torch.float32, 3)
    assert not plan.compiled


# the bare loop


def test_the_bare_loop_writes_what_a_renderer_publishes(files: Files, tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    SMALL.pictures[0].save(tmp_path / "picture.png")
    data = (tmp_path / "picture.png").read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    (tmp_path / "sources" / sha256).write_bytes(data)
    recipes = [recipe(sha256, seed, strength) for seed, strength in enumerate((0.3, 0.5, 0.7, 0.0, 0.5, 0.5))]
    job = Job(
        rows=tuple((number, f"{number:064x}", each) for number, each in enumerate(recipes)),
        checkpoint=files.checkpoint,
        loras=tmp_path,
        sources=tmp_path / "sources",
        out=tmp_path / "out",
    )
    done = Bare(ours(files, tmp_path).engine).do(job)
    assert done.renders == 6
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0", "1", "2", "3", "4", "5"]
    with Image.open(tmp_path / "out" / "5" / "picture.png") as picture:
        assert picture.size == (64, 64)
    assert set(done.stage_seconds) == {"load", "fetch", "encode", "denoise", "decode", "publish"}


def recipe(source: str, seed: int, strength: float) -> Recipe:
    return Recipe(
        source=source,
        checkpoint="tiny",
        loras=(),
        prompt="a cat",
        negative_prompt="",
        strength=strength,
        guidance=5.0,
        steps=4,
        sampler=Sampler.EULER,
        size="64x64",
        fit=Fit.CROP,
        background="#ffffff",
        seed=seed,
        output=Output(),
        strength_mode=StrengthMode.DIFFUSERS,
    )
