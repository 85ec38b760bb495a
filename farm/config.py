"""Settings: read once, frozen, passed on as values. Each is an environment variable with the prefix ``FARM_``."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Duration = Annotated[timedelta, Field(ge=timedelta(0))]
_REVISION = r"^[a-z0-9.-]{1,40}$"


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FARM_", frozen=True, extra="forbid", hide_input_in_errors=True)


class FleetSettings(BaseModel):
    """One of several fleets, in FARM_FLEETS; what is left out is as in the settings of the only fleet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9-]{1,40}$")
    renderers: int = Field(1, ge=0, le=10_000)  # at most
    least: int = Field(0, ge=0, le=10_000)
    off_peak_renderers: int | None = Field(None, ge=0, le=10_000)  # at most, in off-peak hours
    cpus: float | None = Field(None, gt=0)
    gpus: float | None = Field(None, ge=0)
    labels: dict[str, str] = {}  # of the Ray nodes that it runs on
    gpu: str | None = None  # the type of GPU, when it is known before one runs
    revision: str | None = Field(None, pattern=_REVISION)  # renderers of another one are retired


class DepotSettings(_Settings):
    """The S3 store that holds sources, weights and pictures."""

    depot_endpoint: str = Field(description="Host and port of the S3 store, without a scheme.")
    depot_access_key: str = Field(description="Its access key.")
    depot_secret_key: SecretStr = Field(description="Its secret key.")
    depot_bucket: str = Field("halftone", min_length=3, description="The bucket; made when it is missing.")
    depot_region: str = Field("us-east-1", description="The region that links are signed for.")
    depot_secure: bool = Field(True, description="TLS to the store.")


class ServiceSettings(DepotSettings):
    """What both services read."""

    schema_wait: Duration = Field(
        timedelta(minutes=5), description="How long a service waits for the tables that it needs before it gives up."
    )


class ApiSettings(ServiceSettings):
    """What `farm api` reads."""

    api_database_url: SecretStr = Field(
        description="PostgreSQL, as the role farm_api: postgresql://user:password@host/db."
    )
    api_host: str = Field("127.0.0.1", description="Address that the API listens on.")
    api_port: int = Field(8080, ge=0, le=65535, description="Port that the API listens on.")
    max_campaign_renders: int = Field(10_000_000, ge=1, description="More renders in one campaign are refused.")
    shard_seconds: float = Field(30, gt=0, description="GPU seconds that a shard should take.")
    currency: str = Field("EUR", pattern=r"^[A-Z]{3}$", description="What prices and budgets are counted in: a label.")


