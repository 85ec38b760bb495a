"""Who may work on a shard, until when."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.core.ids import Fence, Session, ShardId
from farm.core.lease import Lease, LeaseLost, accepts

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TTL = timedelta(seconds=30)
LEASE = Lease(ShardId(1), Session("s"), Fence("f"), NOW + TTL)


@given(st.timedeltas(timedelta(0), TTL - timedelta(microseconds=1)))
def test_a_lease_is_extended_from_now_not_from_its_old_expiry(passed: timedelta) -> None:
    renewed = LEASE.renewed(now=NOW + passed, ttl=TTL)
    assert renewed.expires_at == NOW + passed + TTL
    assert (renewed.shard, renewed.session, renewed.fence) == (LEASE.shard, LEASE.session, LEASE.fence)


@given(st.timedeltas(TTL, timedelta(days=9)))
def test_an_expired_lease_cannot_be_renewed(passed: timedelta) -> None:
    assert LEASE.expired(NOW + passed)
    with pytest.raises(LeaseLost):
        LEASE.renewed(now=NOW + passed, ttl=TTL)


def test_a_lease_ends_at_the_moment_of_its_expiry() -> None:
    assert not LEASE.expired(LEASE.expires_at - timedelta(microseconds=1))
    assert LEASE.expired(LEASE.expires_at)


@pytest.mark.parametrize("state", ["ready", "leased", "done", "cancelled"])
def test_a_report_counts_under_the_newest_fence_whatever_became_of_the_shard(state: str) -> None:
    assert accepts(fence="f", current="f", state=state)
    assert not accepts(fence="f", current="g", state=state)
    assert not accepts(fence="f", current=None, state=state)
