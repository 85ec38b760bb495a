"""What is computed with is chosen by the settings and the GPU's generation, and stands in the numerics key."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend

from actors.engine.kernels import Kernels, _attention, device_of
from actors.engine.numerics import numerics
from actors.settings import RendererSettings

CPU = torch.device("cpu")


def settings(**changes: Any) -> RendererSettings:
    return RendererSettings(name="farm/test/1/0", cache=Path("nowhere"), **{"device": "cpu", **changes})


def test_hopper_prefers_cudnns_attention_and_ampere_flash() -> None:
    assert _attention("auto", 9)[:2] == (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION)
    assert _attention("auto", 8)[0] == SDPBackend.FLASH_ATTENTION
    assert SDPBackend.MATH in _attention("auto", 8)  # head sizes that the others don't take


@pytest.mark.parametrize("name", ["cudnn", "flash", "efficient"])
def test_a_named_attention_gives_way_only_to_plain_arithmetic(name: str) -> None:
    first, *rest = _attention(name, 9)
    assert first.name == f"{name.upper()}_ATTENTION"
    assert rest == [SDPBackend.MATH]


@pytest.mark.parametrize("changes", [{"compile": True}, {"quantise": "fp8"}, {"vae": "half"}])
def test_whatever_changes_bits_stands_in_the_numerics_key(changes: dict[str, Any]) -> None:
    plain, changed = (numerics(CPU, Kernels(each, CPU)) for each in (settings(), settings(**changes)))
    assert changed != plain
    assert "dtype=float32" in changed
    assert f"torch={torch.__version__}" in changed


def test_the_cpu_is_taken_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(settings(device="auto")) == CPU


def test_the_precision_of_products_is_what_it_was_after_the_vae() -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    with pytest.raises(RuntimeError), Kernels(settings(), CPU).vae():
        raise RuntimeError("no memory")
    assert torch.backends.cuda.matmul.fp32_precision == before
