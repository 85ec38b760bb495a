"""PostgreSQL, an S3 store and Ray on one machine, for `farm up`, the demo and the tests. Blind to the rest of farm."""

from farm.embedded.farm import EmbeddedFarm, Service, Started
from farm.embedded.processes import PartFailed

__all__ = ["EmbeddedFarm", "PartFailed", "Service", "Started"]
