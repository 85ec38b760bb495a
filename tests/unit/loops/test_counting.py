"""What renderers report becomes metrics."""

from collections import Counter

from farm.core.ids import CampaignId, Fence, Ordinal, ShardId, TeamId
from farm.core.placement import Head, Queue
from farm.core.records import SpentRow
from farm.core.settle import Ends, NewOutcome, Settled, ShardRow
from farm.loops.counting import count_cache, count_ends, count_gpu, count_settled, count_waits
from farm.loops.mate import Wear
from farm.telemetry import SchedulerMetrics
from farm.usecases.settle_reports import Tally
from schemas.order import Lane
from schemas.report import CacheCounts, Failure, FailureKind, GpuTime


def value(metrics: SchedulerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_what_the_gpu_thread_did_is_counted_by_renderer() -> None:
    metrics = SchedulerMetrics()
    spent = GpuTime(encode=1, denoise=2, decode=3, load=4, swap=5, wait=6, idle=7, passes=8, rows=9)
    count_gpu(metrics, "farm/a/1/0", spent, Wear())
    count_gpu(metrics, "farm/a/1/0", GpuTime(idle=1), Wear())
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
    count_settled(metrics, Tally(succeeded=3, rerolls=4, missed=Counter(structure=2, delta_e=1)), {})
    assert value(metrics, "farm_rerolls_total") == 4
    assert value(metrics, "farm_checks_missed_total", check="structure") == 2
    assert value(metrics, "farm_checks_missed_total", check="delta_e") == 1


def test_what_a_device_has_used_is_counted_as_far_as_it_can_tell() -> None:
    metrics = SchedulerMetrics()
    count_gpu(metrics, "farm/a/1/0", GpuTime(), Wear(12.5, 3, None))
    count_gpu(metrics, "farm/a/1/0", GpuTime(), Wear(0.5, 0, None))
    assert value(metrics, "farm_gpu_energy_joules_total", renderer="farm/a/1/0") == 13.0
    assert value(metrics, "farm_gpu_ecc_errors_total", renderer="farm/a/1/0", kind="corrected") == 3
    assert value(metrics, "farm_gpu_ecc_errors_total", renderer="farm/a/1/0", kind="uncorrected") is None


SHARD = ShardRow(ShardId(1), TeamId(1), CampaignId(1), "e", "c", 50, "leased", Fence("f"), (), 0, 0, 1.0, False)


def outcome(team: int = 1, *, reused: bool = False, kind: FailureKind | None = None) -> NewOutcome:
    failure = None if kind is None else Failure(kind=kind, code="x", detail="X.")
    picture = 7 if reused else None
    return NewOutcome(TeamId(team), CampaignId(1), Ordinal(0), "f", 1, picture_id=picture, failure=failure)


def test_renders_are_counted_by_what_became_of_them_of_the_farm_and_of_each_team() -> None:
    metrics, ends = SchedulerMetrics(), Ends()
    ends.add(Settled(SHARD, (), (outcome(), outcome(), outcome(reused=True))))
    ends.add(Settled(SHARD, (), (outcome(2), outcome(2, kind=FailureKind.BAD_SOURCE))))
    count_ends(metrics, ends, {TeamId(1): "acme", TeamId(2): "zebra"})
    assert [value(metrics, "farm_renders_total", outcome=o) for o in ("succeeded", "reused", "failed")] == [3, 1, 1]
    assert value(metrics, "farm_team_renders_total", team="acme", outcome="succeeded") == 2
    assert value(metrics, "farm_team_renders_total", team="acme", outcome="reused") == 1
    assert value(metrics, "farm_team_renders_total", team="zebra", outcome="failed") == 1
    assert value(metrics, "farm_renders_failed_total", kind="bad_source") == 1
    assert value(metrics, "farm_renders_failed_total", kind="engine") == 0


def test_what_was_charged_is_counted_by_team_and_fleet() -> None:
    metrics = SchedulerMetrics()
    tally = Tally(charged={(TeamId(1), "spot"): SpentRow(30.0, 0.5), (TeamId(1), "own"): SpentRow(6.0, 0.25)})
    for _ in range(2):
        count_settled(metrics, tally, {TeamId(1): "acme"})
    assert value(metrics, "farm_charged_gpu_seconds_total", team="acme", fleet="spot") == 60.0
    assert value(metrics, "farm_charged_money_total", team="acme", fleet="own") == 0.5


def test_what_was_offered_has_waited_as_long_as_it_was_ready() -> None:
    metrics = SchedulerMetrics()
    heads = (Head(ShardId(1), 30.0, 12.0), Head(ShardId(2), 30.0, 70.0), Head(ShardId(3), 30.0, 9000.0))
    bulk = Queue(TeamId(1), CampaignId(1), "e", "c", Lane.BULK, 50, 0.0, heads)
    proof = Queue(TeamId(1), CampaignId(2), "e", "c", Lane.INTERACTIVE, 50, 0.0, (Head(ShardId(4), 1.0, 0.5),))
    count_waits(metrics, [ShardId(1), ShardId(2), ShardId(4)], [bulk, proof])
    assert value(metrics, "farm_shard_wait_seconds_sum", lane="bulk") == 82.0
    assert value(metrics, "farm_shard_wait_seconds_count", lane="bulk") == 2
    assert value(metrics, "farm_shard_wait_seconds_bucket", lane="interactive", le="1.0") == 1


def test_counts_begin_at_zero_before_anything_has_happened() -> None:
    metrics = SchedulerMetrics()
    for name, labels in (
        ("farm_renders_total", {"outcome": "reused"}),
        ("farm_render_retries_total", {"kind": "depot"}),
        ("farm_cache_hits_total", {"kind": "lora"}),
        ("farm_shard_wait_seconds_count", {"lane": "interactive"}),
        ("farm_render_stage_seconds_count", {"stage": "settle"}),
        ("farm_campaign_warnings_total", {"code": "budget_spent"}),
        ("farm_scheduler_unavailable_total", {"code": "fleet_down"}),
        ("farm_garbage_objects_total", {"what": "orphans"}),
    ):
        assert value(metrics, name, **labels) == 0, name
