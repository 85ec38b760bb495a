"""Settings: read once, frozen, passed on as values. Each is an environment variable with the prefix ``FARM_``."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Duration = Annotated[timedelta, Field(ge=timedelta(0))]


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FARM_", frozen=True, extra="forbid", hide_input_in_errors=True)


class DepotSettings(_Settings):
    """The S3 store that holds sources, weights and pictures."""

    depot_endpoint: str = Field(description="Host and port of the S3 store, without a scheme.")
    depot_access_key: str = Field(description="Its access key.")
    depot_secret_key: SecretStr = Field(description="Its secret key.")
    depot_bucket: str = Field("halftone", min_length=3, description="The bucket; made when it is missing.")
    depot_region: str = Field("us-east-1", description="The region that links are signed for.")
    depot_secure: bool = Field(True, description="TLS to the store.")


class ApiSettings(DepotSettings):
    """What `farm api` reads."""

    api_database_url: SecretStr = Field(
        description="PostgreSQL, as the role farm_api: postgresql://user:password@host/db."
    )
    api_host: str = Field("127.0.0.1", description="Address that the API listens on.")
    api_port: int = Field(8080, ge=0, le=65535, description="Port that the API listens on.")
    max_campaign_renders: int = Field(10_000_000, ge=1, description="More renders in one campaign are refused.")
    shard_seconds: float = Field(30, gt=0, description="GPU seconds that a shard should take.")


class SchedulerSettings(DepotSettings):
    """What `farm scheduler` reads."""

    scheduler_database_url: SecretStr = Field(description="PostgreSQL, as the role farm_scheduler.")
    metrics_host: str = Field("127.0.0.1", description="Address of the scheduler's /metrics.")
    metrics_port: int = Field(9090, ge=0, le=65535, description="Port of the scheduler's /metrics.")
    ray_address: str = Field(description="Address of the Ray cluster (GCS), host:port.")
    ray_namespace: str = Field("halftone", description="Ray namespace that the renderers live in.")
    fleet_name: str = Field("local", pattern=r"^[a-z0-9-]{1,40}$", description="Name of the fleet.")
    fleet_renderers: int = Field(1, ge=0, le=10_000, description="Renderers to keep while there is work.")
    fleet_cpus: float = Field(1, gt=0, description="CPUs that a renderer asks Ray for.")
    fleet_gpus: float = Field(1, ge=0, description="GPUs that a renderer asks Ray for.")
    fleet_revision: str = Field(
        "1", pattern=r"^[a-z0-9.-]{1,40}$", description="Renderers of another revision are retired."
    )
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
    fake_seconds: float = Field(0.05, ge=0, description="Seconds that the fake engine sleeps for a render.")
    lease_ttl: Duration = Field(
        timedelta(seconds=30), description="A renderer unheard of for this long loses its shards."
    )
    leader_ttl: Duration = Field(timedelta(seconds=15), description="A leader unheard of for this long is replaced.")
    tick: Duration = Field(timedelta(milliseconds=500), description="Time between two plans.")
    link_ttl: Duration = Field(timedelta(hours=2), description="How long the links in an order are good for.")


class MigrateSettings(_Settings):
    """What `farm migrate` reads."""

    owner_database_url: SecretStr = Field(description="PostgreSQL, as the owner of the tables.")
