"""The composition root: settings become parts, parts become processes."""

from farm.bootstrap.demo import demo_campaign
from farm.bootstrap.local import Finding, Part, Running, doctor, down, status, up
from farm.bootstrap.services import add_team, migrate, run_api, run_scheduler

__all__ = [
    "Finding",
    "Part",
    "Running",
    "add_team",
    "demo_campaign",
    "doctor",
    "down",
    "migrate",
    "run_api",
    "run_scheduler",
    "status",
    "up",
]
