"""The farm under a seeded simulator: the real deciding code and twins of everything else, on one clock, with faults.

`python -m tests.simulation --seeds N --from S` runs seeds and prints those that break a promise.
"""
