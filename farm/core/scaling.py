"""How many renderers are wanted, which of them are not any more, and when it is off-peak."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from math import ceil
from typing import Protocol

from farm.core.errors import BadRequest
from farm.core.ids import RendererName

_ROUNDING = 1e-6
"""Of a renderer: what is left when others have taken their part is not exact."""


NEARLY = 1.1
"""So many times as many as there are, and nobody is woken yet: a node takes minutes to come, and the backlog sways."""


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """A fleet as it is set up. Its renderers are called *prefix* and a number."""

    name: str
    prefix: str
    least: int  # kept even without work
    most: int
    off_peak_most: int | None = None  # in off-peak hours; None: the same
    gpu: str | None = None  # type, when it is known before one runs


@dataclass(frozen=True, slots=True)
class Standing:
    """The renderers that a fleet has. One in quarantine does no work, and yet takes the place of another."""

    present: int  # not quarantined, not draining
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """All that is ready or under way and may be worked on now."""

    seconds: float  # expected GPU seconds
    shards: int
    deadline_renderers: float = 0.0  # as many as the deadlines need, working without a pause

    def needed(self, drain_seconds: float, affordable: float | None = None) -> int:
        """Renderers that would be through in time, without looking at what fleets may have."""
        seconds = self.seconds if affordable is None else min(self.seconds, affordable)
        if seconds <= 0 or self.shards <= 0:
            return 0
        by_time = seconds / drain_seconds if drain_seconds > 0 else self.shards * seconds / self.seconds
        renderers = min(max(by_time, self.deadline_renderers), float(self.shards))
        return max(1, ceil(renderers - _ROUNDING))

    def plus(self, more: "Load") -> "Load":
        return Load(
            self.seconds + more.seconds, self.shards + more.shards, self.deadline_renderers + more.deadline_renderers
        )

    def without(self, renderers: int, drain_seconds: float) -> "Load":
        """What is left for other fleets when *renderers* of one take their part."""
        needed = self.needed(drain_seconds)
        left = 0.0 if renderers >= needed else 1 - renderers / needed
        return Load(
            seconds=self.seconds * left,
            shards=max(0, self.shards - renderers),
            deadline_renderers=max(0.0, self.deadline_renderers - renderers),
        )


def most_of(spec: FleetSpec, *, off_peak: bool) -> int:
    """How many renderers the fleet may have now."""
    return spec.off_peak_most if off_peak and spec.off_peak_most is not None else spec.most


def wanted(
    spec: FleetSpec,
    standing: Standing,
    load: Load,
    *,
    drain_seconds: float,
    off_peak: bool,
    affordable: float | None = None,
) -> int:
    """How many renderers the fleet should have, quarantined ones not counted.

    Enough to be through in *drain_seconds* (0: one for each shard) and to meet the deadlines; never more than shards,
    since a renderer without one is idle; never more than the fleet may have, quarantined ones counted. *affordable* are
    GPU seconds that budgets leave: for more than those nobody is woken. Nor is anybody for a tenth more than there are,
    unless a deadline asks.
    """
    limit = most_of(spec, off_peak=off_peak)
    needed, present = load.needed(drain_seconds, affordable), standing.present
    if drain_seconds > 0 and present < needed <= present * NEARLY and load.deadline_renderers <= present:
        needed = present
    return max(0, min(max(needed, spec.least), limit - standing.quarantined))


def spread(
    fleets: Sequence[tuple[FleetSpec, Standing]],
    load: Load,
    *,
    drain_seconds: float,
    off_peak: bool,
    affordable: float | None = None,
) -> dict[str, int]:
    """How many of each fleet, by name. The first fills first, so the cheapest goes to the front."""
    found: dict[str, int] = {}
    for spec, standing in fleets:
        count = wanted(spec, standing, load, drain_seconds=drain_seconds, off_peak=off_peak, affordable=affordable)
        found[spec.name] = count
        rest = load.without(count, drain_seconds)
        affordable = None if affordable is None else max(0.0, affordable - (load.seconds - rest.seconds))
        load = rest
    return found


class Resting(Protocol):
    """A renderer, as far as retiring it is concerned."""

    @property
    def name(self) -> RendererName: ...

    @property
    def idle(self) -> float:
        """Seconds since it last had a shard; 0 while it has one."""
        ...


def surplus(there: Iterable[Resting], *, wanted: int, idle_seconds: float) -> list[RendererName]:
    """Which renderers to retire: the longest idle first, never so many that fewer than *wanted* stay.

    *there* are those of one fleet that count as present. Waking takes minutes, so one stays for *idle_seconds* after
    its last shard: work that comes in waves does not wake and retire a renderer with each.
    """
    there = list(there)
    idle = [renderer for renderer in there if renderer.idle > 0 and renderer.idle >= idle_seconds]
    idle.sort(key=lambda renderer: (-renderer.idle, renderer.name))
    return [renderer.name for renderer in idle[: max(0, len(there) - wanted)]]


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of every day, in UTC; they may pass midnight. The end is not part of them."""

    begins: time
    ends: time

    def holds(self, moment: time) -> bool:
        if self.begins < self.ends:
            return self.begins <= moment < self.ends
        return moment >= self.begins or moment < self.ends


_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)", re.ASCII)


def parse_window(text: str) -> Window:
    """``22:00-06:00``. Raises `BadRequest`."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise BadRequest(f"{text!r} are no hours: write them as 22:00-06:00, in UTC.", code="bad_window")
    begins = time(int(match[1]), int(match[2]))
    ends = time(int(match[3] or 0), int(match[4] or 0))
    if begins == ends and match[3] is not None:
        raise BadRequest(f"{text!r} begins when it ends. A whole day is 00:00-24:00.", code="bad_window")
    return Window(begins, ends)


def until_window(windows: Sequence[Window], now: datetime) -> float:
    """Seconds until one of them begins; 0 within one."""
    if in_window(windows, now):
        return 0.0
    here = now.astimezone(UTC)
    begins = (datetime.combine(here, window.begins, UTC) for window in windows)
    return min((at - here if at > here else at - here + timedelta(days=1)).total_seconds() for at in begins)


def in_window(windows: Sequence[Window], now: datetime) -> bool:
    """Whether *now* lies in one of them. Where none is named every hour counts."""
    moment = now.astimezone(UTC).time()
    return not windows or any(window.holds(moment) for window in windows)
