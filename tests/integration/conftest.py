"""Renderers outside Ray, on real threads, and what stands for the object store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.actors.driving import Make, running_renderers
from tests.unit.actors.support import Depot, running_depot


@pytest.fixture
def depot() -> Iterator[Depot]:
    with running_depot() as running:
        yield running


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with running_renderers(tmp_path / "cache") as made:
        yield made
