"""values.yaml, its schema and the table in the README say the same."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.rendering import CHART, Object, load


@pytest.fixture(scope="module")
def schema() -> Object:
    return dict(json.loads((CHART / "values.schema.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def values() -> Object:
    return load((CHART / "values.yaml").read_text(encoding="utf-8"))[0]


FROM_HELM = {"global"}  # Helm itself passes it to every chart


def resolved(schema: Object, root: Object) -> Object:
    while "$ref" in schema:
        inner: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            inner = inner[step]
        schema = {**inner, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def fields(schema: Object, root: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """Every property that a schema names, with those of a list's entries below `path[]`."""
    whole = resolved(schema, root)
    for key, inner in whole.get("properties", {}).items():
        below = f"{path}.{key}".lstrip(".")
        yield below, resolved(inner, root)
        yield from fields(inner, root, below)
    if isinstance(whole.get("items"), dict):
        yield from fields(whole["items"], root, f"{path}[]")


def keys(values: Any, path: str = "") -> Iterator[str]:
    """Every value that values.yaml names, written the same way."""
    if isinstance(values, dict):
        for key, inner in values.items():
            below = f"{path}.{key}".lstrip(".")
            yield below
            yield from keys(inner, below)
    if isinstance(values, list):
        for one in values:
            yield from keys(one, f"{path}[]")


def free(schema: Object, root: Object) -> set[str]:
    """Where users write what they like: objects of Kubernetes, labels, settings."""
    return {path for path, one in fields(schema, root) if is_free(one)}


def is_free(one: Object) -> bool:
    inner = one.get("items", one)
    return isinstance(inner, dict) and "properties" not in inner


def unknown(values: Object, schema: Object) -> list[str]:
    """Values that the schema does not name."""
    named, open_ended = {path for path, _ in fields(schema, schema)}, free(schema, schema)
    return [one for one in keys(values) if one not in named and not any(inside(one, each) for each in open_ended)]


def inside(path: str, free_path: str) -> bool:
    return path.startswith((free_path + ".", free_path + "[]"))


def unset(values: Object, schema: Object) -> list[str]:
    """Properties of the schema that values.yaml does not show."""
    shown = set(keys(values))
    return [
        path
        for path, _ in fields(schema, schema)
        if path not in shown | FROM_HELM and not any(inside(path, one) for one in free(schema, schema))
    ]


def test_every_value_is_in_the_schema(values: Object, schema: Object) -> None:
    assert unknown(values, schema) == []


def test_everything_in_the_schema_is_shown_in_the_values(values: Object, schema: Object) -> None:
    assert unset(values, schema) == []


def test_every_property_is_described_and_has_a_type(schema: Object) -> None:
    said = {"type", "enum", "const", "anyOf", "oneOf"}
    named = [(path, one) for path, one in fields(schema, schema) if path not in FROM_HELM]
    assert [path for path, one in named if not one.get("description")] == []
    assert [path for path, one in named if not said & set(one)] == []


def test_no_object_takes_unknown_keys(schema: Object) -> None:
    open_ended = [
        path or "the root"
        for path, one in [("", schema), *fields(schema, schema)]
        for part in (resolved(one, schema), resolved(one.get("items", {}), schema))
        if part.get("properties") and part.get("additionalProperties", True) is True
    ]
    assert [path for path in open_ended if path not in FROM_HELM] == []


def test_a_value_or_a_property_alone_would_show(values: Object, schema: Object) -> None:
    more_values, more_schema = copy.deepcopy(values), copy.deepcopy(schema)
    more_values["api"]["replica"] = 1
    assert unknown(more_values, schema) == ["api.replica"]
    more_schema["properties"]["extra"] = {"type": "string"}
    assert unset(values, more_schema) == ["extra"]


def test_the_table_in_the_readme_is_fresh() -> None:
    checked = subprocess.run(
        [sys.executable, str(CHART.parent / "ops" / "chart_docs.py"), "--check"],
        cwd=CHART.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
