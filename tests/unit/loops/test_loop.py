"""A service runs until it is told to stop, whatever does not answer meanwhile."""

import threading
from collections.abc import Callable

import pytest

from farm.core.errors import DepotDown, FarmError, LeadershipLost, StoreDown
from farm.loops.loop import run


class Service:
    """Each turn does the next of *turns*; after the last it asks to be stopped."""

    def __init__(self, *turns: FarmError | None) -> None:
        self.turns, self.stopping = list(turns), threading.Event()
        self.said: list[str] = []

    def run_once(self) -> None:
        error = self.turns.pop(0)
        if not self.turns:
            self.stopping.set()
        self.said.append("turn")
        if error is not None:
            raise error

    def trouble(self, error: FarmError) -> None:
        self.said.append(error.code)

    def stop(self) -> None:
        self.said.append("stop")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.loops.loop._FIRST_PAUSE", 0.0)


def test_turns_follow_one_another_until_it_is_stopped() -> None:
    service = Service(None, None, None)
    run(service, service.stopping)
    assert service.said == ["turn", "turn", "turn", "stop"]


def test_a_part_that_does_not_answer_costs_a_turn_and_not_the_process() -> None:
    service = Service(StoreDown("no"), None, DepotDown("no"), None)
    run(service, service.stopping)
    assert service.said == ["turn", "store_down", "turn", "turn", "depot_down", "turn", "stop"]


@pytest.mark.parametrize("error", [LeadershipLost("over"), FarmError("a mistake")])
def test_what_waiting_does_not_mend_ends_the_service_after_its_last_call(error: FarmError) -> None:
    service = Service(error, None)
    with pytest.raises(FarmError):
        run(service, service.stopping)
    assert service.said == ["turn", "stop"]


def test_pauses_grow_with_each_failure_and_begin_again_after_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("farm.loops.loop._FIRST_PAUSE", 0.5)
    monkeypatch.setattr("farm.loops.loop.random.uniform", lambda _low, _high: 1.0)
    service = Service(*[StoreDown("no")] * 7, None, StoreDown("no"), None)
    monkeypatch.setattr(service.stopping, "wait", _noted(pauses))
    run(service, service.stopping)
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10, 0.5]


def _noted(pauses: list[float]) -> Callable[[float], bool]:
    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return False

    return wait
