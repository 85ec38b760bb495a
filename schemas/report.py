"""What a renderer tells the scheduler."""

from enum import StrEnum

from schemas.base import Wire
from schemas.order import WIRE_MAJOR


class FailureKind(StrEnum):
    """Why a try failed, as far as retrying is concerned. `farm.core.retry` says what follows from each."""

    BAD_SOURCE = "bad_source"  # the pixels will not get better
    BAD_WEIGHTS = "bad_weights"  # wrong digest, keys or shapes
    BAD_PICTURE = "bad_picture"  # the engine gave non-finite or empty pixels
    OUT_OF_VRAM = "out_of_vram"
    DEPOT = "depot"  # a link did not answer, or refused
    RENDERER_DIED = "renderer_died"  # its lease was lost with the process
    ENGINE = "engine"  # anything else raised while rendering


class Failure(Wire):
    kind: FailureKind
    code: str  # stable, snake_case
    detail: str  # one sentence for people


class Tried(StrEnum):
    """What became of one try at a row. Only the scheduler turns it into an outcome."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    HANDED_BACK = "handed_back"  # not begun, or stopped: revoked, cancelled or drained


class Seconds(Wire):
    """Where one row's time went. A pass or a load shared by several rows is divided among them."""

    fetch: float = 0.0
    load: float = 0.0
    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    publish: float = 0.0

    @property
    def gpu(self) -> float:
        return self.load + self.encode + self.denoise + self.decode


class TriedSeed(Wire):
    """One try at a picture and what was measured of it. ``missed`` names the checks that it did not pass.

    ``structure``, ``edges``: SSIM with the source, of luminance and of its edges. ``identity``: cosine of embeddings
    where the renderer has a model for it, else ``structure`` again (``identity_by`` says which). ``delta_e``: mean
    CIEDE2000 to the nearest colour of the palette. ``phash``: 64 bits in hex, near-duplicates differ in few of them.
    """

    seed: int
    structure: float | None = None
    edges: float | None = None
    identity: float | None = None
    identity_by: str = ""  # embedding, structure
    delta_e: float | None = None
    phash: str = ""
    missed: tuple[str, ...] = ()


class Measured(Wire):
    """``kept`` is the index of the try that became the picture."""

    tries: tuple[TriedSeed, ...]
    kept: int

    @property
    def passed(self) -> bool:
        return not self.tries[self.kept].missed


class PublishedRendition(Wire):
    """It lies beside its picture; the key follows from its name and format."""

    name: str
    sha256: str
    bytes: int
    width: int
    height: int
    format: str


class Published(Wire):
    """A picture that lies in the depot, thumbnail and provenance beside it."""

    key: str
    sha256: str
    bytes: int
    width: int
    height: int
    format: str
    renditions: tuple[PublishedRendition, ...] = ()
    measured: Measured | None = None


class RowReport(Wire):
    ordinal: int
    tried: Tried
    fingerprint: str  # hex
    picture: Published | None = None
    failure: Failure | None = None
    seconds: Seconds = Seconds()
    numerics: str = ""  # of the pass it was rendered in; "" is the renderer's own


class Warm(Wire):
    """What a renderer holds, so that placement can send it work it is warm for."""

    engine_key: str = ""  # digest of the EngineKey whose LoRAs are merged now
    checkpoint: str = ""
    loras: tuple[str, ...] = ()  # digests in its cache


class CacheCounts(Wire):
    """Counted since the session began; never falls. Of sources and prompts a load is an encoding."""

    checkpoint_hits: int = 0
    checkpoint_loads: int = 0
    checkpoint_load_seconds: float = 0.0
    lora_hits: int = 0
    lora_loads: int = 0
    lora_load_seconds: float = 0.0
    source_hits: int = 0
    source_loads: int = 0
    source_load_seconds: float = 0.0
    prompt_hits: int = 0
    prompt_loads: int = 0
    prompt_load_seconds: float = 0.0


class GpuTime(Wire):
    """What the GPU thread did with its time, in seconds since the session began; never falls.

    ``wait``: rows were in hand, but their pictures or weights were not there. ``idle``: there was nothing to do.
    """

    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    load: float = 0.0  # checkpoints
    swap: float = 0.0  # LoRAs
    wait: float = 0.0
    idle: float = 0.0
    passes: int = 0
    rows: int = 0  # in all passes: over `passes` times the batch it is how full they were


class Device(Wire):
    """What a renderer renders on, as NVML sees it at one moment; without a GPU, as the operating system sees the
    machine. None where it cannot be told. Energy and errors are counted since the driver was loaded, and never fall.
    """

    uuid: str = ""
    utilisation: float | None = None  # 0 to 1
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    energy_joules: float | None = None
    temperature_celsius: float | None = None
    throttled: tuple[str, ...] = ()  # power, thermal, hardware
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None


class RenderReport(Wire):
    """Rows of one shard that have ended. ``seq`` grows by one with each report of a session."""

    seq: int
    shard: int
    fence: str
    epoch: int
    rows: tuple[RowReport, ...]


class Hello(Wire):
    """How a renderer introduces itself to a scheduler that adopts it."""

    wire: int = WIRE_MAJOR
    name: str
    session: str  # random, new with each start of the actor's process
    node: str
    pid: int
    gpu: str
    numerics: str  # GPU type, driver, torch, kernels, dtype, batch size
    epoch: int
    holds: tuple[tuple[int, str], ...]  # (shard, fence) of what it has not finished reporting


class Collected(Wire):
    """The answer to `collect`: unacknowledged reports, and how the renderer is doing."""

    session: str
    reports: tuple[RenderReport, ...]
    holds: tuple[tuple[int, str], ...]
    waiting: int  # rows not yet begun
    busy: str  # "" when idle, else what the GPU thread does: load, render
    warm: Warm
    cache: CacheCounts
    gpu: GpuTime = GpuTime()
    device: Device = Device()
    fault: str = ""  # why it can't go on, in words; the scheduler ends it
    leaving: bool = False  # it was told to go: it takes no more orders


class Offered(StrEnum):
    """What became of an offer."""

    TAKEN = "taken"
    ALREADY = "already"  # the same shard and fence: a repeated offer does no harm
    STALE_EPOCH = "stale_epoch"
    FULL = "full"
    DRAINING = "draining"
    OTHER_WIRE = "other_wire"
