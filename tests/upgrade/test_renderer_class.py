"""A driver of one release can call renderers that another release made: Ray hands it their class, by names."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.parts import own_folder
from tests.support.releases import THIS, NoHistory, Release, former_release

_HAND_OUT = """
import sys, ray
from ray import cloudpickle
from actors.renderer import Renderer
made = ray.remote(concurrency_groups={"ctl": 8})(Renderer).__ray_metadata__.modified_class
sys.stdout.buffer.write(cloudpickle.dumps(made))
"""
_TAKE = """
import pickle, sys
found = pickle.load(sys.stdin.buffer)
print(*(name for name in ("adopt", "offer", "collect", "revoke", "drain") if callable(getattr(found, name, None))))
"""


@pytest.fixture(scope="module")
def former() -> Iterator[Release]:
    with own_folder() as folder:
        try:
            yield former_release(folder)
        except NoHistory as error:
            pytest.skip(f"the former release is not in this clone: {error}")


def run(code: str, release: Release, given: bytes = b"") -> bytes:
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, input=given, env=release.path, cwd=Path("/"), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_this_release_knows_renderers_of_the_former_one(former: Release) -> None:
    assert run(_TAKE, THIS, run(_HAND_OUT, former)) == b"adopt offer collect revoke drain\n"


def test_the_former_release_knows_renderers_of_this_one(former: Release) -> None:
    assert run(_TAKE, former, run(_HAND_OUT, THIS)) == b"adopt offer collect revoke drain\n"
