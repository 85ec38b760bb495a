"""What the runbooks name exists: verbs, flags, objects of the chart, values, dashboards, metrics, settings, pages."""

import json
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.docs import settings_page
from tests.chart.rendering import CHART, VALUE_FILES, Release, render, value_file
from tests.unit.docs.pages import anchors, links
from tests.unit.ops.runbooks import FOLDER, PAGES, ROOT, blocks, commands_of, name_of, prose
from tests.unit.ops.test_alerts import ALERTS, METRICS, NAMES

PROCEDURES = {
    *("install", "upgrade", "roll-back", "drain-a-node", "add-a-gpu-type", "lose-the-database", "lose-the-store"),
    *("lose-the-ray-head", "restore", "rotate-keys", "move-to-another-cluster"),
}
PROGRAMS = {"farm", "kubectl", "helm", "psql", "pg_dump", "pg_restore"}

KUBECTL = {
    "apply": {"--filename"},
    "cordon": set(),
    "create": {"--from-literal", "--dry-run", "--output", "--save-config"},
    "delete": {"--selector"},
    "describe": {"--selector"},
    "drain": {"--ignore-daemonsets", "--delete-emptydir-data", "--timeout"},
    "exec": {"--container"},
    "get": {"--selector", "--field-selector", "--output", "--sort-by"},
    "logs": {"--selector", "--container", "--prefix", "--tail"},
    "rollout": set(),
    "scale": {"--replicas"},
    "top": {"--selector", "--containers"},
    "uncordon": set(),
}
"""Verbs of kubectl, and of their flags those that pages use (kubectl 1.37, `kubectl VERB --help`)."""
KUBECTL_ALWAYS = {"--namespace", "--context"}

HELM = {
    "get": {"--output"},
    "history": set(),
    "install": {"--values", "--set", "--wait", "--timeout"},
    "lint": {"--values"},
    "rollback": {"--wait", "--timeout"},
    "test": set(),
    "uninstall": set(),
    "upgrade": {"--values", "--set", "--wait", "--timeout"},
}
HELM_ALWAYS = {"--namespace", "--kube-context"}

POSTGRES = {
    "psql": {"--set", "--command"},
    "pg_dump": {"--format", "--no-owner", "--file"},
    "pg_restore": {"--exit-on-error", "--no-owner", "--dbname"},
}

FROM_KUBERAY = {"autoscaler"}
"""Containers that the operator adds."""

FARM = commands_of("farm") + [
    (page, words[words.index("farm") :]) for page, words in commands_of("kubectl") if "farm" in words
]


@cache
def releases() -> list[Release]:
    return [render(value_file(name), name="halftone", namespace="halftone") for name in VALUE_FILES]


def flags(words: list[str]) -> set[str]:
    """Up to `--`, behind which another command begins."""
    own = words[: words.index("--")] if "--" in words else words
    return {word.partition("=")[0] for word in own if word.startswith("-")}


def value_after(words: list[str], flag: str) -> str | None:
    return words[words.index(flag) + 1] if flag in words else None


# What there is


def test_there_is_a_page_for_each_alert_and_each_procedure_and_none_is_left_over() -> None:
    assert {path.stem for path in (FOLDER / "alerts").glob("*.md")} == set(NAMES)
    assert {path.stem for path in FOLDER.glob("*.md")} == {*PROCEDURES, "README"}


def test_the_index_has_every_page_and_every_alert_its_severity() -> None:
    index = (FOLDER / "README.md").read_text()
    assert {link for link in links(FOLDER / "README.md") if link.endswith(".md") and not link.startswith("..")} == {
        name_of(path) for path in PAGES if path.stem != "README"
    }
    for name in NAMES:
        severities = {rule["labels"]["severity"] for rule in ALERTS if rule["alert"] == name}
        (row,) = re.findall(rf"^\| \[{name}\].*", index, re.MULTILINE)
        assert set(row.split("|")[2].strip().split(", ")) == severities
        first = (FOLDER / "alerts" / f"{name}.md").read_text().split("\n\n")[1]
        assert {severity for severity in ("page", "ticket", "info") if f"**{severity}" in first} == severities


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_what_it_means_where_to_look_and_when_it_is_over(name: str) -> None:
    text = (FOLDER / "alerts" / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n\n**")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[0] == "Look"
    assert headings[-1] == "Over when"
    assert re.match(r"Likely causes|What to do", headings[1])
    assert "```bash" in text
    assert 20 <= len(text.splitlines()) <= 45


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path):
        where, _, anchor = link.partition("#")
        target = (path.parent / where).resolve()
        assert target.exists(), link
        assert target.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(target), link


def test_programs_are_those_that_are_looked_at() -> None:
    assert {words[0] for block in blocks() for words in block.commands()} == PROGRAMS


# Commands


@pytest.mark.parametrize(("page", "words"), FARM, ids=[f"{page}: {' '.join(words)}" for page, words in FARM])
def test_farm_commands_are_understood(
    page: str, words: list[str], root: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "sdxl-base"):
        (tmp_path / name).mkdir()
    (tmp_path / "photo.jpg").touch()
    root.main(args=words[1:], prog_name="farm", standalone_mode=False)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_farm_commands_in_a_sentence_exist(path: Path, root: Any) -> None:
    for text in re.findall(r"`(farm [a-z][^`]*)`", prose(path).replace("\n", " ")):
        command, rest = root, text.split()[1:]
        while rest and hasattr(command, "commands"):
            assert rest[0] in command.commands, text
            command, rest = command.commands[rest[0]], rest[1:]
        options = {name for one in command.params for name in one.opts}
        assert {word for word in rest if word.startswith("-")} <= options, text


