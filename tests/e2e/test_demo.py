"""What a newcomer does first."""

import re
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from farm.embedded import EmbeddedFarm
from tests.support.farm import PHOTOS, farm_command
from tests.support.parts import own_folder


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with own_folder() as folder:
        yield folder / "demo"
        EmbeddedFarm(folder / "demo").wipe()


def _left_behind(data: Path) -> list[psutil.Process]:
    marked = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(data)) or str(data) in " ".join(process.cmdline()):
                marked.append(process)
        except (psutil.Error, OSError):
            continue
    return marked


def test_the_demo_renders_shows_and_leaves_no_process(data: Path) -> None:
    ran = farm_command("demo", data=data)
    assert ran.returncode == 0, ran.stderr
    sheet = Path(ran.stdout.splitlines()[-1])
    with Image.open(sheet) as picture:
        assert picture.width > 1000
        assert picture.height > 1000
    assert len(list((data / "demo" / "pictures").glob("*.png"))) == 6 * 4 * 2
    assert re.search(r"succeeded\s+48", ran.stdout)
    assert _left_behind(data) == []


def test_the_second_demo_renders_nothing_again(data: Path) -> None:
    ran = farm_command("demo", data=data)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"reused\s+48", ran.stdout)
    assert "renderer_woken" not in (data / "log" / "scheduler.log").read_text()
    assert _left_behind(data) == []


def test_a_folder_of_ones_own_photos_becomes_a_campaign(data: Path) -> None:
    photos = data.parent / "photos"
    photos.mkdir()
    for name in ("coffee.png", "rocket.jpg"):
        (photos / name).write_bytes((PHOTOS / name).read_bytes())
    up = farm_command("up", data=data)
    assert up.returncode == 0, up.stderr
    try:
        submitted = farm_command("campaign", "submit", str(photos), "--style", "anime", "--watch", "--json", data=data)
        assert submitted.returncode == 0, submitted.stderr
        campaign = re.search(r"cmp_[0-9a-z]{13}", submitted.stdout)
        assert campaign is not None
        saved = farm_command("campaign", "download", campaign[0], str(data.parent / "pictures"), data=data)
        assert saved.returncode == 0, saved.stderr
        assert len(list((data.parent / "pictures").iterdir())) == 2
        assert farm_command("doctor", data=data).returncode == 0
    finally:
        down = farm_command("down", data=data)
    assert down.returncode == 0, down.stderr
    assert _left_behind(data) == []
