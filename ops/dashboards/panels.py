"""The kinds of panels there are: each is a question, the unit of its answer, and what to do about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    HeatmapCalculationMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

GREEN, YELLOW, ORANGE, RED = "#56A64B", "#E0B400", "#FF780A", "#E02F44"
BLUE, TEAL, PURPLE, GREY = "#3274D9", "#1F9E9E", "#8F3BB8", "#8E8E8E"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
MONEY, MONEY_PER_HOUR = "suffix: ¤", "suffix: ¤/h"
"""¤ stands for whatever currency operators count in (`FARM_CURRENCY`); the chart puts it in."""

Steps = Sequence[tuple[float | None, str]]
"""From this value on it has this colour; ``None`` is the least value there is."""


@dataclass(frozen=True, slots=True)
class Query:
    expr: str
    legend: str = ""
    dashed: bool = False
    """For what ought to be, beside what is."""


def stat_panel(
    title: str, about: str, unit: str, expr: str, *, steps: Steps = ((None, BLUE),), over_range: bool = False
) -> stat.Panel:
    """One figure. *over_range* says that it is about all the time shown, so that it has no course."""
    query = _target(0, Query(expr), instant=over_range)
    graph = BigValueGraphMode.NONE if over_range else BigValueGraphMode.AREA
    panel = stat.Panel().title(title).description(about).unit(unit).datasource(SOURCE).with_target(query)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).no_value("-")
    panel = panel.graph_mode(graph).color_mode(BigValueColorMode.VALUE).thresholds(_thresholds(steps))
    return panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS)).height(4).span(6)


def lines_panel(
    title: str,
    about: str,
    unit: str,
    queries: Sequence[Query],
    *,
    stacked: bool = False,
    colours: Mapping[str, str] | None = None,
    limits: Steps = (),
    most: float | None = None,
) -> timeseries.Panel:
    """What something did over time. *limits* are drawn as dashed lines."""
    panel = timeseries.Panel().title(title).description(about).unit(unit).datasource(SOURCE).min(0)
    panel = panel.line_width(1).fill_opacity(60 if stacked else 8).show_points(VisibilityMode.NEVER)
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.TABLE).placement(LegendPlacement.BOTTOM)
    panel = panel.legend(legend.show_legend(True).calcs(["lastNotNull", "max"]))
    panel = panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if limits:
        panel = panel.thresholds(_thresholds([(None, "transparent"), *limits]))
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    if most is not None:
        panel = panel.max(most)
    for index, query in enumerate(queries):
        panel = panel.with_target(_target(index, query))
        if query.dashed:
            panel = panel.override_by_query(_ref(index), _DASHED)
    for name, colour in (colours or {}).items():
        fixed = DynamicConfigValue(id_val="color", value={"fixedColor": colour, "mode": "fixed"})
        panel = panel.override_by_name(name, [fixed])
    return panel.height(8).span(12)


def bars_panel(
    title: str, about: str, unit: str, query: Query, *, steps: Steps = ((None, BLUE),), over_range: bool = False
) -> bargauge.Panel:
    """The same figure of several things, side by side."""
    panel = bargauge.Panel().title(title).description(about).unit(unit).datasource(SOURCE).min(0)
    panel = panel.with_target(_target(0, query, instant=over_range)).thresholds(_thresholds(steps))
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"])).no_value("-")
    panel = panel.orientation(VizOrientation.HORIZONTAL).display_mode(BarGaugeDisplayMode.BASIC)
    return panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS)).height(8).span(12)


def spread_panel(title: str, about: str, unit: str, expr: str, *, most: float) -> heatmap.Panel:
    """How many series have which value, over time: as clear for a thousand of them as for ten."""
    panel = heatmap.Panel().title(title).description(about).datasource(SOURCE).with_target(_target(0, Query(expr)))
    buckets = common.HeatmapCalculationBucketConfig().mode(HeatmapCalculationMode.SIZE).value(str(most / 10))
    panel = panel.calculate(True).calculation(common.HeatmapCalculationOptions().y_buckets(buckets))
    colour = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Greens").steps(32)
    axis = heatmap.YAxisConfig().unit(unit).min(0)
    panel = panel.y_axis(axis).color(colour).show_legend().unit(unit)
    return panel.height(8).span(12)


def table_panel(
    title: str,
    about: str,
    columns: Mapping[str, str],
    queries: Sequence[str],
    *,
    units: Mapping[str, str] | None = None,
    join: str = "",
    links: Mapping[str, tuple[str, str]] | None = None,
    nothing: str = "-",
) -> table.Panel:
    """Labels and values of now. *columns* renames what is shown, in this order; the rest is hidden.

    The value of query A is called ``Value #A``. *join* is the label that several queries have in common.
    """
    panel = table.Panel().title(title).description(about).unit("none").datasource(SOURCE).no_value(nothing)
    for index, expr in enumerate(queries):
        panel = panel.with_target(_target(index, Query(expr), instant=True).format(PromQueryFormat.TABLE))
    if join:
        panel = panel.with_transformation(DataTransformerConfig(id_val="joinByField", options={"byField": join}))
    names = {"include": {"names": list(columns)}}
    panel = panel.with_transformation(DataTransformerConfig(id_val="filterFieldsByName", options=names))
    order: dict[str, Any] = {
        "indexByName": {name: index for index, name in enumerate(columns)},
        "renameByName": dict(columns),
    }
    panel = panel.with_transformation(DataTransformerConfig(id_val="organize", options=order))
    for column, unit in (units or {}).items():
        panel = panel.override_by_name(column, [DynamicConfigValue(id_val="unit", value=unit)])
    for column, (text, url) in (links or {}).items():
        link = DynamicConfigValue(id_val="links", value=[{"title": text, "url": url}])
        panel = panel.override_by_name(column, [link])
    return panel.height(8).span(12)


_DASHED = [
    DynamicConfigValue(id_val="custom.lineStyle", value={"dash": [8, 6], "fill": "dash"}),
    DynamicConfigValue(id_val="custom.fillOpacity", value=0),
    DynamicConfigValue(id_val="custom.stacking", value={"group": "A", "mode": "none"}),
]


def _ref(index: int) -> str:
    return chr(ord("A") + index)


def _target(index: int, query: Query, *, instant: bool = False) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(_ref(index)).datasource(SOURCE)
    target = target.legend_format(query.legend or "__auto")
    return target.instant() if instant else target.range()


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    found = [Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(found)
