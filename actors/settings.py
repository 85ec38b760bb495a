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
    """LoRAs and pristine weights are kept in (pinned) RAM up to this many bytes."""

    gpu_bytes: int = Field(12 * 2**30, ge=0)
    """The same, on the GPU."""

    attention: str = Field("auto", pattern=r"^(auto|cudnn|flash|efficient|math)$")
    vae: str = Field("auto", pattern=r"^(auto|fp32|half)$")
    """auto: fp32 (TF32 where there is) if the VAE says that it overflows otherwise, else the dtype of the UNet."""

    compile: bool = False
    """Compile the UNet; what was compiled is kept beside the weights."""

    quantise: str = Field("none", pattern=r"^(none|fp8)$")
    identity: Path | None = None
    """Folder of a CLIP vision model (transformers), to measure how much of a subject is kept."""

    encoders: int = Field(1, ge=0, le=64)
    """Processes that check and encode pictures; 0: the publish threads do it."""

    tokenizer: Path | None = None
    """Folder with ``vocab.json`` and ``merges.txt`` of CLIP, for checkpoints that are a single file."""

    fake_seconds: float = Field(0.05, ge=0)
    io_threads: int = Field(4, ge=1, le=64)
