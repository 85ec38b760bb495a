"""Merging from tiers: what it does to the bits, what stays where, what is read while something else renders."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from actors.engine import lora, merge
from actors.engine.port import LoraFile, Refused, Weights
from actors.engine.tiers import Tiers
from actors.residency import Tier

CPU = torch.device("cpu")
PLENTY = 2**30
HEADERS = 2_000
"""Of two files: what is not read yet is taken for as large as its file."""


def modules(dtype: torch.dtype = torch.float32) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    unet = nn.ModuleDict({"to_q": nn.Linear(64, 48), "conv": nn.Conv2d(16, 20, 3), "untouched": nn.Linear(3, 3)})
    encoder = nn.ModuleDict({"q_proj": nn.Linear(16, 16)})
    return lora.targets({"unet": unet.to(dtype), "text_encoder": encoder.to(dtype)})


def weight(module: nn.Module) -> Tensor:
    assert isinstance(module.weight, Tensor)
    return module.weight


def bits(found: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {name: weight(module).detach().clone() for name, module in found.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def a_lora(at: Path, number: int, names: Sequence[str] = ("unet.to_q", "unet.conv"), scale: float = 1.0) -> LoraFile:
    """Rank and alpha differ from one to the next."""
    path = at / f"lora{number}.safetensors"
    if not path.exists():
        generator = torch.Generator().manual_seed(number)
        tensors: dict[str, Tensor] = {}
        for name in names:
            shape = weight(modules()[name]).shape
            rank = 8 * (1 + number % 4)
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, *shape[1:], generator=generator)
            tensors[f"{name}.lora_B.weight"] = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=generator)
            tensors[f"{name}.alpha"] = torch.tensor(0.5 + number)
        save_file(tensors, path)
    return LoraFile(f"digest{number}", path, scale)


def of(*files: LoraFile, checkpoint: str = "c") -> Weights:
    return Weights(checkpoint, Path("nowhere"), files)


def opened(found: dict[str, nn.Module], *, ram: int = PLENTY, gpu: int | None = None) -> Tiers:
    """With a *gpu*, RAM plays its part too: everything but the transport is what it is there."""
    tiers = Tiers(device=CPU, ram_bytes=ram, gpu_bytes=gpu or 0)
    if gpu is not None:
        tiers._budgets[Tier.GPU] = gpu
    tiers.open("c", found, 2)
    return tiers


@pytest.mark.parametrize("name", ["unet.to_q", "unet.conv", "text_encoder.q_proj"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_merge_adds_scaled_products_in_fp32_and_rounds_once(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    found = modules(dtype)
    before = bits(found)[name]
    files = [a_lora(tmp_path, 1, [name], 0.7), a_lora(tmp_path, 2, [name], -0.4)]
    opened(found).merge(of(*files))

    expected = before.double()
    for file in files:
        tensors = {key.removeprefix(f"{name}."): tensor.double() for key, tensor in load_file(file.path).items()}
        down, up = tensors["lora_A.weight"], tensors["lora_B.weight"]
        product = torch.einsum("or,ri...->oi...", up.flatten(1), down)
        expected += file.scale * tensors["alpha"].item() / down.shape[0] * product
    got = bits(found)[name]
    step = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-22}[
        dtype
    ]  # half a unit: rounded once
    assert ((got.double() - expected).abs() <= step * expected.abs() + 2.0**-22 * expected.abs().max()).all()
    assert got.dtype == dtype
    assert not torch.equal(got, before)


wishes = st.lists(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from([1.0, 0.3, -2.0])), max_size=3, unique_by=lambda w: w[0]),
    max_size=6,
)
budgets = st.sampled_from([0, 10_000, 50_000, PLENTY])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wishes,
    budgets,
    st.sampled_from([None, 0, 10_000, 50_000, PLENTY]),
    st.sampled_from([torch.bfloat16, torch.float32]),
)
def test_whatever_was_merged_before_leaves_no_trace(
    tmp_path: Path, before: list[list[tuple[int, float]]], ram: int, gpu: int | None, dtype: torch.dtype
) -> None:
    found = modules(dtype)
    pristine = bits(found)
    last = of(a_lora(tmp_path, 1, scale=0.5), a_lora(tmp_path, 4))
    fresh = modules(dtype)
    opened(fresh).merge(last)

    tiers = opened(found, ram=ram, gpu=gpu)
    for wish in before:
        wanted = of(*(a_lora(tmp_path, number, scale=scale) for number, scale in wish))
        tiers.stage(wanted)
        tiers.merge(wanted)
    tiers.merge(last)
    assert same(bits(found), bits(fresh))
    tiers.merge(of())
    assert same(bits(found), pristine)


def test_addresses_of_weights_never_change(tmp_path: Path) -> None:
    """Compiled graphs and CUDA graphs hold on to them."""
    found = modules()
    addresses = {name: weight(module).data_ptr() for name, module in found.items()}
    tiers = opened(found)
    tiers.merge(of(a_lora(tmp_path, 1)))
    tiers.merge(of())
    assert {name: weight(module).data_ptr() for name, module in found.items()} == addresses


def test_channels_last_weights_keep_their_layout_and_get_the_same_numbers(tmp_path: Path) -> None:
    plain, last = modules(), modules()
    last["unet.conv"].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    opened(plain).merge(of(a_lora(tmp_path, 1)))
    tiers = opened(last)
    tiers.merge(of(a_lora(tmp_path, 1)))
    assert same(bits(plain), bits(last))
    assert weight(last["unet.conv"]).is_contiguous(memory_format=torch.channels_last)
    tiers.merge(of())
    assert torch.equal(weight(last["unet.conv"]), weight(modules()["unet.conv"]))


def test_what_does_not_change_is_not_written(tmp_path: Path) -> None:
    found = modules()
    tiers = opened(found)
    one, two = a_lora(tmp_path, 1, ["unet.to_q"]), a_lora(tmp_path, 2, ["unet.conv"])
    tiers.merge(of(one))
    versions = {name: weight(module)._version for name, module in found.items()}
    tiers.merge(of(one))
    tiers.merge(of(one, two))
    assert weight(found["unet.to_q"])._version == versions["unet.to_q"]
    assert weight(found["unet.conv"])._version > versions["unet.conv"]


def test_only_touched_weights_are_copied(tmp_path: Path) -> None:
    tiers = opened(modules())
    tiers.merge(of(a_lora(tmp_path, 1, ["unet.to_q"])))
    assert set(tiers._copies) == {"unet.to_q"}


@pytest.mark.parametrize("fails_at", [0, 1])
def test_merge_that_ran_out_of_memory_is_mended_by_the_next(
    fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = modules()
    pristine = bits(found)
    tiers = opened(found)
    tiers.merge(of(a_lora(tmp_path, 1)))
    real, calls = merge._sum, 0

    def failing(*args: object) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(merge, "_sum", failing)
        with pytest.raises(torch.OutOfMemoryError):
            tiers.merge(of(a_lora(tmp_path, 2)))
    fresh = modules()
    opened(fresh).merge(of(a_lora(tmp_path, 2)))
    tiers.merge(of(a_lora(tmp_path, 2)))
    assert same(bits(found), bits(fresh))
    tiers.merge(of())
    assert same(bits(found), pristine)


def test_merge_that_runs_out_of_memory_gives_up_half_of_what_the_gpu_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = modules()
    pristine = bits(found)
    tiers = opened(found, gpu=PLENTY)
    tiers.merge(of(a_lora(tmp_path, 1)))
    kept = sum(item.bytes for item in tiers._items({}))
    real, failures = merge._sum, iter([torch.OutOfMemoryError("CUDA out of memory")])

    def failing_once(*args: object) -> Tensor:
        for failure in failures:
            raise failure
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(merge, "_sum", failing_once)
    tiers.merge(of(a_lora(tmp_path, 2)))
    fresh = modules()
    opened(fresh).merge(of(a_lora(tmp_path, 2)))
    assert same(bits(found), bits(fresh))
    assert sum(item.bytes for item in tiers._items({}) if item.at is Tier.GPU) <= tiers._budgets[Tier.GPU] < kept
    tiers.merge(of())
    assert same(bits(found), pristine)


def test_a_refused_lora_changes_nothing(tmp_path: Path) -> None:
    found = modules()
    tiers = opened(found)
    good = a_lora(tmp_path, 1)
    tiers.merge(of(good))
    before = bits(found)
    path = tmp_path / "bad.safetensors"
    save_file({"unet.gone.lora_A.weight": torch.ones(1, 1)}, path)
    for _ in range(2):
        with pytest.raises(Refused, match=r"unet\.gone"):
            tiers.merge(of(a_lora(tmp_path, 2), LoraFile("bad", path, 1.0)))
        assert same(bits(found), before)
    assert tiers.text_state == ()


# what is held


def test_a_staged_lora_is_loaded_once_and_then_a_hit(tmp_path: Path) -> None:
    tiers = opened(modules())
    file = a_lora(tmp_path, 1)
    tiers.stage(of(file))
    assert tiers.loras() == ("digest1",)
    seconds = tiers.counts.lora_load_seconds
    assert seconds > 0
    file.path.unlink()  # merging reads nothing any more
    tiers.merge(of(file))
    assert (tiers.counts.lora_hits, tiers.counts.lora_loads) == (1, 1)
    assert tiers.counts.lora_load_seconds == seconds


def test_a_lora_that_was_not_staged_is_a_load_once(tmp_path: Path) -> None:
    tiers = opened(modules())
    for _ in range(3):
        tiers.merge(of(a_lora(tmp_path, 1)))
    assert (tiers.counts.lora_hits, tiers.counts.lora_loads) == (2, 1)


def test_staging_raises_nothing(tmp_path: Path) -> None:
    tiers = opened(modules())
    broken, pickle = tmp_path / "broken.safetensors", tmp_path / "pickle.safetensors"
    broken.write_bytes(a_lora(tmp_path, 1).path.read_bytes()[:-5])
    pickle.write_bytes(b"\x80\x04 a pickle")
    good = a_lora(tmp_path, 2)
    tiers.stage(of(LoraFile("gone", tmp_path / "gone", 1.0)))
    tiers.stage(of(LoraFile("broken", broken, 1.0), LoraFile("pickle", pickle, 1.0), good))
    assert tiers.loras() == ("digest2",)
    with pytest.raises(Refused):
        tiers.merge(of(LoraFile("broken", broken, 1.0)))


def size(tiers: Tiers) -> int:
    return next(iter(tiers._held.values())).contents.tensors.bytes


def test_least_recently_merged_loras_leave_ram(tmp_path: Path) -> None:
    tiers = opened(modules())
    tiers.merge(of(a_lora(tmp_path, 4)))
    copies = sum(copy.tensor.nbytes for copy in tiers._copies.values())
    tiers = opened(modules(), ram=copies + 2 * size(tiers))  # 4, 8, 12 have the same rank
    for number in (4, 8, 4, 12):
        tiers.merge(of(a_lora(tmp_path, number)))
    assert set(tiers.loras()) == {"digest4", "digest12"}
    assert set(tiers._bound) == {"digest4", "digest12"}


def test_what_the_next_shard_needs_comes_before_what_was_used(tmp_path: Path) -> None:
    tiers = opened(modules())
    tiers.merge(of(a_lora(tmp_path, 4)))
    copies = sum(copy.tensor.nbytes for copy in tiers._copies.values())
    tiers = opened(modules(), ram=copies + 3 * size(tiers) + HEADERS)
    tiers.merge(of(a_lora(tmp_path, 4)))
    tiers.merge(of(a_lora(tmp_path, 8)))
    tiers.stage(of(a_lora(tmp_path, 12), a_lora(tmp_path, 16)))
    assert set(tiers.loras()) == {"digest8", "digest12", "digest16"}  # 8 is merged now


def test_what_the_next_shard_needs_stays_although_it_was_used_long_ago(tmp_path: Path) -> None:
    tiers = opened(modules())
    tiers.merge(of(a_lora(tmp_path, 4)))
    copies = sum(copy.tensor.nbytes for copy in tiers._copies.values())
    tiers = opened(modules(), ram=copies + 3 * size(tiers))
    for number in (12, 4, 8):
        tiers.merge(of(a_lora(tmp_path, number)))
    tiers.stage(of(a_lora(tmp_path, 12)))
    tiers.merge(of(a_lora(tmp_path, 16)))
    assert set(tiers.loras()) == {"digest12", "digest8", "digest16"}


def test_nothing_is_staged_where_there_is_no_room_beside_what_is_needed_now(tmp_path: Path) -> None:
    tiers = opened(modules(), ram=0)
    tiers.merge(of(a_lora(tmp_path, 4)))
    tiers.stage(of(a_lora(tmp_path, 8)))
    assert tiers.loras() == ("digest4",)
    assert tiers.counts.lora_load_seconds > 0
    tiers.merge(of(a_lora(tmp_path, 8)))
    assert tiers.loras() == ("digest8",)


def test_pristine_copies_leave_before_the_budget_is_exceeded_once_their_weights_are_pristine(tmp_path: Path) -> None:
    found = modules()
    pristine = bits(found)
    tiers = opened(found, ram=0)
    tiers.merge(of(a_lora(tmp_path, 1, ["unet.to_q"])))
    tiers.merge(of(a_lora(tmp_path, 2, ["unet.conv"])))  # to_q becomes pristine, but only in this merge
    tiers.merge(of())
    assert "unet.to_q" not in tiers._copies
    assert same(bits(found), pristine)


def test_gpu_holds_what_is_merged_and_ram_what_was(tmp_path: Path) -> None:
    tiers = opened(modules(), gpu=PLENTY)
    tiers.merge(of(a_lora(tmp_path, 4)))
    taken = sum(item.bytes for item in tiers._items({}))
    tiers = opened(modules(), gpu=taken)
    tiers.merge(of(a_lora(tmp_path, 4)))
    tiers.merge(of(a_lora(tmp_path, 8)))
    assert {digest: held.at for digest, held in tiers._held.items()} == {"digest4": Tier.RAM, "digest8": Tier.GPU}
    assert all(copy.at is Tier.GPU for copy in tiers._copies.values())


def test_loras_outlive_their_checkpoint(tmp_path: Path) -> None:
    tiers = opened(modules(), gpu=PLENTY)
    file = a_lora(tmp_path, 1)
    tiers.merge(of(file))
    tiers.close()
    assert tiers._held["digest1"].at is Tier.RAM
    assert not tiers._copies
    other = modules(torch.bfloat16)
    tiers.open("d", other, 2)
    tiers.merge(of(file, checkpoint="d"))
    fresh = modules(torch.bfloat16)
    opened(fresh).merge(of(file))
    assert same(bits(other), bits(fresh))
    assert tiers.counts.lora_loads == 1


def test_weights_of_another_checkpoint_are_not_merged(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the checkpoint"):
        opened(modules()).merge(of(a_lora(tmp_path, 1), checkpoint="d"))


def test_text_state_names_the_loras_that_change_an_encoder(tmp_path: Path) -> None:
    tiers = opened(modules())
    text = a_lora(tmp_path, 1, ["text_encoder.q_proj", "unet.to_q"], 0.5)
    tiers.merge(of(a_lora(tmp_path, 2), text))
    assert tiers.text_state == (("digest1", 0.5),)
    tiers.merge(of(a_lora(tmp_path, 2)))
    assert not tiers.text_state


def test_checkpoints_are_counted_when_they_came() -> None:
    tiers = opened(modules())
    with tiers.loading_checkpoint():
        tiers.hit_checkpoint()
    with pytest.raises(OSError, match="gone"), tiers.loading_checkpoint():
        raise OSError("gone")
    assert (tiers.counts.checkpoint_loads, tiers.counts.checkpoint_hits) == (1, 1)
    assert tiers.counts.checkpoint_load_seconds > 0


def test_staging_beside_merging_reads_no_file_twice_and_spoils_no_bits(tmp_path: Path) -> None:
    found = modules()
    pristine = bits(found)
    tiers = opened(found, gpu=PLENTY)
    files = [a_lora(tmp_path, number) for number in range(1, 9)]
    done = threading.Event()

    def stage() -> None:
        while not done.is_set():
            for file in files:
                tiers.stage(of(file))

    threads = [threading.Thread(target=stage) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            for file in files:
                tiers.merge(of(file))
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
    assert tiers.counts.lora_loads == len(files), "each file is read once, whoever comes first"
    assert 40 - len(files) <= tiers.counts.lora_hits <= 40
    assert set(tiers.loras()) == {file.digest for file in files}
    tiers.merge(of())
    assert same(bits(found), pristine)
