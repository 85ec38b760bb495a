"""PostgreSQL, an S3 store and Ray on one machine, for `farm up`, the demo and the tests. Blind to the rest of farm."""

from pathlib import Path
from typing import Final

from farm.embedded.farm import EmbeddedFarm, Service, Started
from farm.embedded.processes import PartFailed

SHIPPED: Final = Path(__file__).with_name("checkpoint")
"""What a new farm is furnished with: a small SDXL, its LoRAs, and styles.yaml. README.md is the model card."""

__all__ = ["SHIPPED", "EmbeddedFarm", "PartFailed", "Service", "Started"]
