"""What Kubernetes takes: schemas of its own objects, of a RayCluster, and the rules written in the CRD."""

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import cel
import jsonschema
import yaml
from referencing import Registry, Resource

from tests.chart.rendering import Object, type_loader

CRD = Path(__file__).parent / "crds" / "ray.io_rayclusters.yaml"
VERSIONS = ("1.37", "1.34")
"""The newest that the schemas know, and the oldest that is still maintained beside it."""


class NoSchema(Exception):
    """Kubernetes itself has no such kind."""


def faults_of(one: Object, version: str) -> list[str]:
    """What the API server of that version would refuse; unknown fields too. Raises `NoSchema`."""
    return [_sentence(error) for error in _core(one["kind"], one["apiVersion"], version).iter_errors(one)]


def pod_faults(spec: Object, version: str) -> list[str]:
    """The same for the template of a pod, wherever it stands."""
    return faults_of({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}, version)


def _sentence(error: Any) -> str:
    return f"{error.json_path}: {error.message[:200]}"


@cache
def _core(kind: str, api_version: str, version: str) -> Any:
    """`kubernetes_validate.validate` reads 4 MB for each object; this reads them once for each version."""
    group, _, number = api_version.rpartition("/")
    short = "-".join(filter(None, (group.partition(".")[0], number)))  # networking.k8s.io/v1 is kept as networking-v1
    try:
        schema = _stored(f"{kind.lower()}-{short}.json", version)
    except FileNotFoundError as error:
        raise NoSchema(f"{api_version} {kind} in {version}") from error
    registry: Registry[Any] = Resource.from_contents(schema) @ Registry()
    return jsonschema.Draft202012Validator(schema, registry=_definitions(version) @ registry)


@cache
def _definitions(version: str) -> Any:
    return Resource.from_contents(_stored("_definitions.json", version))


def _stored(name: str, version: str) -> Any:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    if not folder.is_dir():
        raise LookupError(f"kubernetes-validate has no schemas of {version}")
    return json.loads((folder / name).read_text(encoding="utf-8"))


@cache
def crd_schema() -> Object:
    crd = yaml.load(CRD.read_text(encoding="utf-8"), Loader=type_loader)
    served = next(one for one in crd["spec"]["versions"] if one["name"] == "v1")
    schema: Object = served["schema"]["openAPIV3Schema"]
    return schema


@cache
def _ray_validator() -> Any:
    schema = _strict(crd_schema())
    schema["properties"].update(apiVersion={"const": "ray.io/v1"}, kind={"const": "RayCluster"}, metadata={})
    return jsonschema.Draft202012Validator(schema)


def ray_faults(cluster: Object) -> list[str]:
    """What the API server would refuse in a RayCluster, or drop without a word because KubeRay does not know it."""
    return [_sentence(error) for error in _ray_validator().iter_errors(cluster)] + [
        f"{path}: the same key twice in a list" for path in _doubles(crd_schema(), cluster, "$")
    ]


def _strict(schema: Any) -> Any:
    """A structural schema as a JSON schema that refuses what is not in it."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items() if key != "format"}
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    open_ended = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
    if made.get("type") == "object" and isinstance(made.get("properties"), dict) and not open_ended:
        made["additionalProperties"] = False
    return made


def _doubles(schema: Object, value: Any, path: str) -> Iterator[str]:
    """Lists that Kubernetes keeps as maps or sets, with an entry that is there twice: JSON schema cannot say that."""
    if isinstance(value, dict):
        for key, inner in value.items():
            below = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if isinstance(below, dict):
                yield from _doubles(below, inner, f"{path}.{key}")
    if isinstance(value, list):
        if len({_key(schema, one) for one in value}) < len(value) and schema.get("x-kubernetes-list-type") != "atomic":
            yield path
        for number, one in enumerate(value):
            yield from _doubles(schema.get("items", {}), one, f"{path}[{number}]")


def _key(schema: Object, one: Any) -> str:
    kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys", [])
    if kind == "map":
        return json.dumps([one.get(key, _default(schema, key)) for key in keys])
    return json.dumps(one) if kind == "set" else str(id(one))


def _default(schema: Object, key: str) -> Any:
    return schema["items"]["properties"].get(key, {}).get("default")


def rule_faults(new: Object, old: Object | None = None) -> list[str]:
    """Rules of the CRD (CEL) that a RayCluster breaks, alone or in the place of an *old* one."""
    return [
        f"{path}: {rule.get('message', rule['rule'])}"
        for path, rule, here, before in _rules(crd_schema(), new, old, "$")
        if ("oldSelf" not in rule["rule"] or before is not None)
        and not cel.evaluate(rule["rule"], {"self": here, "oldSelf": before})
    ]


def _rules(schema: Object, new: Any, old: Any, path: str) -> Iterator[tuple[str, Object, Any, Any]]:
    """Each rule, with the value that it is about. Those about a change need the value to be there before and after."""
    if new is None:
        return
    for rule in schema.get("x-kubernetes-validations", []):
        yield path, rule, new, old
    if isinstance(new, dict):
        for key, below in schema.get("properties", {}).items():
            earlier = old.get(key) if isinstance(old, dict) else None
            yield from _rules(below, new.get(key), earlier, f"{path}.{key}")
