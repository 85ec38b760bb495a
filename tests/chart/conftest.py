"""A release for each set of values, and failures that say everything that was found."""

from typing import cast

import pytest

from tests.chart.rendering import Release
from tests.chart.variants import VARIANTS, rendered


@pytest.fixture(params=sorted(VARIANTS))
def release(request: pytest.FixtureRequest) -> Release:
    return rendered(cast("str", request.param))


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Most tests here are `faults == []`: pytest would show the first fault and count the rest."""
    if op == "==" and right == [] and isinstance(left, list):
        return [f"{len(left)} faults:", *(str(one) for one in left[:20])]
    return None
