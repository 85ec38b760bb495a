"""Migrations: before everything else as Helm's hooks, or beside everything else as plain Jobs."""

import copy
import itertools
from collections.abc import Iterator

from tests.chart.pods import Pod, pods_of
from tests.chart.programs import calls_of
from tests.chart.references import named_by
from tests.chart.rendering import Object, Release, laid_over, render
from tests.chart.variants import VARIANTS, rendered, values_of

KIND_ORDER = ["PriorityClass", "NetworkPolicy", "PodDisruptionBudget", "ServiceAccount", "Secret", "ConfigMap", "Job"]
"""In which Helm creates hooks of one weight (`InstallOrder` of Helm 4); what it does not know comes last."""


def phases(one: Object) -> set[str]:
    text = (one["metadata"].get("annotations") or {}).get("helm.sh/hook", "")
    return {part.strip() for part in text.split(",") if part.strip()}


def deletions(one: Object) -> set[str]:
    text = (one["metadata"].get("annotations") or {}).get("helm.sh/hook-delete-policy", "before-hook-creation")
    return {part.strip() for part in text.split(",")}


def turn(one: Object) -> tuple[int, int]:
    """Hooks run by weight, then by kind."""
    weight = int((one["metadata"].get("annotations") or {}).get("helm.sh/hook-weight", "0"))
    return weight, KIND_ORDER.index(one["kind"]) if one["kind"] in KIND_ORDER else len(KIND_ORDER)


def migrations(release: Release) -> dict[str, Object]:
    """The Jobs by what they run: expand, contract, or both."""
    found = {}
    for one in release.of("Job"):
        pod = next(pod for pod in pods_of(release) if pod.owner == f"Job/{one['metadata']['name']}")
        for call in calls_of(pod):
            if call.verb == "farm migrate":
                words = list(call.words)
                found[words[words.index("--only") + 1] if "--only" in words else "both"] = one
    return found


def too_early(release: Release) -> list[str]:
    """What a hook needs that is not there when it runs."""
    found = []
    for pod in pods_of(release):
        if not pod.hook or "test" in phases(_made_by(release, pod)):
            continue
        for kind, name, _ in named_by(pod):
            found += [f"{pod.owner}: {kind}/{name} {fault}" for fault in _late(release, pod, kind, name)]
    return found


def _late(release: Release, pod: Pod, kind: str, name: str) -> Iterator[str]:
    job = _made_by(release, pod)
    makers = {"Secret": ("Secret", "ExternalSecret")}.get(kind, (kind,))
    for one in release.of(*makers):
        made = one["spec"].get("target", {}).get("name") if one["kind"] == "ExternalSecret" else one["metadata"]["name"]
        if made != name or phases(job) <= {"post-install", "post-upgrade"}:
            continue
        if not phases(job) & {"pre-install", "pre-upgrade"} <= phases(one):
            yield "comes with the release, after the hook"
        elif turn(one) >= turn(job):
            yield "is a hook of a later turn"


def _made_by(release: Release, pod: Pod) -> Object:
    kind, _, name = pod.owner.partition("/")
    return release.named(kind, name)


def test_what_a_hook_needs_is_there_before_it(release: Release) -> None:
    assert too_early(release) == []


def test_what_a_hook_needed_is_gone_after_it(release: Release) -> None:
    """Helm deletes what has succeeded after the last hook of a phase (`execHook`); an uninstall takes no hook away."""
    kept = [
        one["metadata"]["name"] for one in release.objects if phases(one) and "hook-succeeded" not in deletions(one)
    ]
    assert kept == []


def test_what_the_contract_job_needs_is_made_for_its_phase_too() -> None:
    release = rendered("contract")
    for one in release.of("Secret", "ServiceAccount"):
        if phases(one):
            assert phases(one) >= phases(migrations(release)["contract"]), one["metadata"]["name"]


def test_a_secret_that_comes_too_late_would_show() -> None:
    release = copy.deepcopy(rendered("secrets in the values"))
    assert migrations(release)
    for one in release.of("Secret"):
        one["metadata"].get("annotations", {}).pop("helm.sh/hook", None)
    assert too_early(release)