def test_verbs_and_flags_of_kubectl_exist() -> None:
    for page, words in commands_of("kubectl"):
        verb = next(word for word in words[1:] if word in KUBECTL)
        assert flags(words) <= KUBECTL[verb] | KUBECTL_ALWAYS, (page, words)


def test_kubectl_speaks_of_objects_that_the_chart_makes() -> None:
    made = {
        f"{one['kind'].lower()}/{one['metadata']['name']}" for release in releases() for one in release.of("Deployment")
    }
    clusters = {one["metadata"]["name"] for release in releases() for one in release.of("RayCluster")}
    named = {word for _, words in commands_of("kubectl") for word in words if word.startswith("deployment/")}
    assert named
    assert named <= made
    for _, words in commands_of("kubectl"):
        if "rayclusters" in words:
            assert words[words.index("rayclusters") + 1] in clusters
        assert value_after(words, "--namespace") in (None, "halftone")


def pod_templates() -> list[dict[str, Any]]:
    found = []
    for release in releases():
        found += [one["spec"]["template"] for one in release.of("Deployment")]
        for cluster in release.of("RayCluster"):
            groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
            found += [group["template"] for group in groups]
    return found


def test_selectors_and_containers_of_kubectl_are_the_charts() -> None:
    looked_at = 0
    for page, words in commands_of("kubectl"):
        selector = value_after(words, "--selector")
        if selector is None or selector.startswith("$"):
            continue
        looked_at += 1
        label, _, value = selector.partition("=")
        chosen = [one for one in pod_templates() if one["metadata"]["labels"].get(label) == value]
        assert chosen, (page, selector)
        if container := value_after(words, "--container"):
            known = {one["name"] for pod in chosen for one in pod["spec"]["containers"]} | FROM_KUBERAY
            assert container in known, (page, container)
    assert looked_at > 10


def test_secrets_get_the_keys_that_the_chart_reads() -> None:
    read = {
        (source["secretKeyRef"]["name"], source["secretKeyRef"]["key"])
        for pod in pod_templates()
        for container in pod["spec"]["containers"]
        for source in [entry.get("valueFrom", {}) for entry in container.get("env", ())]
        if "secretKeyRef" in source
    }
    for page, words in commands_of("kubectl"):
        if "secret" in words:
            name = words[words.index("generic") + 1]
            keys = {word.split("=")[1] for word in words if word.startswith("--from-literal=")}
            needed = {key for secret, key in read if secret == name}
            assert needed <= keys, (page, name)
            assert keys <= needed | {"owner-database-url", "auth_token"}, (page, name)


def test_verbs_and_flags_of_helm_exist_and_values_are_the_charts() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for page, words in commands_of("helm"):
        verb = words[1]
        assert flags(words) <= HELM[verb] | HELM_ALWAYS, (page, words)
        if verb in ("install", "upgrade", "lint"):
            assert "helm/" in words
        if given := value_after(words, "--set"):
            place: Any = values
            for part in given.partition("=")[0].split("."):
                if part.startswith("FARM_"):
                    assert part in (CHART / "templates" / "scheduler" / "_settings.tpl").read_text()
                    break
                assert part in place, (page, given)
                place = place[part]


def test_flags_of_postgresqls_programs_exist() -> None:
    for program, known in POSTGRES.items():
        found = commands_of(program)
        assert found
        for page, words in found:
            assert flags(words) <= known, (page, words)


# Names in sentences


def quoted(path: Path) -> list[str]:
    return re.findall(r"`([^`]+)`", prose(path).replace("\n", " "))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_metrics_and_settings_exist(path: Path) -> None:
    page = settings_page()
    for text in quoted(path):
        if found := re.match(r"farm_[a-z_]+(?=$|\{)", text):
            assert found[0] in METRICS or found[0] in ("farm_api", "farm_scheduler"), text
        for name in re.findall(r"\bFARM_[A-Z_]+", text):
            assert f"`{name}`" in page, name


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_values_of_the_chart_exist(path: Path) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for text in quoted(path):
        parts = text.split(":")[0].split("=")[0].split(".")
        if len(parts) > 1 and parts[0] in values:
            place: Any = values
            for part in parts:
                assert part in place, text
                place = place[part]


def boards() -> dict[str, set[str]]:
    """Titles of panels, by dashboard."""
    found = {}
    for path in (ROOT / "ops" / "dashboards" / "json").glob("*.json"):
        board = json.loads(path.read_text())
        panels = [inner for panel in board["panels"] for inner in (panel, *(panel.get("panels") or ()))]
        found[board["uid"]] = {panel["title"] for panel in panels if panel["type"] != "row"}
    return found


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_dashboards_and_panels_exist(path: Path) -> None:
    known = boards()
    text = re.sub(r"\s+", " ", prose(path))
    board = ""
    for found in re.finditer(r"`(halftone-(?:farm|gpus|campaigns|renderer|control|cost))`|(?<!\*)\*([^*]+\?)\*", text):
        if found[1]:
            board = found[1]
            assert board in known
        else:
            assert any(found[2] in titles for titles in known.values()), found[2]
            assert not board or found[2] in known[board], f"{found[2]!r} is not in {board}"


def test_every_alert_names_a_dashboard_and_a_panel() -> None:
    for name in NAMES:
        look = re.sub(r"\s+", " ", (FOLDER / "alerts" / f"{name}.md").read_text().partition("## Look")[2])
        assert re.match(r" Dashboard `halftone-\w+`, \*[^*]+\?\*", look), name


def test_the_release_in_the_pages_is_named_nowhere() -> None:
    """Pages outlive releases: an image is named by a value."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert [name_of(path) for path in PAGES if version in path.read_text()] == []
