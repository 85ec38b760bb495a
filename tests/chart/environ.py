"""The environment that a container gets, and the settings that Halftone reads from it."""

import base64
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar
from unittest import mock

from pydantic_settings import BaseSettings

from farm.bootstrap.services import read
from tests.chart.images import image_of
from tests.chart.rendering import Object, Release

S = TypeVar("S", bound=BaseSettings)

SAMPLES = {
    "owner-database-url": "postgresql://owner:one@db.example:5432/halftone",
    "api-database-url": "postgresql://farm_api:two@db.example:5432/halftone",
    "scheduler-database-url": "postgresql://farm_scheduler:three@db.example:5432/halftone",
    "depot-access-key": "access",
    "depot-secret-key": "secret",
    "auth_token": "a" * 64,
}
"""What stands in a Secret that is not rendered."""

FIELDS = {
    "status.podIP": "10.244.0.9",
    "metadata.name": "pod-0",
    "metadata.namespace": "halftone",
    "spec.nodeName": "n",
}
_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


def env_of(release: Release, container: Object) -> dict[str, str]:
    """What a program finds: what the image brings along, and what the chart gives."""
    image = image_of(container)
    return {**(image.env if image else {}), **given_env(release, container)}


def given_env(release: Release, container: Object) -> dict[str, str]:
    """Names and values as the kubelet sets them: `envFrom` first, then `env`, each may use those before it."""
    found: dict[str, str] = {}
    for one in container.get("envFrom", []):
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if field in one:
                prefix, name = one.get("prefix", ""), one[field]["name"]
                found |= {prefix + key: value for key, value in data_of(release, kind, name).items()}
    for one in container.get("env", []):
        found[one["name"]] = _REFERENCE.sub(lambda match: found.get(match[1], match[0]), _value(release, one))
    return found


def data_of(release: Release, kind: str, name: str) -> dict[str, str]:
    """What a rendered Secret or ConfigMap holds; samples for one that is not rendered."""
    for one in release.of(kind):
        if one["metadata"]["name"] == name:
            coded = {key: base64.b64decode(value).decode() for key, value in (one.get("data") or {}).items()}
            plain = coded if kind == "Secret" else one.get("data") or {}
            return {**plain, **(one.get("stringData") or {})}
    return SAMPLES if kind == "Secret" else {}


def _value(release: Release, one: Object) -> str:
    if "valueFrom" not in one:
        return str(one.get("value", ""))
    source = one["valueFrom"]
    if field := source.get("fieldRef"):
        return FIELDS.get(field["fieldPath"], "field")
    if part := source.get("resourceFieldRef"):
        return str(part["resource"])
    kind, part = (
        ("Secret", source["secretKeyRef"]) if "secretKeyRef" in source else ("ConfigMap", source["configMapKeyRef"])
    )
    return data_of(release, kind, part["name"]).get(part["key"], "sample")


def settings_of(kind: type[S], env: dict[str, str]) -> S:
    """As the program reads them at its start. Raises `BadRequest`, also for a name that nobody knows."""
    with only(env):
        return read(kind)


@contextmanager
def only(env: dict[str, str]) -> Iterator[None]:
    with mock.patch.dict(os.environ, {name: env[name] for name in env if name.startswith("FARM_")}, clear=True):
        yield


def unknown(kinds: tuple[type[BaseSettings], ...], env: dict[str, str], besides: frozenset[str]) -> list[str]:
    """Variables that the program would read from nowhere: a typing error that passes for the default."""
    known = {f"FARM_{name.upper()}" for kind in kinds for name in kind.model_fields} | besides
    return sorted(name for name in env if name.startswith("FARM_") and name not in known)
