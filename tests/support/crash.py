"""Killing a process of a live farm at a named point of its code, and putting its clock wrong."""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.support.preload.sitecustomize import POINTS

PRELOAD = Path(__file__).with_name("preload")


@dataclass(frozen=True, slots=True)
class Crashes:
    """*folder* is where tests and processes meet. Give `env` to whatever starts the processes."""

    folder: Path

    @property
    def env(self) -> dict[str, str]:
        paths = [str(PRELOAD), os.environ.get("PYTHONPATH", "")]
        return {"CRASH_FOLDER": str(self.folder), "PYTHONPATH": os.pathsep.join(path for path in paths if path)}

    def arm(self, point: str, *, passes: int = 1) -> None:
        """The process that makes pass number *passes* from now on kills itself. Raises `KeyError` for no such point."""
        POINTS[point]
        for number in range(1, passes + 1):
            (self.folder / f"{point}.{number:04}").touch()

    def happened(self, point: str) -> bool:
        return not any(self.folder.glob(f"{point}.*"))

    def set_clock(self, verb: str, off: timedelta) -> None:
        """Of every ``farm <verb>`` that starts from now on."""
        (self.folder / f"clock.{verb}").write_text(str(off.total_seconds()))

    def mend_clock(self, verb: str) -> None:
        (self.folder / f"clock.{verb}").unlink()
