"""The arms of `ops.bench.peers`: the settings that came out best, and all that were tried (``--tune``)."""

from collections.abc import Sequence
from itertools import product

from ops.bench._halftone import HalftoneNoOps
from ops.bench._halftone_farm import HalftoneFarm
from ops.bench._load import Arm, Load, no_ops
from ops.bench._own_databases import Databases
from ops.bench._pgqueuer import PgQueuer
from ops.bench._procrastinate import Procrastinate
from ops.bench._ray_data import RayData
from ops.bench.queue import Bench

GPUS = 4

Pair = tuple[Arm, Load]


def no_work(bench: Bench, databases: Databases, *, quick: bool) -> list[Pair]:
    ours, pgqueuer, procrastinate, ray = _sizes(quick)
    return [
        (HalftoneNoOps(bench, 500, 8), ours),
        (HalftoneNoOps(bench, 50, 8), ours),
        (HalftoneNoOps(bench, 50, 8, orders=True), no_ops(ours.renders // 5)),
        (PgQueuer(databases, 500, 3), pgqueuer),
        (PgQueuer(databases, 500, 2, results=True), pgqueuer),
        (Procrastinate(databases, 1, 2), procrastinate),
        (RayData(databases, 4), ray),
        (RayData(databases, 4, results=True), ray),
    ]


def with_work(bench: Bench, databases: Databases) -> list[Arm]:
    return [
        HalftoneFarm(bench, 0.5, tick=0.1),
        PgQueuer(databases, 5, GPUS, split=True),
        PgQueuer(databases, 5, GPUS, split=True, help=True),
        Procrastinate(databases, 2, GPUS, split=True),
        Procrastinate(databases, 2, GPUS, split=True, help=True),
        RayData(databases, 32, GPUS),
    ]


def all_no_work(bench: Bench, databases: Databases, *, quick: bool) -> list[Pair]:
    ours, pgqueuer, procrastinate, ray = _sizes(quick)
    found: list[Pair] = []
    for rows, renderers in product((50, 500), (4, 8, 16)):
        found.append((HalftoneNoOps(bench, rows, renderers), ours))
    for workers, batch, results in product((1, 2, 3, 4), (100, 500, 1_000), (False, True)):
        found.append((PgQueuer(databases, batch, workers, results=results), pgqueuer))
    for workers, concurrency in product((1, 2, 4, 8), (1, 10, 50)):
        found.append((Procrastinate(databases, concurrency, workers), procrastinate))
    for blocks, results in product((2, 4, 8, 16), (False, True)):
        found.append((RayData(databases, blocks, results=results), ray))
    return found


def all_with_work(bench: Bench, databases: Databases) -> Sequence[Arm]:
    found: list[Arm] = [HalftoneFarm(bench, *each) for each in product((0.5, 1.0, 2.0, 4.0), (0.1, 0.5))]
    for batch, (split, others) in product((2, 5, 10), ((False, False), (True, False), (True, True))):
        found.append(PgQueuer(databases, batch, GPUS, split=split, help=others))
    for concurrency, (split, others) in product((1, 2), ((False, False), (True, False), (True, True))):
        found.append(Procrastinate(databases, concurrency, GPUS, split=split, help=others))
    found += [RayData(databases, blocks, GPUS) for blocks in (16, 32, 64, 128)]
    return [*found, RayData(databases, 64, GPUS, ordered=False)]


def latencies(bench: Bench, databases: Databases, count: int) -> dict[str, list[float]]:
    return {
        "halftone": HalftoneFarm(bench, 30.0).latencies(count),
        "halftone, ticks of 0.1 s": HalftoneFarm(bench, 30.0, tick=0.1).latencies(count),
        "pgqueuer": PgQueuer(databases, 1, 1).latencies(count),
        "procrastinate": Procrastinate(databases, 1, 1).latencies(count),
    }


def _sizes(quick: bool) -> tuple[Load, Load, Load, Load]:
    """Large enough for seconds of work: Procrastinate would take minutes for what Ray Data does in one."""
    sizes = (10_000, 5_000, 500, 20_000) if quick else (200_000, 50_000, 5_000, 1_000_000)
    ours, pgqueuer, procrastinate, ray = map(no_ops, sizes)
    return ours, pgqueuer, procrastinate, ray
