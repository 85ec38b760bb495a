"""The composition root: settings become parts. Plain functions, no container.

What only one of the processes needs is imported in its function: `farm --help` loads neither Ray nor a database.
"""

import os
import secrets
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from farm.bootstrap.observing import DepotObserver, StoreObserver
from farm.config import ApiSettings, DepotSettings, FleetSettings, MigrateSettings, SchedulerSettings
from farm.core.errors import BadRequest
from farm.core.ids import mint
from farm.telemetry import PartMetrics

if TYPE_CHECKING:
    from farm.depot.s3 import S3Depot
    from farm.fleet.ray_fleet import Kind, RendererSettings
    from farm.loops.janitor import Upkeep
    from farm.loops.scheduler import Pace
    from farm.store.postgres import PostgresStore

S = TypeVar("S", bound=BaseSettings)

_ALL: tuple[type[BaseSettings], ...] = (ApiSettings, SchedulerSettings, MigrateSettings)
_NOT_SETTINGS = {"FARM_DATA", "FARM_URL", "FARM_API_KEY", "FARM_INSTANCE", "FARM_PART"}
"""What the CLI and the embedded farm read or set."""


class SystemClock:
    """The real `Clock`."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def random_bits(self) -> int:
        return secrets.randbits(64)


def read(kind: type[S]) -> S:
    """Settings from the environment. Raises `BadRequest`, which names every fault at once."""
    _refuse_unknown()
    try:
        return kind()
    except ValidationError as error:
        faults = "; ".join(f"FARM_{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors())
        raise BadRequest(f"The settings in the environment are not right. {faults}", code="bad_settings") from error


def _refuse_unknown() -> None:
    """A setting that nobody reads is a typing error that would pass for the default."""
    known = {f"FARM_{name.upper()}" for kind in _ALL for name in kind.model_fields} | _NOT_SETTINGS
    unknown = sorted(name for name in os.environ if name.startswith("FARM_") and name not in known)
    if unknown:
        near = [f"{name} (did you mean {get_close_matches(name, known, 1, 0)[0]}?)" for name in unknown]
        raise BadRequest(f"There is no such setting: {', '.join(near)}.", code="bad_settings")


def depot_of(settings: DepotSettings, metrics: PartMetrics | None = None) -> "S3Depot":
    from farm.depot.s3 import S3Depot

    return S3Depot(
        endpoint=settings.depot_endpoint,
        access_key=settings.depot_access_key,
        secret_key=settings.depot_secret_key.get_secret_value(),
        bucket=settings.depot_bucket,
        region=settings.depot_region,
        secure=settings.depot_secure,
        observer=None if metrics is None else DepotObserver(metrics),
    )


def store_of(url: SecretStr, metrics: PartMetrics, *, pool: int = 8) -> "PostgresStore":
    from farm.store.postgres import PostgresStore

    observer = StoreObserver(metrics)
    store = PostgresStore(url.get_secret_value(), pool=pool, observer=observer)
    observer.show_pool(store)
    return store


def upkeep_of(settings: SchedulerSettings) -> "Upkeep":
    """Raises `BadRequest` when garbage would go before its renderer could report it."""
    from farm.loops.janitor import Upkeep
    from farm.usecases.sweep_tables import Keep

    return Upkeep(
        grace=settings.garbage_grace,
        every=settings.garbage_every,
        keep=Keep(events=settings.keep_events, attempts=settings.keep_attempts),
        lease_ttl=settings.lease_ttl,
        link_ttl=settings.link_ttl,
    )


def pace_of(settings: SchedulerSettings) -> "Pace":
    """Raises `BadRequest` when hours cannot be read."""
    from farm.core.oversee import Scale
    from farm.core.scaling import FleetSpec, parse_window
    from farm.loops.scheduler import Pace

    fleets = tuple(
        FleetSpec(
            name=fleet.name,
            prefix=f"farm/{fleet.name}/{fleet.revision or settings.fleet_revision}/",
            least=fleet.least,
            most=fleet.renderers,
            off_peak_most=fleet.off_peak_renderers,
            gpu=fleet.gpu,
        )
        for fleet in fleets_of(settings)
    )
    return Pace(
        scale=Scale(
            fleets=fleets,
            drain_seconds=settings.fleet_drain_time.total_seconds(),
            idle_seconds=settings.fleet_idle_time.total_seconds(),
            off_peak=tuple(parse_window(text) for text in settings.off_peak),
        ),
        tick=settings.tick,
        lease_ttl=settings.lease_ttl,
        leader_ttl=settings.leader_ttl,
        link_ttl=settings.link_ttl,
        drain_time=settings.drain_time,
    )


def fleets_of(settings: SchedulerSettings) -> tuple[FleetSettings, ...]:
    """The fleets of FARM_FLEETS, or the one that the FARM_FLEET_ settings describe."""
    only = FleetSettings(
        name=settings.fleet_name,
        renderers=settings.fleet_renderers,
        least=settings.fleet_least,
        off_peak_renderers=settings.fleet_off_peak_renderers,
        labels=settings.fleet_labels,
    )
    return settings.fleets or (only,)


def kinds_of(settings: SchedulerSettings) -> "tuple[Kind, ...]":
    """What renderers of each fleet ask Ray for; what a fleet leaves out is as in the FARM_FLEET_ settings."""
    from farm.fleet.ray_fleet import Kind

    return tuple(
        Kind(
            name=fleet.name,
            cpus=settings.fleet_cpus if fleet.cpus is None else fleet.cpus,
            gpus=settings.fleet_gpus if fleet.gpus is None else fleet.gpus,
            labels=fleet.labels,
        )
        for fleet in fleets_of(settings)
    )


def renderer_settings(settings: SchedulerSettings, name: str) -> "RendererSettings":
    from farm.fleet.ray_fleet import RendererSettings

    return RendererSettings(
        name=name,
        engine=settings.engine,
        device=settings.engine_device,
        batch=settings.engine_batch,
        threads=settings.engine_threads,
        cache=settings.engine_cache,
        cache_bytes=settings.engine_cache_bytes,
        ram_bytes=settings.engine_ram_bytes,
        gpu_bytes=settings.engine_gpu_bytes,
        attention=settings.engine_attention,
        vae=settings.engine_vae,
        compile=settings.engine_compile,
        quantise=settings.engine_quantise,
        identity=settings.engine_identity,
        encoders=settings.engine_encoders,
        fake_seconds=settings.fake_seconds,
        tokenizer=settings.engine_tokenizer,
    )


def new_key(owner_url: str, team: str, label: str = "first") -> str:
    """A new API key for a team, made when it is not there; shown once, kept as a digest."""
    from farm.store.operators import add_key

    clock = SystemClock()

    def new_id() -> int:
        return mint(clock.now(), clock.random_bits())

    return add_key(owner_url, team=team, name=label, mint=new_id, secret=secrets.token_hex(32))
