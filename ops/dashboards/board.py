"""A dashboard: variables to choose by, rows that tell a story from the top down, and the way to the other boards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from ops.dashboards.panels import SOURCE

_TAG = "halftone"

_CHOICES = {
    "namespace": ("Namespace", "label_values(farm_scheduler_leading, namespace)"),
    "fleet": ("Fleet", 'label_values(farm_renderers_most{namespace=~"$namespace"}, fleet)'),
    "renderer": ("Renderer", 'label_values(farm_renderer_info{namespace=~"$namespace"}, renderer)'),
    "team": ("Team", 'label_values(farm_team_weight{namespace=~"$namespace"}, team)'),
}


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: Sequence[Any]
    """Builders of panels: they share no type but the SDK's own generic one."""


@dataclass(frozen=True, slots=True)
class Board:
    """``uid`` is its address and its file's name, and stays what it is: people keep links."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    choices: Sequence[str] = ()
    """Variables beside datasource and namespace."""
    hours: int = 3

    def build(self) -> dashboard.Dashboard:
        made = dashboard.Dashboard(self.title).uid(self.uid).description(self.about).tags([_TAG]).editable()
        made = made.tooltip(DashboardCursorSync.CROSSHAIR).time(f"now-{self.hours}h", "now").refresh("30s")
        made = made.timezone("browser").link(_others()).with_variable(_datasource())
        for name in ("namespace", *self.choices):
            made = made.with_variable(_choice(name))
        number = 0
        for row in self.rows:
            number += 1
            made = made.with_row(dashboard.Row(row.title).id(number))
            for panel in row.panels:
                number += 1
                made = made.with_panel(panel.id(number))
        return made


def _others() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Halftone").type(DashboardLinkType.DASHBOARDS).tags([_TAG])
    return link.include_vars(True).keep_time(True).as_dropdown(False)


def _datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def _choice(name: str) -> dashboard.QueryVariable:
    label, query = _CHOICES[name]
    chosen = VariableOption(selected=True, text="All", value="$__all")
    made = dashboard.QueryVariable(name).label(label).datasource(SOURCE).query({"query": query, "refId": name})
    made = made.multi(True).include_all(True).all_value(".*").current(chosen)
    return made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
