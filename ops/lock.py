"""Writes requirements.lock: the exact version of everything that the project, its demo and its tests install.

The group ``bench`` is left out: the peers that the farm is compared with need not be in CI.

The resolver is pip's own (``pip install --dry-run --report``), so that what is locked is what pip would install here.
Packages that only a GPU build of PyTorch brings along are left out: pip adds them on machines whose PyTorch wants them.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_LOCKED = ("bench",)
GPU_ONLY = ("nvidia-", "cuda-", "triton")
HEADER = """\
# Made by `make lock` on Python {version}; do not edit. `make setup` installs exactly these.
# No hashes: PyTorch's CPU and GPU builds share one version number and differ in their files.
"""


def wanted() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    groups = [extra for name, extra in extras.items() if name not in NOT_LOCKED]
    return [*project["dependencies"], *(requirement for extra in groups for requirement in extra)]


def resolved(requirements: list[str]) -> list[str]:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    answer = subprocess.run([*command, *requirements], check=True, stdout=subprocess.PIPE, text=True)
    packages = [item["metadata"] for item in json.loads(answer.stdout)["install"]]
    pins = {package["name"].lower(): package["version"].partition("+")[0] for package in packages}
    return [f"{name}=={version}" for name, version in sorted(pins.items()) if not name.startswith(GPU_ONLY)]


def main() -> None:
    header = HEADER.format(version=".".join(map(str, sys.version_info[:2])))
    (ROOT / "requirements.lock").write_text(header + "\n".join(resolved(wanted())) + "\n")


if __name__ == "__main__":
    main()
