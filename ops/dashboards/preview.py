"""Draws the dashboards without Grafana: `python -m ops.dashboards.preview --prometheus URL --out DIR`.

It reads `json/`, asks Prometheus the same queries, and draws one PNG a board with the same titles, units and places. It
is for looking at a board before it is installed; what Grafana can do beyond that (hovering, choosing) is not here.
"""

import argparse
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import matplotlib as mpl
from matplotlib.figure import Figure

from ops.dashboards.drawing import Frame, Series, draw

FOLDER = Path(__file__).parent / "json"
POINTS = 180
"""Of a course: as many as can be told apart on a panel."""


@dataclass(frozen=True, slots=True)
class Span:
    """What time is shown, in seconds since the epoch."""

    start: float
    end: float

    @property
    def step(self) -> float:
        return max(1.0, (self.end - self.start) / POINTS)


class Prometheus:
    """The two questions that Grafana asks."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(base_url=f"{url.rstrip('/')}/api/v1", timeout=30)

    def course(self, expr: str, span: Span) -> list[Series]:
        asked: dict[str, str | float] = {"query": expr, "start": span.start, "end": span.end, "step": span.step}
        return [Series(one["metric"], _points(one["values"])) for one in self._result("query_range", asked)]

    def now(self, expr: str, span: Span) -> list[Series]:
        asked: dict[str, str | float] = {"query": expr, "time": span.end}
        return [Series(one["metric"], _points([one["value"]])) for one in self._result("query", asked)]

    def _result(self, path: str, asked: Mapping[str, str | float]) -> Sequence[Mapping[str, Any]]:
        answer = self._http.get(path, params=dict(asked)).json()
        if answer["status"] != "success":
            raise ValueError(f"{asked['query']}: {answer['error']}")
        result: Sequence[Mapping[str, Any]] = answer["data"]["result"]
        return result


def _points(values: Sequence[Sequence[Any]]) -> list[tuple[float, float]]:
    return [(float(at), float(value)) for at, value in values]


def asked(expr: str, span: Span, *, scraped: float) -> str:
    """With everything chosen. A rate is taken over four scrapes, as Grafana does it."""
    values = {
        "__rate_interval": f"{int(max(4 * scraped, span.step + scraped))}s",
        "__range": f"{int(span.end - span.start)}s",
    }
    return re.sub(r"\$(\w+)", lambda name: values.get(name[1], ".*"), expr)


def frames(board: Mapping[str, Any], prometheus: Prometheus, span: Span, *, scraped: float) -> list[Frame]:
    """Each panel with what Prometheus answers, query by query."""
    found = []
    for panel in board["panels"]:
        answers = []
        for target in panel.get("targets", ()):
            ask = prometheus.now if target["instant"] else prometheus.course
            answers.append(ask(asked(target["expr"], span, scraped=scraped), span))
        found.append(Frame(panel, answers))
    return found


def picture(board: Mapping[str, Any], found: Sequence[Frame], span: Span) -> Figure:
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = Figure(figsize=(15, 0.36 * rows + 0.6), facecolor="#f4f5f5")
    figure.text(0.01, 1 - 0.3 / figure.get_figheight(), board["title"], fontsize=15, weight="bold", va="center")
    for frame in found:
        draw(figure, frame, rows, (span.start, span.end))
    return figure


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m ops.dashboards.preview", description=__doc__)
    arguments.add_argument("--prometheus", required=True, metavar="URL")
    arguments.add_argument("--out", type=Path, required=True, metavar="DIR")
    arguments.add_argument("--minutes", type=float, default=60, help="how much time is shown, up to --until")
    arguments.add_argument("--until", type=float, default=0, help="seconds since the epoch; now when left out")
    arguments.add_argument("--scraped", type=float, default=15, help="seconds between two scrapes")
    given = arguments.parse_args()
    mpl.use("agg")
    end = given.until or time.time()
    span, prometheus = Span(end - 60 * given.minutes, end), Prometheus(given.prometheus)
    given.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(FOLDER.glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        found = frames(board, prometheus, span, scraped=given.scraped)
        picture(board, found, span).savefig(given.out / f"{path.stem}.png", dpi=80)


if __name__ == "__main__":
    main()
