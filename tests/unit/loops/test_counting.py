"""What renderers report becomes metrics."""

from collections import Counter

from farm.loops.counting import count_cache, count_gpu, count_settled
from farm.telemetry import SchedulerMetrics
from farm.usecases.settle_reports import Tally
from schemas.report import CacheCounts, GpuTime


def value(metrics: SchedulerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_what_the_gpu_thread_did_is_counted_by_renderer() -> None:
    metrics = SchedulerMetrics()
    spent = GpuTime(encode=1, denoise=2, decode=3, load=4, swap=5, wait=6, idle=7, passes=8, rows=9)
    count_gpu(metrics, "farm/a/1/0", spent)
    count_gpu(metrics, "farm/a/1/0", GpuTime(idle=1))
    seconds = {
        doing: value(metrics, "farm_renderer_gpu_seconds_total", renderer="farm/a/1/0", doing=doing)
        for doing in GpuTime.model_fields.keys() - {"passes", "rows"}
    }
    assert seconds == {"encode": 1, "denoise": 2, "decode": 3, "load": 4, "swap": 5, "wait": 6, "idle": 8}
    assert value(metrics, "farm_renderer_passes_total", renderer="farm/a/1/0") == 8
    assert value(metrics, "farm_renderer_pass_rows_total", renderer="farm/a/1/0") == 9


def test_every_cache_is_counted_and_seconds_are_saved_by_warm_weights_only() -> None:
    metrics = SchedulerMetrics()
    counts = CacheCounts(lora_hits=2, source_hits=3, prompt_loads=4, prompt_load_seconds=0.5)
    count_cache(metrics, counts, {"checkpoint": 10.0, "lora": 1.5})
    assert value(metrics, "farm_cache_saved_seconds_total", kind="lora") == 3.0
    assert value(metrics, "farm_cache_saved_seconds_total", kind="source") is None
    assert value(metrics, "farm_cache_hits_total", kind="source") == 3
    assert value(metrics, "farm_cache_loads_total", kind="prompt") == 4
    assert value(metrics, "farm_cache_load_seconds_total", kind="prompt") == 0.5


def test_rerolls_and_missed_checks_are_counted() -> None:
    metrics = SchedulerMetrics()
    count_settled(metrics, Tally(succeeded=3, rerolls=4, missed=Counter(structure=2, delta_e=1)))
    assert value(metrics, "farm_rerolls_total") == 4
    assert value(metrics, "farm_checks_missed_total", check="structure") == 2
    assert value(metrics, "farm_checks_missed_total", check="delta_e") == 1
