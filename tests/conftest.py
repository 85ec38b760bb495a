"""Shared fixtures, and the rule that CI skips nothing."""

import os
from collections.abc import Generator, Iterator
from typing import TypeVar

import pytest
from hypothesis import settings

from tests.support.parts import (
    Database,
    DatabaseServer,
    StoreServer,
    running_minio_gateway,
    running_postgres,
    running_seaweedfs,
)

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

_NOTHING_SKIPPED = bool(os.environ.get("CI"))

# CI tells whether this commit broke something, so it tries the same examples each time; new ones are tried at a desk.
settings.register_profile("ci", derandomize=True)
if _NOTHING_SKIPPED:
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def postgres() -> Iterator[DatabaseServer]:
    """PostgreSQL, one for the session."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def database(postgres: DatabaseServer) -> Iterator[Database]:
    """An empty database for one test."""
    fresh = postgres.fresh_database()
    yield fresh
    postgres.drop(fresh)


@pytest.fixture(scope="session")
def s3() -> Iterator[StoreServer]:
    """SeaweedFS, one for the session; every `depot()` of it is a bucket of its own."""
    with running_seaweedfs() as server:
        yield server


@pytest.fixture(scope="session")
def minio_gateway() -> Iterator[StoreServer]:
    """A second S3 store of another make, one for the session."""
    with running_minio_gateway() as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _failed_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _failed_if_skipped((yield))


def _failed_if_skipped(report: Report) -> Report:
    """A skipped test says nothing; in CI, where everything it could want is there, it is a failure."""
    expected = hasattr(report, "wasxfail")
    if _NOTHING_SKIPPED and report.skipped and not expected:
        report.outcome = "failed"
        report.longrepr = f"Skipped, which CI does not allow: {report.longrepr}"
    return report
