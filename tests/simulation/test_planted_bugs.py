"""The simulator is tested too: each bug that is planted is noticed, by the check that is there for it."""

import pytest

from tests.simulation.bugs import BUGS, Bug
from tests.simulation.world import SMALL, run_seed


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_noticed(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch.setattr)
    noticed: list[str] = []
    for seed in range(bug.within):
        violation = run_seed(seed, SMALL, faults=bug.faults).violation
        if violation is not None:
            noticed.append(violation.check)
            if violation.check in bug.checks:
                return
    pytest.fail(f"{bug.name} was not noticed in {bug.within} seeds; other checks that spoke up: {noticed}")
