"""The images, as far as they can be told without building them: their locks and their Dockerfiles."""

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from ops import lock
from tests.support.images import DOCKER, DOCKERFILES, ROOT, context, environment, last, parses, steps

PINNED = re.compile(r"^[a-z0-9./-]+:[A-Za-z0-9._-]+@sha256:[0-9a-f]{64}$")
COMPOSE = DOCKER / "compose.yaml"
both = pytest.mark.parametrize("image", sorted(DOCKERFILES))


# The locks.


@pytest.mark.parametrize("part", ["build", "control", "renderer"])
def test_the_lock_of_an_image_is_what_its_part_needs_of_requirements_lock(part: str) -> None:
    lines = lock.part_lines(part, lock.read_pins(ROOT / "requirements.lock"), lock.installed_needs)
    assert list(lock.read_pins(DOCKER / f"{part}.lock").values()) == lines, "run: make lock"


def test_the_control_plane_has_nothing_that_only_a_gpu_needs() -> None:
    names = set(lock.read_pins(DOCKER / "control.lock"))
    assert not names & {"torch", "diffusers", "transformers", "scikit-image", "scipy", "triton"}
    assert {name for name in names if name.startswith(("nvidia-", "cuda-"))} <= {"nvidia-ml-py"}


def test_what_cuda_adds_belongs_to_the_torch_that_is_locked() -> None:
    pins, added = lock.read_pins(ROOT / "requirements.lock"), lock.read_pins(DOCKER / "cuda.lock")
    assert f"of {pins['torch']} adds" in (DOCKER / "cuda.lock").read_text(), "run: make lock"
    assert not set(added) & set(pins)
    assert all(lock.for_gpus_only(name) for name in added)
    assert {"triton", "nvidia-cublas"} <= set(added)


def test_everything_that_the_control_plane_imports_is_in_its_lock() -> None:
    lazily = [*files("farm", but=("embedded", "demo.py")), *files("migrations"), *files("schemas")]
    at_import = files("actors", but=("engine",))  # the scheduler imports the renderer's class, and runs nothing of it
    imported = {*third_party(lazily, everywhere=True), *third_party(at_import, everywhere=False)}
    assert missing(imported, "control") == set()
    assert {"ray", "fastapi", "alembic", "numpy"} <= imported


def test_everything_that_a_renderer_imports_is_in_its_lock() -> None:
    imported = third_party([*files("actors"), *files("schemas")], everywhere=True)
    assert missing(imported, "renderer") == set()
    assert {"ray", "torch", "skimage", "pynvml"} <= imported


def test_the_faces_that_crops_look_for_lie_in_the_wheel_of_scikit_image() -> None:
    shipped = importlib.metadata.files("scikit-image") or []
    assert any(file.name == "lbpcascade_frontalface_opencv.xml" for file in shipped)


def files(folder: str, but: tuple[str, ...] = ()) -> list[Path]:
    return [file for file in (ROOT / folder).rglob("*.py") if not set(file.parts) & set(but)]


def third_party(sources: list[Path], *, everywhere: bool) -> set[str]:
    """Names of imported packages; *everywhere*: in functions too."""
    found = set()
    for source in sources:
        tree = ast.parse(source.read_text())
        for node in ast.walk(tree) if everywhere else tree.body:
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    known = importlib.metadata.packages_distributions()
    return {name for name in found if name in known and name not in {"farm", "actors", "schemas", "migrations"}}


def missing(imported: set[str], part: str) -> set[str]:
    locked, known = set(lock.read_pins(DOCKER / f"{part}.lock")), importlib.metadata.packages_distributions()
    return {name for name in imported if not locked & {canonicalize_name(dist) for dist in known[name]}}


# The Dockerfiles.


@both
def test_the_linter_finds_nothing(image: str) -> None:
    linter = Path(sysconfig.get_path("scripts")) / "hadolint"
    found = subprocess.run([linter, "--no-color", DOCKERFILES[image]], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@both
def test_a_rule_is_ignored_only_with_its_reason(image: str) -> None:
    text = DOCKERFILES[image].read_text()
    for rule in re.findall(r"^# hadolint ignore=(\S+)$", text, re.MULTILINE):
        assert f"# {rule}: " in text


def test_both_images_have_one_base_pinned_by_digest() -> None:
    bases = {step.text.split()[0] for path in DOCKERFILES.values() for step in steps(path) if step.what == "FROM"}
    (pinned,) = bases - {"base"}
    assert PINNED.match(pinned)
    assert pinned.startswith(f"python:{lock_python()}.")


def test_a_driver_and_its_actors_have_the_same_packages() -> None:
    control, renderer = (lock.read_pins(DOCKER / f"{part}.lock") for part in ("control", "renderer"))
    assert "ray" in control
    for name in set(control) & set(renderer):
        assert control[name] == renderer[name]


def lock_python() -> str:
    (version,) = re.findall(r"on Python (\S+);", (ROOT / "requirements.lock").read_text())
    return str(version)


@both
def test_an_image_runs_as_a_number_that_is_not_root_and_says_how_it_is(image: str) -> None:
    assert last(DOCKERFILES[image], "USER") == "10001:10001"
    assert "CMD [" in last(DOCKERFILES[image], "HEALTHCHECK")
    assert environment(DOCKERFILES[image])["HOME"] == "/tmp"


@both
def test_an_image_is_labelled_with_this_release(image: str) -> None:
    version = lock.project()["project"]["version"]
    assert f"VERSION={version}" in [step.text for step in steps(DOCKERFILES[image]) if step.what == "ARG"]
    assert f"HALFTONE_VERSION:-{version}}}" in COMPOSE.read_text()


@both
def test_an_image_is_given_no_secret_to_keep(image: str) -> None:
    named = [step.text for step in steps(DOCKERFILES[image]) if step.what in {"ARG", "ENV"}]
    assert not [text for text in named if re.search(r"PASSWORD|SECRET|TOKEN|_KEY|DATABASE_URL", text)]


@both
def test_what_a_build_copies_is_in_its_context(image: str) -> None:
    sent = {str(part) for path in context() for part in (path, *path.parents)}
    copied = [step.words() for step in steps(DOCKERFILES[image]) if step.what == "COPY"]
    sources = [source for words in copied if not words[0].startswith("--from") for source in words[:-1]]
    assert sources
    assert set(sources) <= sent


def test_the_context_holds_the_project_and_nothing_else(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    kept = {"farm/api/app.py", "schemas/order.py", "ops/docker/control.lock", "README.md"}
    left = {".git/config", ".env", "ops/docker/.env", "ops/docker/compose.yaml", "tests/x.py", "farm/__pycache__/a.pyc"}
    for name in kept | left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert {str(path) for path in context(tmp_path)} == kept


def test_a_health_check_of_the_control_image_is_a_command_that_there_is() -> None:
    words = json.loads(last(DOCKERFILES["control"], "HEALTHCHECK").partition("CMD ")[2])
    assert words[0] == "farm"
    parses(words[1:])
    parses(json.loads(last(DOCKERFILES["control"], "CMD")))
