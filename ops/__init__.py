"""What operators run: benchmarks, and the maintenance of the lock file."""