class SchedulerSettings(ServiceSettings):
    """What `farm scheduler` reads."""

    scheduler_database_url: SecretStr = Field(description="PostgreSQL, as the role farm_scheduler.")
    metrics_host: str = Field("127.0.0.1", description="Address of the scheduler's /metrics, /healthz and /readyz.")
    metrics_port: int = Field(9090, ge=0, le=65535, description="Port of the same.")
    ray_address: str = Field(description="Address of the Ray cluster (GCS), host:port.")
    ray_namespace: str = Field("halftone", description="Ray namespace that the renderers live in.")
    fleet_patience: Duration = Field(
        timedelta(minutes=1),
        description="A scheduler that Ray has not answered for this long ends, so that it is started anew.",
    )
    fleet_name: str = Field("local", pattern=r"^[a-z0-9-]{1,40}$", description="Name of the fleet.")
    fleet_renderers: int = Field(1, ge=0, le=10_000, description="Renderers that it may have at most.")
    fleet_least: int = Field(0, ge=0, le=10_000, description="Renderers that it keeps even without work.")
    fleet_off_peak_renderers: int | None = Field(
        None, ge=0, le=10_000, description="Renderers at most in off-peak hours; without it, the same as otherwise."
    )
    fleet_labels: dict[str, str] = Field({}, description="Labels of the Ray nodes that it runs on, as JSON.")
    fleets: tuple[FleetSettings, ...] = Field(
        (), description="Several fleets as a JSON list, in place of the one that the settings above describe."
    )
    fleet_drain_time: Duration = Field(
        timedelta(minutes=5), description="Renderers are woken until the backlog would be through in this time."
    )
    fleet_idle_time: Duration = Field(
        timedelta(minutes=10), description="A renderer without work for this long is retired."
    )
    off_peak: tuple[str, ...] = Field(
        (), description='Off-peak hours in UTC, as a JSON list such as ["22:00-06:00"]; none: always.'
    )
    drain_time: Duration = Field(
        timedelta(seconds=20), description="Rows that are still in the GPU this long after a notice to go are stopped."
    )
    garbage_grace: Duration = Field(
        timedelta(hours=6), description="An object that nothing refers to is deleted after this long; above the link's."
    )
    garbage_every: Duration = Field(timedelta(hours=1), description="Time between two looks for such objects.")
    keep_events: Duration = Field(timedelta(days=30), description="How long events are kept.")
    keep_attempts: Duration = Field(timedelta(days=90), description="How long failed tries are kept on record.")
    fleet_cpus: float = Field(1, gt=0, description="CPUs that a renderer asks Ray for.")
    fleet_gpus: float = Field(1, ge=0, description="GPUs that a renderer asks Ray for.")
    fleet_revision: str = Field("1", pattern=_REVISION, description="Renderers of another revision are retired.")
    engine: str = Field("diffusers", pattern=r"^(diffusers|fake)$", description="diffusers, or fake: draws and sleeps.")
    engine_device: str = Field("auto", description="auto, cpu or cuda.")
    engine_batch: int = Field(4, ge=1, le=64, description="Rows that go through one UNet pass together.")
    engine_threads: int = Field(0, ge=0, description="CPU threads of a renderer; 0 leaves it to torch.")
    engine_cache: Path = Field(
        Path("/var/cache/halftone/weights"), description="Folder where a renderer keeps weights."
    )
    engine_cache_bytes: int = Field(50 * 2**30, ge=2**20, description="How much that folder may hold.")
    engine_tokenizer: Path | None = Field(
        None, description="Folder with CLIP's vocab.json and merges.txt, for checkpoints that are a single file."
    )
    engine_ram_bytes: int = Field(
        8 * 2**30, ge=0, description="RAM of a renderer for LoRAs and pristine weights, in bytes."
    )
    engine_gpu_bytes: int = Field(12 * 2**30, ge=0, description="The same on the GPU, beside the checkpoint itself.")
    engine_attention: str = Field(
        "auto",
        pattern=r"^(auto|cudnn|flash|efficient|math)$",
        description="Attention kernel: auto (the best there is), cudnn, flash, efficient, math.",
    )
    engine_vae: str = Field(
        "auto",
        pattern=r"^(auto|fp32|half)$",
        description="Precision of the VAE: auto (fp32 where it says that it overflows otherwise), fp32, half.",
    )
    engine_compile: bool = Field(False, description="Compile the UNet; what was compiled is kept in the cache folder.")
    engine_quantise: str = Field(
        "none", pattern=r"^(none|fp8)$", description="fp8: smaller weights, other pixels; numerics keys name it."
    )
    engine_identity: Path | None = Field(
        None, description="Folder with a CLIP vision model that measures how much of a subject is kept."
    )
    engine_encoders: int = Field(
        1, ge=0, le=64, description="Processes of a renderer that check and encode pictures; 0: its own threads do it."
    )
    fake_seconds: float = Field(0.05, ge=0, description="Seconds that the fake engine sleeps for a render.")
    lease_ttl: Duration = Field(
        timedelta(seconds=30), description="A renderer unheard of for this long loses its shards."
    )
    leader_ttl: Duration = Field(timedelta(seconds=15), description="A leader unheard of for this long is replaced.")
    tick: Duration = Field(timedelta(milliseconds=500), description="Time between two plans.")
    link_ttl: Duration = Field(timedelta(hours=2), description="How long the links in an order are good for.")


class MigrateSettings(_Settings):
    """What `farm migrate` and operators' verbs read."""

    owner_database_url: SecretStr = Field(description="PostgreSQL, as the owner of the tables.")


class RoleSettings(_Settings):
    """What `farm migrate --roles` reads beside that: whom it lets log in, and with which password."""

    api_database_url: SecretStr
    scheduler_database_url: SecretStr
