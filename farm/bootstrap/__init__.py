"""The composition root: settings become parts, parts become processes."""

from farm.bootstrap.auditing import audit, collect_garbage
from farm.bootstrap.demo import demo_campaign
from farm.bootstrap.local import Finding, Part, Running, doctor, down, status, up
from farm.bootstrap.migrating import migrate
from farm.bootstrap.operating import (
    add_team,
    keys,
    prices,
    quarantine,
    release,
    revoke_key,
    set_price,
    set_team,
    team,
    teams,
)
from farm.bootstrap.running import run_api, run_scheduler

__all__ = [
    "Finding",
    "Part",
    "Running",
    "add_team",
    "audit",
    "collect_garbage",
    "demo_campaign",
    "doctor",
    "down",
    "keys",
    "migrate",
    "prices",
    "quarantine",
    "release",
    "revoke_key",
    "run_api",
    "run_scheduler",
    "set_price",
    "set_team",
    "status",
    "team",
    "teams",
    "up",
]
