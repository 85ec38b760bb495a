"""What the GPU thread does with its time. No clock inside: whoever holds it passes ``now`` (seconds, monotonic) in."""

from typing import Literal

from schemas.report import GpuTime

Doing = Literal["encode", "denoise", "load", "swap", "wait", "idle"]


class Clock:
    """At every moment it does one thing, so that the parts add up to the time that passed."""

    def __init__(self, now: float, doing: Doing) -> None:
        self._since, self._doing = now, doing
        self._seconds: dict[str, float] = {}
        self._owed = 0.0
        self._passes = self._rows = 0

    def turn(self, doing: Doing, now: float) -> float:
        """From now on it does *doing*. The seconds that it did what it did before."""
        took = now - self._since
        decode = min(self._owed, took) if self._doing == "denoise" else 0.0
        self._owed -= decode
        self._add("decode", decode)
        self._add(self._doing, took - decode)
        self._since, self._doing = now, doing
        return took

    def stepped(self, rows: int) -> None:
        """A pass of the UNet is over."""
        self._passes += 1
        self._rows += rows

    def decoded(self, seconds: float) -> None:
        """So much of a pass was decoding. That is known only when the picture has been copied, and what was told may
        not fall, so it is taken from the passes that follow."""
        self._owed += seconds

    def read(self, now: float) -> GpuTime:
        self.turn(self._doing, now)
        return GpuTime(**self._seconds, passes=self._passes, rows=self._rows)

    def _add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
