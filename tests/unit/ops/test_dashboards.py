"""Dashboards ask for what there is, in units that fit, and say what they are for."""

import json
import math
from collections.abc import Mapping
from typing import Any

import promql_parser as pql
import pytest

from ops.dashboards import __main__ as generator
from ops.dashboards.boards import BOARDS
from tests.support.dimensions import UNITS, measure
from tests.support.promql import (
    DASHBOARDS,
    TARGET_LABELS,
    Panel,
    counted,
    known_metrics,
    labels_used,
    nodes,
    panels,
    parsed,
    selectors,
)

METRICS = known_metrics()
LOADED: Mapping[str, Mapping[str, Any]] = {path.stem: json.loads(path.read_text()) for path in DASHBOARDS}

every_expression = pytest.mark.parametrize("panel", panels(), ids=str)
every_board = pytest.mark.parametrize("board", LOADED.values(), ids=list(LOADED))


def test_what_is_checked_in_is_what_the_generator_makes() -> None:
    made = {board.uid: generator.text(board) for board in BOARDS}
    assert {path.stem: path.read_text() for path in DASHBOARDS} == made


def test_the_same_board_is_written_the_same_twice() -> None:
    assert [generator.text(board) for board in BOARDS] == [generator.text(board) for board in BOARDS]


@every_expression
def test_every_metric_of_a_panel_is_one_that_a_farm_shows(panel: Panel) -> None:
    found = selectors(parsed(panel.expr))
    assert found
    assert [one.name for one in found if one.name not in METRICS] == []


@every_expression
def test_every_label_of_a_panel_is_on_its_metrics(panel: Panel) -> None:
    expr = parsed(panel.expr)
    there = set(TARGET_LABELS)
    for one in selectors(expr):
        labels = METRICS[str(one.name)].labels | TARGET_LABELS
        there |= labels
        assert {matcher.name for matcher in one.matchers.matchers} <= labels, str(one)
    assert labels_used(expr) <= there


@every_expression
def test_every_aggregation_goes_by_labels_of_what_it_sums(panel: Panel) -> None:
    """Grouping by a label that is not there gives one group without a name."""
    for node in nodes(parsed(panel.expr)):
        if isinstance(node, pql.AggregateExpr) and node.modifier is not None:
            below = {name for one in selectors(node) for name in METRICS[str(one.name)].labels}
            assert set(node.modifier.labels) <= below | TARGET_LABELS, str(node)


@every_expression
def test_every_selector_is_bound_to_the_chosen_namespaces(panel: Panel) -> None:
    bound = pql.parse(panel.expr.replace("$__rate_interval", "15s").replace("$__range", "5m"))
    for one in selectors(bound):
        assert 'namespace=~"$namespace"' in {str(matcher) for matcher in one.matchers.matchers}, str(one)


@every_expression
def test_rates_are_taken_of_counters_alone(panel: Panel) -> None:
    expr = parsed(panel.expr)
    assert [name for _, name in counted(expr) if METRICS[name].kind != "counter"] == []
    for node in nodes(expr):  # and a counter is never shown as it is, unless it is new
        if isinstance(node, pql.AggregateExpr | pql.BinaryExpr | pql.ParenExpr) and _operator(node) != "unless":
            plain = [child for child in _children(node) if isinstance(child, pql.VectorSelector)]
            assert [one.name for one in plain if METRICS[str(one.name)].kind == "counter"] == []


def _operator(node: pql.Expr) -> str:
    return str(node.op) if isinstance(node, pql.BinaryExpr) else ""


def _children(node: pql.Expr) -> list[pql.Expr]:
    return [node.lhs, node.rhs] if isinstance(node, pql.BinaryExpr) else [node.expr]  # type: ignore[attr-defined]


@every_expression
def test_the_unit_of_a_panel_is_what_its_expression_measures_in(panel: Panel) -> None:
    found = measure(parsed(panel.expr))
    if panel.kind == "table":
        return  # units of tables are by column
    assert panel.unit in UNITS, panel.unit
    wanted = UNITS[panel.unit]
    assert found.exponents == wanted.exponents
    assert math.isclose(found.factor, wanted.factor)


@pytest.mark.parametrize(
    ("wrong", "unit"),
    [
        ("sum(rate(farm_renders_total[1m]))", "suffix: /min"),
        ("sum(farm_queue_gpu_seconds)", "m"),
        ("farm_gpu_power_watts", "joule"),
        ("sum(rate(farm_charged_money_total[1m])) * 60", "suffix: ¤/h"),
    ],
)
def test_a_unit_that_does_not_fit_is_told(wrong: str, unit: str) -> None:
    found, wanted = measure(pql.parse(wrong)), UNITS[unit]
    assert (found.exponents, found.factor) != (wanted.exponents, wanted.factor)


def test_what_cannot_be_added_is_told() -> None:
    with pytest.raises(ValueError, match="put together"):
        measure(pql.parse("sum(farm_queue_gpu_seconds) + sum(farm_queue_renders)"))


# what people read


def _shown(board: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


@every_board
def test_every_panel_asks_a_question_and_says_what_to_do(board: Mapping[str, Any]) -> None:
    for panel in _shown(board):
        assert panel["title"].endswith("?"), panel["title"]
        assert len(panel["title"]) <= 50, f"{panel['title']} is cut off on a narrow panel"
        assert len(panel["description"]) >= 40, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"


@every_board
def test_a_board_is_read_at_a_glance(board: Mapping[str, Any]) -> None:
    shown = _shown(board)
    assert 8 <= len(shown) <= 17
    assert len({panel["title"] for panel in shown}) == len(shown)
    assert board["panels"][0]["type"] == "row"


@every_board
def test_series_are_named_by_labels_that_their_expression_keeps(board: Mapping[str, Any]) -> None:
    for panel in _shown(board):
        for target in panel["targets"]:
            for label in _labels(target["legendFormat"]):
                assert label in target["expr"], f"{panel['title']}: {label}"


def _labels(legend: str) -> list[str]:
    return [part.partition("}}")[0].strip() for part in legend.split("{{")[1:]]


@every_board
def test_panels_neither_overlap_nor_leave_the_page(board: Mapping[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@every_board
def test_every_variable_that_is_used_can_be_chosen_and_the_other_way_round(board: Mapping[str, Any]) -> None:
    expressions = " ".join(target["expr"] for panel in _shown(board) for target in panel["targets"])
    chosen = [one for one in board["templating"]["list"] if one["type"] == "query"]
    assert board["templating"]["list"][0]["name"] == "datasource"
    for variable in chosen:
        assert variable["multi"]
        assert variable["allValue"] == ".*"
        assert f'=~"${variable["name"]}"' in expressions
        query = variable["query"]["query"]
        metric = query.removeprefix("label_values(").partition("{")[0].partition(",")[0]
        assert variable["name"] in METRICS[metric].labels | TARGET_LABELS
    names = {one["name"] for one in chosen}
    assert {name for name in ("namespace", "fleet", "renderer", "team") if f'"${name}"' in expressions} == names


@every_board
def test_boards_lead_to_one_another(board: Mapping[str, Any]) -> None:
    (link,) = board["links"]
    assert link["tags"] == board["tags"]
    assert link["includeVars"]
    assert link["keepTime"]
    links = [
        found["url"]
        for panel in _shown(board)
        for override in panel["fieldConfig"]["overrides"]
        for changed in override["properties"]
        if changed["id"] == "links"
        for found in changed["value"]
    ]
    for url in links:
        assert url.removeprefix("/d/").partition("?")[0] in LOADED
    assert (board["uid"] == "halftone-gpus") == bool(links)
