"""The comparison with peers, as far as it needs none of them."""

import sys

import pytest

from ops.bench import peers
from ops.bench._load import Load, Ran, no_ops


class Told:
    """An arm that takes as long as it is told."""

    system = settings = "told"

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds)

    def run(self, load: Load) -> Ran:
        return Ran(load.renders, self._seconds.pop(0), 0.0)


def test_without_its_group_it_says_so_and_ends_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "PEERS", ("no_such_distribution",))
    monkeypatch.setattr(sys, "argv", ["peers.py", "--quick"])
    peers.main()
    said = capsys.readouterr().out
    assert "no_such_distribution" in said
    assert ".[bench]" in said


def test_arms_take_turns() -> None:
    order: list[str] = []
    first, second = Told(1.0, 3.0), Told(2.0, 4.0)
    ran = peers.run_in_turn([(first, no_ops(6)), (second, no_ops(12))], 2, order.append)
    assert [[one.seconds for one in each] for each in ran] == [[1.0, 3.0], [2.0, 4.0]]
    assert [line[:10] for line in order] == ["Run 1 of 2", "Run 1 of 2", "Run 2 of 2", "Run 2 of 2"]


def test_figures_give_the_median_and_the_spread() -> None:
    ran = [Ran(60, seconds, 0.5) for seconds in (1.0, 2.0, 6.0)]
    found = peers.figures_of(Told(), no_ops(60), ran)
    assert (found["seconds"], found["seconds_least"], found["seconds_most"]) == (2.0, 1.0, 6.0)
    assert (found["renders_per_second"], found["renders_per_second_most"]) == (30.0, 60.0)


def test_halftones_best_stands_against_the_best_peer() -> None:
    arms = [
        {"system": "halftone", "renders_per_second": 50.0, "seconds": 4.0},
        {"system": "halftone", "renders_per_second": 10.0, "seconds": 5.0},
        {"system": "pgqueuer", "renders_per_second": 25.0, "seconds": 6.0},
        {"system": "ray data", "renders_per_second": 500.0, "seconds": 5.0},
    ]
    assert peers.ratio(arms, "renders_per_second", durable=True) == 2.0
    assert peers.ratio(arms, "renders_per_second", durable=False) == 0.1
    assert peers.ratio(arms, "seconds", durable=False) == 1.25
