"""What a renderer is told when it is made."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class RendererSettings(BaseModel):
    """Frozen, and all plain values: it travels to the renderer's process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    engine: str = Field("diffusers", pattern=r"^(diffusers|fake)$")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    batch: int = Field(4, ge=1, le=64)
    threads: int = Field(0, ge=0)
    """CPU threads of torch; 0 leaves it to torch."""

    cache: Path
    cache_bytes: int = Field(50 * 2**30, ge=2**20)
    ram_bytes: int = Field(8 * 2**30, ge=0)
    """LoRAs read from disk are kept up to this many bytes."""

    tokenizer: Path | None = None
    """Folder with ``vocab.json`` and ``merges.txt`` of CLIP, for checkpoints that are a single file."""

    fake_seconds: float = Field(0.05, ge=0)
    io_threads: int = Field(4, ge=1, le=64)
