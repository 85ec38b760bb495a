from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from schemas.style import StyleLora, StyleSpec
from tests.unit.api.serving import Farm, serving
from tests.unit.api.world import CHECKPOINT, KEY, lora_of, tar_of


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The server runs in this process; its log lines must not mix with what the commands print."""
    with capture_logs():
        yield


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Farm]:
    with serving() as running:
        monkeypatch.setenv("FARM_URL", running.url)
        monkeypatch.setenv("FARM_API_KEY", KEY)
        monkeypatch.setenv("FARM_DATA", str(tmp_path / "data"))
        monkeypatch.chdir(tmp_path)
        yield running


@pytest.fixture
def stocked(farm: Farm, tmp_path: Path) -> Farm:
    """With a checkpoint, a LoRA and two styles."""
    (tmp_path / "tiny.tar").write_bytes(tar_of(CHECKPOINT))
    (tmp_path / "anime.safetensors").write_bytes(lora_of())
    farm.client.add_checkpoint("tiny", tmp_path / "tiny.tar")
    farm.client.add_lora("anime", tmp_path / "anime.safetensors")
    farm.client.save_style(StyleSpec(name="anime", loras=(StyleLora(lora="anime"),), steps=10, size="64x64"))
    farm.client.save_style(StyleSpec(name="noir", prompt="{prompt}, noir", steps=10, size="64x64"))
    return farm
