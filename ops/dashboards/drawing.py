"""A panel, drawn by matplotlib where its board puts it."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ops.dashboards.figures import shown

_PALETTE = (
    "#3274D9",
    "#E0B400",
    "#8F3BB8",
    "#1F9E9E",
    "#FF780A",
    "#56A64B",
    "#E02F44",
    "#705DA0",
    "#8E8E8E",
    "#B877D9",
)


_BELOW: Mapping[str, Any] = {"bbox_to_anchor": (-0.05, -0.1), "borderpad": 0, "labelspacing": 0.2}


@dataclass(frozen=True, slots=True)
class Series:
    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        return next((value for _, value in reversed(self.points) if math.isfinite(value)), math.nan)


@dataclass(frozen=True, slots=True)
class Frame:
    """A panel as its JSON says, and the answers to its queries."""

    panel: Mapping[str, Any]
    answers: Sequence[Sequence[Series]]

    @property
    def defaults(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.panel.get("fieldConfig", {}).get("defaults", {})
        return found

    @property
    def unit(self) -> str:
        return str(self.defaults.get("unit", ""))


def draw(figure: Figure, frame: Frame, rows: int, between: tuple[float, float]) -> None:
    at, kind = frame.panel["gridPos"], frame.panel["type"]
    head = 0.6 / figure.get_figheight()
    unit_high = (1 - head) / rows
    low = 1 - head - (at["y"] + at["h"]) * unit_high
    if kind == "row":
        figure.text(0.01, low + unit_high / 2, frame.panel["title"], fontsize=12, va="center", color="#333333")
        return
    box = (at["x"] / 24 + 0.004, low + 0.08 * unit_high, at["w"] / 24 - 0.008, (at["h"] - 0.16) * unit_high)
    figure.add_axes(box, facecolor="white", xticks=[], yticks=[])
    high = box[1] + box[3]
    figure.text(box[0] + 0.005, high - 0.3 * unit_high, frame.panel["title"], fontsize=9, weight="bold", va="top")
    inside = (box[0] + 0.045, box[1] + 1.7 * unit_high, box[2] - 0.055, box[3] - 2.9 * unit_high)
    if kind in ("stat", "table"):
        inside = (box[0] + 0.005, box[1] + 0.2 * unit_high, box[2] - 0.01, box[3] - 1.4 * unit_high)
    axes = figure.add_axes(inside)
    _KINDS[kind](axes, frame, between)


# the kinds


def _stat(axes: Axes, frame: Frame, between: tuple[float, float]) -> None:
    axes.axis("off")
    series = [one for answer in frame.answers for one in answer]
    value = series[0].last if series else math.nan
    text = "-" if math.isnan(value) else shown(value, frame.unit)
    axes.text(0.5, 0.55, text, ha="center", va="center", fontsize=22, color=_colour(frame, value), weight="bold")
    points = [point for point in (series[0].points if series else ()) if math.isfinite(point[1])]
    if len(points) > 1:
        line = axes.inset_axes((0, 0, 1, 0.3))
        line.axis("off")
        line.fill_between([at for at, _ in points], [value for _, value in points], color="#3274D9", alpha=0.25)
        line.set_xlim(*between)


def _lines(axes: Axes, frame: Frame, between: tuple[float, float]) -> None:
    stacked = frame.defaults["custom"].get("stacking", {}).get("mode") == "normal"
    floor: dict[float, float] = {}
    for number, (index, one) in enumerate(_by_query(frame)):
        name = _name(frame, index, one)
        colour = _fixed(frame, name) or _PALETTE[number % len(_PALETTE)]
        dashed = _dashed(frame, index)
        points = one.points if stacked else _with_gaps(one.points)
        times = [_time(at) for at, _ in points]
        values = [value if math.isfinite(value) else 0 if stacked else math.nan for _, value in points]
        if stacked and not dashed:
            under = [floor.get(at, 0) for at, _ in one.points]
            values = [below + value for below, value in zip(under, values, strict=True)]
            floor |= {at: value for (at, _), value in zip(one.points, values, strict=True)}
            axes.fill_between(times, under, values, color=colour, alpha=0.6, lw=0, label=name)
        else:
            axes.plot(times, values, color=colour, lw=1.3, ls="--" if dashed else "-", label=name)
    _limits(axes, frame)
    _dress(axes, frame, between)


def _with_gaps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A line is not drawn across a time without data."""
    step = min((after - before for (before, _), (after, _) in pairwise(points)), default=0.0)
    found = list(points[:1])
    for (before, _), point in pairwise(points):
        found += [(before, math.nan), point] if point[0] - before > 1.5 * step else [point]
    return found


def _limits(axes: Axes, frame: Frame) -> None:
    steps = frame.defaults.get("thresholds", {}).get("steps", ())
    drawn = frame.defaults["custom"].get("thresholdsStyle", {}).get("mode") == "dashed"
    top = axes.get_ylim()[1]
    for step in steps if drawn else ():
        if step["value"] is not None and step["value"] < 3 * top:
            axes.axhline(step["value"], color=step["color"], lw=0.8, ls=(0, (4, 4)))


def _dress(axes: Axes, frame: Frame, between: tuple[float, float]) -> None:
    axes.set_xlim(_time(between[0]), _time(between[1]))
    axes.set_ylim(0, frame.defaults.get("max"))
    axes.xaxis.set_major_formatter(_clock(between))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, frame.unit)))
    axes.tick_params(labelsize=6.5)
    axes.grid(visible=True, color="#e4e4e4", lw=0.6)
    handles, names = axes.get_legend_handles_labels()
    if not handles:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="#999999")
        return
    columns = min(len(names), 6 if max(map(len, names)) < 16 else 3)
    axes.legend(handles[:9], names[:9], fontsize=6, ncols=columns, loc="upper left", frameon=False, **_BELOW)


