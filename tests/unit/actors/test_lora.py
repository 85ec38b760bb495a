"""LoRAs: what they are called, and what merging them does to the bits."""

import pytest
import torch
from torch import nn

from actors.engine import kohya
from actors.engine.lora import Delta, Lora, Merger, targets
from actors.engine.lora import _grouped as grouped
from actors.engine.port import Refused


def modules(dtype: torch.dtype = torch.float32) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    unet = nn.ModuleDict({"to_q": nn.Linear(8, 6), "conv": nn.Conv2d(4, 5, 3), "untouched": nn.Linear(3, 3)})
    return targets({"unet": unet.to(dtype)})


def delta(module: nn.Module, rank: int = 2, alpha: float = 1.0, seed: int = 1) -> Delta:
    generator = torch.Generator().manual_seed(seed)
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    out, rest = weight.shape[0], weight.shape[1:]
    down = torch.randn(rank, *rest, generator=generator)
    up = torch.randn(out, rank, *(1 for _ in rest[1:]), generator=generator)
    return Delta(down, up, alpha)


def weights(found: dict[str, nn.Module]) -> dict[str, torch.Tensor]:
    copies: dict[str, torch.Tensor] = {}
    for name, module in found.items():
        assert isinstance(module.weight, torch.Tensor)
        copies[name] = module.weight.detach().clone()
    return copies


@pytest.mark.parametrize("name", ["unet.to_q", "unet.conv"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merge_adds_scaled_products_in_fp32_and_rounds_once(name: str, dtype: torch.dtype) -> None:
    found = modules(dtype)
    before = weights(found)[name]
    one, two = delta(found[name], rank=2, alpha=1.0, seed=1), delta(found[name], rank=3, alpha=6.0, seed=2)
    Merger(found).merge([(Lora({name: one}, 0), 0.7), (Lora({name: two}, 0), -0.4)])

    expected = before.double()
    for each, scale in ((one, 0.7 * 1.0 / 2), (two, -0.4 * 6.0 / 3)):
        expected += scale * torch.einsum("or...,ri...->oi...", each.up.flatten(1).double(), each.down.double())
    got = weights(found)[name]
    error = (got.double() - expected).abs().max()
    step = 2.0**-8 if dtype is torch.bfloat16 else 2.0**-22
    assert error <= step * expected.abs().max()
    assert got.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_order_and_history_of_merges_leave_no_trace(dtype: torch.dtype) -> None:
    found = modules(dtype)
    pristine = weights(found)
    merger = Merger(found)
    loras = [
        Lora({name: delta(found[name], seed=seed) for name in ("unet.to_q", "unet.conv")}, 0) for seed in (1, 2, 3)
    ]
    merger.merge([(loras[0], 1.0)])
    first = weights(found)
    for wanted in ([(loras[1], 3.0), (loras[2], 0.1)], [], [(loras[2], -2.0)], [(loras[0], 1.0)]):
        merger.merge(wanted)
    assert all(torch.equal(tensor, first[name]) for name, tensor in weights(found).items())
    merger.merge([])
    assert all(torch.equal(tensor, pristine[name]) for name, tensor in weights(found).items())


def test_only_touched_weights_are_copied() -> None:
    found = modules()
    merger = Merger(found)
    merger.merge([(Lora({"unet.to_q": delta(found["unet.to_q"])}, 0), 1.0)])
    assert set(merger._pristine) == {"unet.to_q"}


def test_merge_that_broke_in_the_middle_is_mended_by_the_next() -> None:
    found = modules()
    pristine = weights(found)
    merger = Merger(found)
    broken = Delta(torch.randn(2, 7), torch.randn(6, 2), 1.0)
    with pytest.raises(RuntimeError):
        merger.merge([(Lora({"unet.conv": delta(found["unet.conv"]), "unet.to_q": broken}, 0), 1.0)])
    merger.merge([])
    assert all(torch.equal(tensor, pristine[name]) for name, tensor in weights(found).items())


@pytest.mark.parametrize(
    "keys",
    [
        ("unet.to_q.lora_A.weight", "unet.to_q.lora_B.weight"),
        ("unet.to_q.lora_A.default.weight", "unet.to_q.lora_B.default.weight"),
        ("base_model.model.unet.to_q.lora_A.weight", "base_model.model.unet.to_q.lora_B.weight"),
        ("unet.to_q.lora.down.weight", "unet.to_q.lora.up.weight"),
        ("lora_unet_to_q.lora_down.weight", "lora_unet_to_q.lora_up.weight"),
    ],
)
def test_layouts_name_the_same_module(keys: tuple[str, str]) -> None:
    found = grouped(dict.fromkeys(keys, torch.zeros(1)), modules())
    assert {name: set(what) for name, what in found.items()} == {"unet.to_q": {"lora_A", "lora_B"}}


def test_unknown_keys_are_named() -> None:
    with pytest.raises(Refused, match=r"2 keys .*unet\.gone\.lora_A\.weight, unet\.to_q\.dora_scale"):
        grouped({"unet.gone.lora_A.weight": torch.zeros(1), "unet.to_q.dora_scale": torch.zeros(1)}, modules())


@pytest.mark.parametrize(
    ("original", "ours"),
    [
        (
            "input_blocks_4_1_transformer_blocks_0_attn1_to_q",
            "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
        ),
        ("input_blocks_8_1_proj_in", "down_blocks_2_attentions_1_proj_in"),
        ("input_blocks_1_0_in_layers_2", "down_blocks_0_resnets_0_conv1"),
        ("input_blocks_3_0_op", "down_blocks_0_downsamplers_0_conv"),
        (
            "middle_block_1_transformer_blocks_9_ff_net_0_proj",
            "mid_block_attentions_0_transformer_blocks_9_ff_net_0_proj",
        ),
        ("middle_block_2_emb_layers_1", "mid_block_resnets_1_time_emb_proj"),
        ("output_blocks_0_1_proj_out", "up_blocks_0_attentions_0_proj_out"),
        (
            "output_blocks_5_1_transformer_blocks_1_attn2_to_out_0",
            "up_blocks_1_attentions_2_transformer_blocks_1_attn2_to_out_0",
        ),
        ("output_blocks_2_2_conv", "up_blocks_0_upsamplers_0_conv"),
        ("output_blocks_8_0_skip_connection", "up_blocks_2_resnets_2_conv_shortcut"),
        ("label_emb_0_2", "add_embedding_linear_2"),
        ("out_2", "conv_out"),
        ("down_blocks_1_attentions_0_proj_in", "down_blocks_1_attentions_0_proj_in"),
    ],
)
def test_names_of_the_original_sdxl_become_those_of_diffusers(original: str, ours: str) -> None:
    key, value = f"lora_unet_{original}.lora_down.weight", torch.zeros(1)
    assert list(kohya.diffusers_names({key: value}, 2)) == [f"lora_unet_{ours}.lora_down.weight"]
