"""The composition root: settings become parts, parts become processes."""

from farm.bootstrap.auditing import audit, collect_garbage
from farm.bootstrap.demo import demo_campaign
from farm.bootstrap.local import Finding, Part, Running, doctor, down, status, up
from farm.bootstrap.operating import add_team, prices, quarantine, release, set_price, set_team, team, teams
from farm.bootstrap.services import migrate, run_api, run_scheduler

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
    "migrate",
    "prices",
    "quarantine",
    "release",
    "run_api",
    "run_scheduler",
    "set_price",
    "set_team",
    "status",
    "team",
    "teams",
    "up",
]
