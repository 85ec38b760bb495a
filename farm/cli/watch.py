"""Watching a campaign: renders done, images a second, time left, and what each renderer does."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from farm.cli.showing import state_of, warnings, warnings_in_full
from farm.sdk import SEEN, Client
from schemas.campaign import CampaignDetail, Counts
from schemas.renderer import RendererView

WINDOW = 30.0
"""Seconds over which the speed is measured: long enough to be steady, short enough to notice a change."""

INTERVAL = 0.5
PLAIN_EVERY = 2.0


@dataclass(slots=True)
class Pace:
    """Speed and time left, from what was done when."""

    seen: deque[tuple[float, int]] = field(default_factory=deque)

    def note(self, now: float, done: int) -> None:
        self.seen.append((now, done))
        while now - self.seen[0][0] > WINDOW and len(self.seen) > 2:
            self.seen.popleft()

    @property
    def rate(self) -> float:
        """Renders a second."""
        if len(self.seen) < 2 or self.seen[-1][0] == self.seen[0][0]:
            return 0.0
        return (self.seen[-1][1] - self.seen[0][1]) / (self.seen[-1][0] - self.seen[0][0])

    def left(self, waiting: int) -> str:
        if waiting == 0:
            return "none"
        return str(timedelta(seconds=round(waiting / self.rate))) if self.rate > 0 else "unknown"


def done_of(counts: Counts) -> int:
    return counts.succeeded + counts.failed + counts.cancelled


def watch(
    farm: Client,
    campaign: str,
    console: Console,
    *,
    timeout: timedelta | None = None,
    interval: float = INTERVAL,
    pause: Callable[[float], None] = time.sleep,
) -> CampaignDetail:
    """Until the campaign has ended, or its proof waits for approval.

    On a terminal a live picture, else a line when something changed.

    Raises `TimeoutError`.
    """
    pace, began, lines = Pace(), time.monotonic(), _Lines(console)
    with Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else _Nothing() as live:
        while True:
            found, now = farm.campaign(campaign), time.monotonic() - began
            pace.note(now, done_of(found.counts))
            ended = found.state in SEEN
            if isinstance(live, Live):
                live.update(picture(found, list(farm.renderers()), pace), refresh=True)
            elif ended or now - lines.said >= PLAIN_EVERY:
                lines.show(found, pace, now)
            if ended:
                return found
            if timeout is not None and now >= timeout.total_seconds():
                raise TimeoutError(f"{campaign} has not ended within {timeout.total_seconds():g} s. It goes on.")
            pause(interval)


@dataclass(slots=True)
class _Lines:
    """What is said off a terminal: a line when something changed, and each warning in full once."""

    console: Console
    said: float = -PLAIN_EVERY
    last: str = ""
    warned: set[str] = field(default_factory=set)

    def show(self, found: CampaignDetail, pace: Pace, now: float) -> None:
        line = plain(found, pace)
        if line == self.last:
            return
        self.said, self.last = now, line
        self.console.print(line, markup=False)
        for sentence in warnings_in_full(found):
            if sentence not in self.warned:
                self.console.print(f"Warning: {sentence}", markup=False)
                self.warned.add(sentence)


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def plain(campaign: CampaignDetail, pace: Pace) -> str:
    counts = campaign.counts
    waiting = counts.total - done_of(counts)
    warned = "".join(f", warning: {warning}" for warning in warnings(campaign))
    return (
        f"{campaign.name}: {state_of(campaign)}, {done_of(counts)}/{counts.total} renders, {counts.failed} failed, "
        f"{counts.reused} reused, {pace.rate:.1f} images/s, time left {pace.left(waiting)}{warned}"
    )


def picture(campaign: CampaignDetail, renderers: Sequence[RendererView], pace: Pace) -> RenderableType:
    counts = campaign.counts
    done = done_of(counts)
    head = Text.assemble((campaign.name, "bold"), f"  {state_of(campaign)}  ", (campaign.id, "dim"))
    facts = Table.grid(padding=(0, 3))
    facts.add_row(
        f"{done} of {counts.total} renders",
        f"{pace.rate:.1f} images/s",
        f"time left {pace.left(counts.total - done)}",
        f"{counts.reused} reused",
        Text(f"{counts.failed} failed", style="red" if counts.failed else ""),
    )
    bar = Table.grid()  # a bar by itself does not end its line
    bar.add_row(ProgressBar(total=max(counts.total, 1), completed=done, width=60))
    table = Table("renderer", "state", "doing", "waiting", box=None, pad_edge=False, header_style="dim")
    for renderer in renderers:
        table.add_row(renderer.name, renderer.state, renderer.doing, str(renderer.waiting))
    warned = [Text(f"Warning: {sentence}", style="yellow") for sentence in warnings_in_full(campaign)]
    return Group(head, bar, facts, *warned, table)
