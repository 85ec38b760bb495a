"""A bulk campaign as the farm is made for: many LoRAs, many strengths, one embedded farm."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from safetensors.torch import save_file

from farm.embedded import EmbeddedFarm
from farm.sdk import Client
from schemas.campaign import Block, CampaignSpec, Render, SourceEntry
from schemas.style import StyleLora, StyleSpec
from tests.support import tiny
from tests.support.farm import PHOTOS, LiveFarm, live_farm

LORAS = 8
STRENGTHS = (0.2, 0.35, 0.5, 0.65, 0.8)
SOURCES = ("coffee.png", "chelsea.png", "astronaut.png", "rocket.jpg", "motorcycle_left.png")
KINDS = ("checkpoint", "lora", "source", "prompt")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint, and LoRAs of ranks 2 to 16 for its attention."""
    at = tmp_path_factory.mktemp("weights")
    tiny.build(at)
    for number in range(LORAS):
        _lora(at / "checkpoint" / "unet", at / f"lora-{number}.safetensors", rank=2 * (number + 1), seed=number)
    return at


def _lora(unet: Path, at: Path, *, rank: int, seed: int) -> None:
    from diffusers import UNet2DConditionModel

    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    model: Any = UNet2DConditionModel.from_pretrained(  # type: ignore[no-untyped-call]
        unet, local_files_only=True, low_cpu_mem_usage=False
    )
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            rows, columns = module.weight.shape
            down, up = torch.randn(rank, columns, generator=generator), torch.randn(rows, rank, generator=generator)
            tensors[f"unet.{name}.lora_A.weight"] = (down / columns**0.5).half()
            tensors[f"unet.{name}.lora_B.weight"] = (up * 6 / rank**0.5).half()
    save_file(tensors, at, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def farm(weights: Path) -> Iterator[LiveFarm]:
    with live_farm({}) as farm:
        farm.client.add_checkpoint("tiny", weights / "checkpoint")
        for number in range(LORAS):
            farm.client.add_lora(f"lora-{number}", weights / f"lora-{number}.safetensors", checkpoint="tiny")
            farm.client.save_style(_style(number))
        yield farm


def _style(number: int) -> StyleSpec:
    """Each has a LoRA of its own, every other one a second beside it."""
    loras = [StyleLora(lora=f"lora-{number}", scale=0.8)]
    if number % 2:
        loras.append(StyleLora(lora=f"lora-{number - 1}", scale=0.4))
    return StyleSpec(
        name=f"style-{number}", checkpoint="tiny", loras=tuple(loras), steps=6, size="128x128", prompt="{prompt}, lit"
    )


def _spec(client: Client) -> CampaignSpec:
    sources = [client.upload_source(PHOTOS / photo) for photo in SOURCES]
    return CampaignSpec(
        name="many LoRAs",
        blocks=(
            Block(
                sources=tuple(SourceEntry(source=source.id) for source in sources),
                styles=tuple(f"style-{number}" for number in range(LORAS)),
                strengths=STRENGTHS,
                prompts=("a cup",),
            ),
        ),
    )


def _counted(farm: LiveFarm) -> dict[str, tuple[float, float, float]]:
    """Hits, loads and seconds of loading by kind, from the scheduler's metrics."""
    port = EmbeddedFarm(farm.data).state.ports["metrics"]
    text = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    found = {
        (sample.name, sample.labels["kind"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("farm_cache_")
    }
    names = ("farm_cache_hits_total", "farm_cache_loads_total", "farm_cache_load_seconds_total")
    return {kind: (found[names[0], kind], found[names[1], kind], found[names[2], kind]) for kind in KINDS}


def _show(counted: dict[str, tuple[float, float, float]]) -> None:
    print(f"\n{'':12}{'hits':>8}{'loads':>8}{'seconds':>9}")
    for kind, (hits, loads, seconds) in counted.items():
        print(f"{kind:12}{hits:8.0f}{loads:8.0f}{seconds:9.2f}")


def test_two_hundred_renders_with_eight_loras_load_nothing_twice(farm: LiveFarm) -> None:
    campaign = farm.client.submit(_spec(farm.client)).id
    ended = farm.client.wait(campaign)
    assert (ended.counts.succeeded, ended.counts.failed) == (LORAS * len(SOURCES) * len(STRENGTHS), 0)
    counted = _counted(farm)
    _show(counted)
    renderers = len(farm.renderer_pids())
    assert counted["checkpoint"][1] <= renderers
    assert counted["lora"][1] <= LORAS * renderers, "a LoRA is read once by each renderer"
    assert counted["source"][1] <= len(SOURCES) * renderers, "a source is encoded once by each renderer"
    assert counted["source"][0] + counted["source"][1] == ended.counts.succeeded
    assert counted["prompt"][0] > counted["prompt"][1]
    _more_strength_changes_more(list(farm.client.renders(campaign)))


def _more_strength_changes_more(renders: list[Render]) -> None:
    """As the renders themselves tell it: SSIM with the source, the mean of each strength."""
    kept = {strength: [r.measured for r in renders if r.strength == strength] for strength in STRENGTHS}
    means = []
    for measured in kept.values():
        values = [m.tries[m.kept].structure for m in measured if m is not None]
        assert len(values) == LORAS * len(SOURCES)
        means.append(sum(value for value in values if value is not None) / len(values))
    assert all(less > more for less, more in pairwise(means)), means