def test_expand_runs_before_and_contract_after() -> None:
    jobs = migrations(rendered("contract"))
    assert set(jobs) == {"expand", "contract"}
    assert phases(jobs["expand"]) == {"pre-install", "pre-upgrade"}
    assert phases(jobs["contract"]) <= {"post-install", "post-upgrade"}
    assert "post-upgrade" in phases(jobs["contract"])


def test_contract_waits_to_be_asked_for() -> None:
    assert set(migrations(rendered("defaults"))) == {"expand"}


def test_hooks_make_room_for_the_next_ones(release: Release) -> None:
    """A Job cannot be changed, so the last one must go before the next of its name is made."""
    for one in release.of("Job"):
        if phases(one):
            assert "before-hook-creation" in deletions(one)


def test_with_a_database_of_the_chart_nothing_waits_for_it_before_it_is_made(release: Release) -> None:
    if release.values["trial"]["postgres"]["enabled"]:
        assert [one["metadata"]["name"] for one in migrations(release).values() if "pre-install" in phases(one)] == []


def test_without_hooks_jobs_are_part_of_the_release() -> None:
    release = rendered("without hooks")
    assert migrations(release)
    assert [one["metadata"]["name"] for one in migrations(release).values() if phases(one)] == []


def test_migrations_can_be_left_to_others() -> None:
    assert migrations(rendered("bare")) == {}


CHANGES: list[Object] = [
    {},
    {"images": {"control": {"tag": "0.2.1"}}},
    {"migrations": {"resources": {"limits": {"memory": "1Gi"}}}},
    {"migrations": {"roles": False}},
    {"migrations": {"backoffLimit": 7}},
    {"migrations": {"activeDeadlineSeconds": 60}},
    {"commonLabels": {"team": "design"}},
    {"secrets": {"existingSecret": "another"}},
    {"imagePullSecrets": ["registry"]},
    {"schemaWaitSeconds": 100},
    {"priorityClasses": {"create": True}},
]


def test_without_hooks_a_changed_job_has_another_name() -> None:
    """The API server refuses a change to a Job's template; an upgrade would stop there."""
    made = [render(laid_over(values_of("without hooks"), change)) for change in CHANGES]
    jobs = [migrations(release) for release in made]
    for (one, before), (other, after) in itertools.combinations(enumerate(jobs), 2):
        for name in before:
            same = before[name]["metadata"]["name"] == after[name]["metadata"]["name"]
            assert not same or before[name]["spec"]["template"] == after[name]["spec"]["template"], (
                CHANGES[one],
                CHANGES[other],
            )
    names = {each["expand"]["metadata"]["name"] for each in jobs[:3]}
    assert len(names) == 3, "a new image and new bounds must give new names"


def test_without_a_change_the_name_stays() -> None:
    again = render(laid_over(values_of("without hooks"), {"api": {"replicas": 7}}))
    before, after = (migrations(one) for one in (rendered("without hooks"), again))
    assert {one["metadata"]["name"] for one in before.values()} == {one["metadata"]["name"] for one in after.values()}


def test_jobs_end(release: Release) -> None:
    for one in release.of("Job"):
        assert one["spec"]["activeDeadlineSeconds"] > 0
        assert one["spec"]["template"]["spec"]["restartPolicy"] in {"Never", "OnFailure"}


def test_helm_test_asks_the_running_farm(release: Release) -> None:
    tests = [pod for pod in pods_of(release) if pod.hook and "test" in phases(_made_by(release, pod))]
    assert len(tests) == 1
    calls = [call for pod in tests for call in calls_of(pod)]
    assert [call.verb for call in calls] == ["farm ready"]
    assert tests[0].spec["restartPolicy"] == "Never"


def test_every_variant_with_migrations_has_an_expand_job() -> None:
    for name in VARIANTS:
        release = rendered(name)
        assert bool({"expand", "both"} & set(migrations(release))) is release.values["migrations"]["enabled"], name
