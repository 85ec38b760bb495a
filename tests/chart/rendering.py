"""The chart, rendered by Helm itself: values in, documents out."""

import copy
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

CHART = Path(__file__).parents[2] / "helm"
VALUE_FILES = ("values.yaml", "values-kind.yaml", "values-production.yaml")

type_loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times as fast

Object = dict[str, Any]
"""One object of Kubernetes, as YAML reads it."""


@dataclass(frozen=True)
class Release:
    """What `helm install` would send, and the values that made it so."""

    name: str
    namespace: str
    values: Object
    files: Mapping[str, str]
    objects: tuple[Object, ...]

    def of(self, *kinds: str) -> list[Object]:
        return [one for one in self.objects if one["kind"] in kinds]

    def only(self, kind: str) -> Object:
        found = self.of(kind)
        assert len(found) == 1, f"{len(found)} objects of kind {kind}: {[one['metadata']['name'] for one in found]}"
        return found[0]

    def named(self, kind: str, name: str) -> Object:
        return next(one for one in self.of(kind) if one["metadata"]["name"] == name)

    def namespace_of(self, one: Object) -> str:
        return str(one["metadata"].get("namespace", self.namespace))


def project_version() -> str:
    """Of pyproject.toml; what is installed may be older."""
    project = tomllib.loads((CHART.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def load(text: str) -> list[Object]:
    return [one for one in yaml.load_all(text, Loader=type_loader) if one]


def value_file(name: str, chart: Path = CHART) -> Object:
    """A value file of the chart; the defaults are merged in by Helm."""
    return {} if name == "values.yaml" else load((chart / name).read_text(encoding="utf-8"))[0]


def laid_over(values: Mapping[str, Any], patch: Mapping[str, Any]) -> Object:
    """As `-f values -f patch` does it: objects are merged, everything else is replaced."""
    merged = copy.deepcopy(dict(values))
    for key, new in patch.items():
        old = merged.get(key)
        merged[key] = laid_over(old, new) if isinstance(old, dict) and isinstance(new, dict) else copy.deepcopy(new)
    return merged


def render(
    values: Object | None = None,
    *,
    name: str = "farm",
    namespace: str = "halftone",
    chart: Path = CHART,
    upgrade: bool = False,
) -> Release:
    """Raises `helm.HelmError` when the schema or a template refuses the values."""
    given = values or {}
    with helm.Chart.load(chart) as loaded:
        loaded.validate_schema(given)
        files = loaded.render(given, name=name, namespace=namespace, is_upgrade=upgrade, is_install=not upgrade)
        merged = loaded.merge_values(given)
    manifests = {path: text for path, text in files.items() if path.endswith((".yaml", ".yml"))}
    objects = tuple(one for path in sorted(manifests) for one in load(manifests[path]))
    return Release(name, namespace, merged, files, objects)
