"""Tests that say something only on a GPU. Where there is none they are not collected: run `pytest tests/gpu` on one."""

from pathlib import Path

collect_ignore_glob = [] if Path("/proc/driver/nvidia/version").exists() else ["test_*.py"]