def _bars(axes: Axes, frame: Frame, _: tuple[float, float]) -> None:
    found = [(_name(frame, index, one), one.last) for index, one in _by_query(frame)]
    found = [(name, value) for name, value in found if math.isfinite(value)][::-1]
    if not found:
        axes.axis("off")
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="#999999")
        return
    names, values = zip(*found, strict=True)
    axes.barh(range(len(names)), values, color=[_colour(frame, value) for value in values], height=0.6)
    axes.set_xlim(0, max(*values, 1e-9) * 1.25)
    for index, (name, value) in enumerate(found):
        axes.text(0, index + 0.42, name, fontsize=7.5, va="center")
        axes.text(value, index, f" {shown(value, frame.unit)}", fontsize=8, va="center", weight="bold")
    axes.set_ylim(-0.6, max(len(names), 3) - 0.3)
    axes.axis("off")


def _spread(axes: Axes, frame: Frame, between: tuple[float, float]) -> None:
    points = [point for answer in frame.answers for one in answer for point in one.points if math.isfinite(point[1])]
    if points:
        size = float(frame.panel["options"]["calculation"]["yBuckets"]["value"])
        top = max(10 * size, *(value for _, value in points))
        grid, times, values = np.histogram2d(
            [at for at, _ in points],
            [value for _, value in points],
            bins=(45, round(top / size)),
            range=(between, (0, top)),
        )
        samples = max(1, len({at for at, _ in points}) / 45)
        mesh = axes.pcolormesh([_time(at) for at in times], values, grid.T / samples, cmap="Greens")
        assert axes.figure is not None
        axes.figure.colorbar(mesh, ax=axes, pad=0.01).ax.tick_params(labelsize=6)
    axes.set_xlim(_time(between[0]), _time(between[1]))
    axes.xaxis.set_major_formatter(_clock(between))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, frame.unit)))
    axes.tick_params(labelsize=6.5)


def _table(axes: Axes, frame: Frame, _: tuple[float, float]) -> None:
    axes.axis("off")
    options = next(one for one in frame.panel["transformations"] if one["id"] == "organize")["options"]
    order = {
        name: options["renameByName"][name] for name in sorted(options["indexByName"], key=options["indexByName"].get)
    }
    by = next((one["options"]["byField"] for one in frame.panel["transformations"] if one["id"] == "joinByField"), "")
    rows: dict[str, dict[str, str]] = {}
    for index, answer in enumerate(frame.answers):
        for number, one in enumerate(answer):
            row = rows.setdefault(one.labels.get(by, str(number)), {})
            row |= {order[name]: value for name, value in one.labels.items() if name in order}
            if (column := order.get(f"Value #{chr(ord('A') + index)}")) is not None:
                row[column] = shown(one.last, _column_unit(frame, column))
    if not rows:
        axes.text(0.5, 0.5, str(frame.defaults.get("noValue", "-")), ha="center", color="#999999")
        return
    columns = list(order.values())
    cells = [[row.get(column, "")[:18] for column in columns] for row in list(rows.values())[:12]]
    table = axes.table(cells, colLabels=columns, loc="upper center", cellLoc="left", edges="horizontal")
    table.auto_set_font_size(value=False)
    table.set_fontsize(8)


_KINDS: Mapping[str, Callable[[Axes, Frame, tuple[float, float]], None]] = {
    "stat": _stat,
    "timeseries": _lines,
    "bargauge": _bars,
    "heatmap": _spread,
    "table": _table,
}


# what the JSON says of names and colours


def _by_query(frame: Frame) -> list[tuple[int, Series]]:
    return [(index, one) for index, answer in enumerate(frame.answers) for one in answer]


def _name(frame: Frame, index: int, one: Series) -> str:
    legend = str(frame.panel["targets"][index]["legendFormat"])
    if legend == "__auto":
        return ", ".join(value for key, value in one.labels.items() if key != "__name__") or "value"
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: one.labels.get(found[1], ""), legend)


def _overrides(frame: Frame, kind: str, option: str) -> dict[str, Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = frame.panel["fieldConfig"].get("overrides", ())
    return {one["matcher"]["options"]: one for one in found if one["matcher"]["id"] == kind and _of(one, option)}


def _of(override: Mapping[str, Any], option: str) -> Any:
    return next((one["value"] for one in override["properties"] if one["id"] == option), None)


def _fixed(frame: Frame, name: str) -> str | None:
    found = _overrides(frame, "byName", "color").get(name)
    return str(_of(found, "color")["fixedColor"]) if found else None


def _dashed(frame: Frame, index: int) -> bool:
    return chr(ord("A") + index) in _overrides(frame, "byFrameRefID", "custom.lineStyle")


def _column_unit(frame: Frame, column: str) -> str:
    found = _overrides(frame, "byName", "unit").get(column)
    return str(_of(found, "unit")) if found else ""


def _colour(frame: Frame, value: float) -> str:
    steps = frame.defaults.get("thresholds", {}).get("steps", ())
    passed = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return str(passed[-1]) if passed else "#333333"


def _time(at: float) -> float:
    return float(date2num(datetime.fromtimestamp(at, tz=UTC)))  # type: ignore[no-untyped-call]


def _clock(between: tuple[float, float]) -> DateFormatter:
    text = "%H:%M:%S" if between[1] - between[0] < 1800 else "%H:%M"
    return DateFormatter(text)  # type: ignore[no-untyped-call]
