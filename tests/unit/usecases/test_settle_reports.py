"""Reports become outcomes, charges, and knowledge of what a step costs."""

import math

import pytest

from farm.core.ids import RendererName
from farm.usecases.settle_reports import From, Tally, settle_reports
from schemas.report import FailureKind, Measured, RenderReport, RowReport, Seconds, TriedSeed
from tests.support.memory_farm import memory_farm
from tests.support.store_farm import OTHER, OURS, RENDERER, Farm, all_good, back, bad, good, resolved_in

PRICES = {"H100": 3600.0, "*": 360.0}


@pytest.fixture
def farm() -> Farm:
    return memory_farm()


def report(seq: int, shard: int, fence: str | None, rows: list[RowReport]) -> RenderReport:
    return RenderReport(seq=seq, shard=shard, fence=fence or "", epoch=1, rows=tuple(rows))


def settle(farm: Farm, *heard: From) -> Tally:
    with farm.leading() as tx:
        return settle_reports(tx, heard, resolved_in, PRICES)


def test_reports_of_several_renderers_are_settled_and_charged_at_the_price_of_their_gpu(farm: Farm) -> None:
    campaign, session = farm.submit(), farm.greet()
    first, second = farm.take(session)
    tally = settle(
        farm,
        From(RENDERER, "H100 torch", "H100", [report(1, first.id, first.fence, all_good(first))]),
        From(OTHER, "T4 torch", "T4", [report(1, second.id, second.fence, all_good(second))]),
    )
    assert [tally.succeeded, tally.gpu_seconds, tally.money] == pytest.approx([10, 40.0, 20.0 + 2.0])
    assert tally.succeeded_on == {RENDERER, OTHER}
    assert tally.ended == {(first.id, first.fence), (second.id, second.fence)}
    with farm.api.as_team(OURS) as tx:
        spent = tx.spent([campaign])[campaign]
    assert [spent.gpu_seconds, spent.money] == pytest.approx([40.0, 22.0])


def test_what_failed_is_charged_too_and_nothing_is_rendered_there(farm: Farm) -> None:
    farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    rows = [bad(n, FailureKind.ENGINE).model_copy(update={"seconds": Seconds(denoise=2.0)}) for n in range(3)]
    tally = settle(farm, From(RENDERER, "n", "H100", [report(1, shard.id, shard.fence, [*rows, back(3), back(4)])]))
    assert (tally.retried, tally.handed_back) == ([FailureKind.ENGINE] * 3, 2)
    assert [tally.gpu_seconds, tally.money] == pytest.approx([6.0, 6.0])
    assert tally.succeeded_on == set()


def test_a_report_that_comes_again_is_neither_counted_nor_charged_again(farm: Farm) -> None:
    farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    once = From(RENDERER, "n", "H100", [report(1, shard.id, shard.fence, all_good(shard))])
    settle(farm, once)
    again = settle(farm, once)
    assert (again.succeeded, again.gpu_seconds, again.money, again.succeeded_on) == (0, 0.0, 0.0, set())


def test_of_an_old_lease_nothing_is_charged_and_its_pictures_are_unwanted(farm: Farm) -> None:
    farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    tally = settle(farm, From(RENDERER, "n", "H100", [report(1, shard.id, "an old one", all_good(shard))]))
    assert (tally.refused, tally.gpu_seconds, len(tally.unwanted)) == (5, 0.0, 5)


def test_rerolls_and_missed_checks_are_counted_once(farm: Farm) -> None:
    farm.submit(renders=5)
    (shard,) = farm.take(farm.greet())
    tries = (TriedSeed(seed=1, missed=("structure", "edges")), TriedSeed(seed=2, missed=("edges",)), TriedSeed(seed=3))
    rows = [measured(good(shard, n), Measured(tries=tries, kept=kept)) for n, kept in enumerate((1, 2, 2))]
    once = From(RENDERER, "n", "H100", [report(1, shard.id, shard.fence, [*rows, good(shard, 3)])])
    tally = settle(farm, once)
    assert (tally.rerolls, tally.missed) == (6, {"edges": 1})
    again = settle(farm, once)
    assert (again.rerolls, again.missed) == (0, {})


def measured(row: RowReport, found: Measured) -> RowReport:
    assert row.picture is not None
    return row.model_copy(update={"picture": row.picture.model_copy(update={"measured": found})})


def test_a_step_is_learned_by_type_of_gpu_without_the_loading(farm: Farm) -> None:
    """`good` takes a second to load and three to denoise; at a strength of 0.01 a render has a single step."""
    farm.submit()
    first, second = farm.take(farm.greet())
    slow = [
        row.model_copy(update={"seconds": Seconds(load=9.0, denoise=4.0 + 2.0 * (row.ordinal % 2))})
        for row in all_good(second)[:4]
    ]
    settle(
        farm,
        From(RENDERER, "n", "H100", [report(1, first.id, first.fence, [good(first, 0), good(first, 1)])]),
        From(OTHER, "n", "T4", [report(1, second.id, second.fence, slow)]),
    )
    with farm.leading() as tx:
        costs = {cost.gpu: cost for _, cost in tx.costs()}
    assert (costs["H100"].step_seconds, costs["H100"].spread, costs["H100"].renders) == (3.0, 0.0, 2)
    assert (costs["T4"].step_seconds, costs["T4"].renders) == (5.0, 4)
    assert math.isclose(costs["T4"].spread, 1.0)


def test_a_batch_without_anything_to_settle_writes_nothing(farm: Farm) -> None:
    assert settle(farm, From(RendererName("r"), "n", "H100", [])) == Tally()
