"""What renderers and their GPUs do. The figures come with their reports; the scheduler exposes them."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class GpuMetrics:
    """By renderer. *view* is the registry of what only a leader knows; what counts up goes into *registry*."""

    def __init__(self, registry: CollectorRegistry, view: CollectorRegistry) -> None:
        self.info = Gauge(
            "farm_renderer_info",
            "1; where a renderer runs and on what: join it to give other series their fleet.",
            ["renderer", "fleet", "node", "gpu"],
            registry=view,
        )
        self.utilisation = _gauge("farm_gpu_utilisation_ratio", "Share of time with a kernel running, 0 to 1.", view)
        self.memory_used = _gauge("farm_gpu_memory_used_bytes", "Memory in use, by all processes.", view)
        self.memory_total = _gauge("farm_gpu_memory_total_bytes", "Memory that there is.", view)
        self.power = _gauge("farm_gpu_power_watts", "Power drawn.", view)
        self.power_limit = _gauge("farm_gpu_power_limit_watts", "Power that it may draw.", view)
        self.temperature = _gauge("farm_gpu_temperature_celsius", "Temperature.", view)
        self.throttled = Gauge(
            "farm_gpu_throttled",
            "1 while the clocks are held down, by reason: power, thermal, hardware.",
            ["renderer", "reason"],
            registry=view,
        )
        self.energy = Counter("farm_gpu_energy_joules_total", "Energy used.", ["renderer"], registry=registry)
        self.ecc = Counter(
            "farm_gpu_ecc_errors_total",
            "Memory errors by kind: corrected, uncorrected.",
            ["renderer", "kind"],
            registry=registry,
        )
        self.seconds = Counter(
            "farm_renderer_gpu_seconds_total",
            "Seconds of a renderer's GPU thread by what it did: encode, denoise, decode, load, swap, wait, idle.",
            ["renderer", "doing"],
            registry=registry,
        )
        self.passes = Counter("farm_renderer_passes_total", "Passes of the UNet.", ["renderer"], registry=registry)
        self.pass_rows = Counter(
            "farm_renderer_pass_rows_total", "Rows in those passes, padding left out.", ["renderer"], registry=registry
        )


class FleetMetrics:
    """By fleet."""

    def __init__(self, registry: CollectorRegistry, view: CollectorRegistry) -> None:
        self.renderers = Gauge(
            "farm_renderers",
            "Renderers by state: starting, idle, busy, draining, quarantined.",
            ["fleet", "state"],
            registry=view,
        )
        self.wanted = Gauge("farm_renderers_wanted", "Renderers that the work asks for.", ["fleet"], registry=view)
        self.most = Gauge("farm_renderers_most", "Renderers that there may be.", ["fleet"], registry=view)
        self.starting_seconds = Gauge(
            "farm_renderer_starting_seconds",
            "How long the renderer has waited that waits longest for its node; 0 when none does.",
            ["fleet"],
            registry=view,
        )
        self.price = Gauge(
            "farm_renderer_price_per_hour",
            "What a renderer costs an hour, as operators set it.",
            ["fleet"],
            registry=view,
        )
        self.nodes_draining = Gauge("farm_nodes_draining", "Nodes that were told to go.", registry=view)
        self.drains = Counter(
            "farm_renderer_drains_total",
            "Renderers told to go, by why: node (theirs goes), revision (another one is wanted), idle.",
            ["fleet", "why"],
            registry=registry,
        )
        self.losses = Counter(
            "farm_renderer_losses_total",
            "Renderers lost, by how: died, hung, fault (its GPU thread came to an end).",
            ["fleet", "how"],
            registry=registry,
        )
        self.quarantines = Counter("farm_quarantines_total", "Renderers put into quarantine.", registry=registry)


def _gauge(name: str, what: str, view: CollectorRegistry) -> Gauge:
    return Gauge(name, what, ["renderer"], registry=view)
