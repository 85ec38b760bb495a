"""PostgreSQL: named SQL, and the transactions that run it. `memory` is its twin."""
