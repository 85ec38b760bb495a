"""fp8 Linear layers: how near they come, and that LoRAs go into them and out again without a trace."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from actors.engine import lora
from actors.engine.port import LoraFile, Weights
from actors.engine.quantised import LARGEST, Fp8Linear, rows_to_fp8, to_fp8
from actors.engine.tiers import Tiers
from tests.support import tiny
from tests.unit.actors.test_tiers import a_lora, of

TOLERANCE = 0.04
"""Of a product, relative (Frobenius): e4m3 keeps 3 bits behind the point, so each factor is off by 2^-4 at most and by
about 2^-5.3 in the mean; two independent ones give 0.036."""


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_products_come_near_those_in_full_precision(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(256, 128, bias=bias, dtype=dtype)
    tokens = torch.randn(2, 77, 256, dtype=dtype)
    with torch.no_grad():
        expected, got = linear(tokens), Fp8Linear.of(linear)(tokens)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    assert 0 < relative(got, expected) < TOLERANCE


def test_a_row_of_outliers_does_not_coarsen_the_others() -> None:
    torch.manual_seed(1)
    linear = nn.Linear(64, 32, bias=False)
    with torch.no_grad():
        linear.weight[3] *= 1e4
        tokens = torch.randn(10, 64)
        tokens[5] *= 1e4
        expected, got = linear(tokens), Fp8Linear.of(linear)(tokens)
        for row in range(10):
            assert relative(got[row, 4:], expected[row, 4:]) < 2 * TOLERANCE


def test_scales_use_the_whole_range_and_zeros_stay_zeros() -> None:
    rows, scale = rows_to_fp8(torch.tensor([[1.0, -2.0], [0.0, 0.0], [3e-5, 1e-5]]))
    assert rows.float().abs().amax(1).tolist() == [LARGEST, 0.0, LARGEST]
    assert torch.allclose(rows.float() * scale, torch.tensor([[1.0, -2.0], [0.0, 0.0], [3e-5, 1e-5]]), rtol=2**-4)


def test_a_row_gives_the_same_bits_beside_other_neighbours() -> None:
    torch.manual_seed(1)
    layer, tokens = Fp8Linear.of(nn.Linear(64, 32)), torch.randn(4, 7, 64)
    with torch.no_grad():
        together = layer(tokens)
        others = layer(torch.cat([tokens[:1], torch.randn(3, 7, 64) * 100]))
    assert torch.equal(together[0], others[0])


def quantised() -> tuple[dict[str, nn.Module], Fp8Linear]:
    torch.manual_seed(0)
    layer = Fp8Linear.of(nn.Linear(64, 48))
    return lora.targets({"unet": nn.ModuleDict({"to_q": layer})}), layer


def test_lora_goes_into_the_full_weight_and_removing_it_gives_every_bit_back(tmp_path: Path) -> None:
    found, layer = quantised()
    before = layer.weight.detach().clone(), layer.weight8.view(torch.uint8).clone(), layer.scale.clone()
    tiers = Tiers(device=torch.device("cpu"), ram_bytes=2**30, gpu_bytes=0)
    tiers.open("c", found, 2)
    tiers.merge(of(a_lora(tmp_path, 1, ["unet.to_q"])))
    fresh = Fp8Linear.of(nn.Linear(64, 48))
    fresh.weight.data = layer.weight.detach().clone()
    fresh.requantise()
    assert torch.equal(layer.weight8.view(torch.uint8), fresh.weight8.view(torch.uint8))
    assert torch.equal(layer.scale, fresh.scale)
    assert not torch.equal(layer.weight8.view(torch.uint8), before[1])
    tiers.merge(of())
    now = layer.weight, layer.weight8.view(torch.uint8), layer.scale
    assert all(torch.equal(one, other) for one, other in zip(now, before, strict=True))


def test_merge_that_failed_after_it_wrote_the_weight_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, layer = quantised()
    tiers = Tiers(device=torch.device("cpu"), ram_bytes=2**30, gpu_bytes=0)
    tiers.open("c", found, 2)
    one, two = a_lora(tmp_path, 1, ["unet.to_q"]), a_lora(tmp_path, 2, ["unet.to_q"])
    tiers.merge(of(one))
    before = layer.weight.detach().clone(), layer.weight8.view(torch.uint8).clone()

    def failing(_layer: Fp8Linear) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(Fp8Linear, "requantise", failing)
        with pytest.raises(torch.OutOfMemoryError):
            tiers.merge(of(two))
    tiers.merge(of(one))
    assert torch.equal(layer.weight, before[0])
    assert torch.equal(layer.weight8.view(torch.uint8), before[1])


def test_only_linear_layers_of_transformer_blocks_of_suitable_widths_are_replaced() -> None:
    unet: Any = tiny._unet()
    before = {name: type(module) for name, module in unet.named_modules()}
    count = to_fp8(unet)
    changed = {name for name, module in unet.named_modules() if type(module) is not before[name]}
    assert len(changed) == count > 0
    assert all(".transformer_blocks." in name for name in changed)
    assert "mid_block.attentions.0.proj_in" not in changed
    assert "mid_block.attentions.0.transformer_blocks.0.attn2.to_k" in changed
    assert to_fp8(unet) == 0
    odd = nn.ModuleDict({"transformer_blocks": nn.ModuleList([nn.Linear(24, 32), nn.Linear(32, 32)])})
    assert to_fp8(odd) == 1


UNET_TOLERANCE = 0.002
"""Of what the tiny UNet says, relative. Its random part, which is what goes through transformers, is not all of it."""


def unet_says(unet: Any) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        said: Tensor = unet(
            torch.randn(2, 4, 16, 16, generator=generator),
            torch.tensor([500.0, 20.0]),
            torch.randn(2, 77, 64, generator=generator),
            added_cond_kwargs={
                "text_embeds": torch.randn(2, 32, generator=generator),
                "time_ids": torch.tensor([[64.0, 64.0, 0.0, 0.0, 64.0, 64.0]] * 2),
            },
            return_dict=False,
        )[0]
    return said


def test_a_whole_unet_in_fp8_comes_near_and_takes_loras(tmp_path: Path) -> None:
    tiny.build(tmp_path)
    file = LoraFile("anime", tmp_path / "loras" / "anime.safetensors", 0.1)  # at 1 it saturates the attention
    says: list[Tensor] = []
    for fp8 in (False, True):
        torch.manual_seed(7)
        unet: Any = tiny._unet()
        if fp8:
            assert to_fp8(unet)
        tiers = Tiers(device=torch.device("cpu"), ram_bytes=2**30, gpu_bytes=0)
        tiers.open("c", lora.targets({"unet": unet}), 1)
        says.append(unet_says(unet))
        tiers.merge(Weights("c", tmp_path, (file,)))
        says.append(unet_says(unet))
        tiers.merge(Weights("c", tmp_path, ()))
        assert torch.equal(unet_says(unet), says[-2])
    plain, with_lora, plain8, with_lora8 = says
    assert 0 < relative(plain8, plain) < UNET_TOLERANCE
    assert 0 < relative(with_lora8, with_lora) < UNET_TOLERANCE
    assert relative(with_lora, plain) > relative(with_lora8, with_lora)
