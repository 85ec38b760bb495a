"""The chart as Helm sees it: it loads, is linted, renders the same twice, and depends on no name."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import helm_python as helm
import pytest

from tests.chart.rendering import CHART, VALUE_FILES, Object, Release, laid_over, project_version, render, value_file
from tests.chart.variants import VARIANTS, rendered, values_of

LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
LABELLED = {"app.kubernetes.io/name", "app.kubernetes.io/instance"}


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_helm_lints_the_chart_without_a_warning(variant: str) -> None:
    report = helm.lint(CHART, values_of(variant), strict=True)
    assert not report["errors"]
    assert [one for one in report["messages"] if one["severity"] > 1] == []


def test_lint_would_tell() -> None:
    assert helm.lint(CHART, {"nobody": "knows this"}, strict=True)["errors"]


def test_the_chart_has_the_three_value_files() -> None:
    assert {path.name for path in CHART.glob("values*.yaml")} == set(VALUE_FILES)


def test_chart_app_and_project_have_one_version() -> None:
    with helm.Chart.load(CHART) as chart:
        assert chart.metadata["name"] == "halftone"
        assert chart.metadata["version"] == chart.metadata["appVersion"] == project_version()


@pytest.mark.parametrize("upgrade", [False, True])
@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_rendered_twice_it_is_the_same(variant: str, upgrade: bool) -> None:
    one, two = (render(values_of(variant), upgrade=upgrade) for _ in range(2))
    assert one.files == two.files


def test_an_upgrade_renders_what_an_install_renders(release: Release) -> None:
    again = render(release.values, upgrade=True)
    assert {_id(one) for one in again.objects} == {_id(one) for one in release.objects}


def test_another_name_and_namespace_change_nothing_but_names(release: Release) -> None:
    other = render(release.values, name="zebra", namespace="savanna")
    there = json.dumps(other.objects).replace("zebra", "farm").replace("savanna", "halftone")
    assert _unhashed(there) == _unhashed(json.dumps(release.objects))


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_names_begin_with_the_release_s_and_nobody_names_a_namespace(variant: str) -> None:
    assert foreign(render(values_of(variant), name="zebra", namespace="savanna")) == []


def test_a_name_or_a_namespace_written_out_would_show(tmp_path: Path) -> None:
    chart = Path(shutil.copytree(CHART, tmp_path / "halftone"))
    written = (
        "{kind: ConfigMap, apiVersion: v1, metadata: {name: farm-fixed}, data: {url: http://farm-api.halftone.svc}}"
    )
    (chart / "templates" / "fixed.yaml").write_text(written, encoding="utf-8")
    assert len(foreign(render(name="zebra", namespace="savanna", chart=chart))) == 2


def foreign(release: Release) -> list[str]:
    """Names that are not the release's, and hosts in a namespace that is not its own."""
    names = [f"{_id(one)}" for one in release.objects if not one["metadata"]["name"].startswith(release.name)]
    hosts = re.findall(r"[a-z0-9-]+\.([a-z0-9-]+)\.svc\b", json.dumps(release.objects))
    return names + [f"a service in {host}" for host in hosts if host != release.namespace]


def test_no_object_is_there_twice(release: Release) -> None:
    counted = Counter(_id(one) for one in release.objects)
    assert [one for one, times in counted.items() if times > 1] == []


def test_objects_stay_in_the_release_s_namespace(release: Release) -> None:
    elsewhere = [_id(one) for one in release.objects if release.namespace_of(one) != release.namespace]
    assert elsewhere == []


def test_names_and_labels_are_ones_that_kubernetes_takes(release: Release) -> None:
    assert [fault for one in release.objects for fault in _misnamed(one)] == []


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_with_the_longest_name_that_helm_allows_names_still_fit(variant: str) -> None:
    long = render(values_of(variant), name="a" * 53)
    assert [fault for one in long.objects for fault in _misnamed(one)] == []
    assert len({_id(one) for one in long.objects}) == len(long.objects), "two names became the same when they were cut"


def test_too_long_a_name_would_show() -> None:
    assert _misnamed({"kind": "Service", "metadata": {"name": "a" * 64, "labels": {"app": "b" * 64}}})


def test_every_object_says_to_which_release_it_belongs(release: Release) -> None:
    bare = [_id(one) for one in release.objects if not set(one["metadata"].get("labels") or {}) >= LABELLED]
    assert bare == []


def test_notes_name_only_what_is_there(release: Release) -> None:
    notes = next(text for path, text in release.files.items() if path.endswith("NOTES.txt"))
    names = {one["metadata"]["name"] for one in release.objects} | {
        f"{one['metadata']['name']}-head-svc" for one in release.of("RayCluster")
    }
    spoken = set(re.findall(r"\b(?:svc|service|deploy|deployment|job|raycluster|secret)/([a-z0-9.-]*[a-z0-9])", notes))
    assert len(notes.strip()) > 100
    assert spoken <= names
    assert "<no value>" not in notes


def test_nothing_is_rendered_as_no_value(release: Release) -> None:
    assert [path for path, text in release.files.items() if "<no value>" in text or "%!" in text] == []


def test_files_of_values_differ_from_the_defaults() -> None:
    for name in VALUE_FILES[1:]:
        given = value_file(name)
        with helm.Chart.load(CHART) as chart:
            assert laid_over(chart.values, given) != chart.values, name


def test_readme_is_in_the_chart_and_crds_are_not() -> None:
    with helm.Chart.load(CHART) as chart:
        assert "README.md" in {one["name"] for one in chart.files}
        assert chart.crds == [], "KubeRay brings its own; Helm never upgrades what is in crds/"


def test_the_archive_is_small_and_whole(tmp_path: Path) -> None:
    """Helm keeps each revision in a Secret, which may hold 1 MiB."""
    with helm.Chart.load(CHART) as chart:
        archive = Path(chart.save(tmp_path))
        expected = {one["name"] for one in chart.templates}
    assert archive.stat().st_size < 700_000
    with helm.Chart.load(archive) as again:
        assert {one["name"] for one in again.templates} == expected
    assert render(values_of("production"), chart=archive).objects == rendered("production").objects


def _id(one: Object) -> tuple[str, str]:
    return one["kind"], one["metadata"]["name"]


def _misnamed(one: Object) -> list[str]:
    name = one["metadata"]["name"]
    longest = {"ConfigMap": 253, "Secret": 253}.get(one["kind"], 63)
    found = [f"{_id(one)}: the name"] if len(name) > longest or not NAME.fullmatch(name) else []
    labels = one["metadata"].get("labels") or {}
    return found + [f"{_id(one)}: {key}={value}" for key, value in labels.items() if not LABEL.fullmatch(value)]


def _unhashed(text: str) -> str:
    """Digests stand for the text that they were made of, names and all."""
    return re.sub(r"\b[0-9a-f]{8,64}\b", "digest", text)
