"""Benchmarks: ``python -m ops.bench.<name> [--quick]``. Each ends with one JSON line."""
