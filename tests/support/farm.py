"""A whole embedded farm for tests, its processes' pids, and an audit of what it made."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import psutil

from farm import bootstrap
from farm.embedded import EmbeddedFarm
from farm.sdk import Client
from schemas.campaign import Block, CampaignSpec, SourceEntry
from schemas.style import StyleLora, StyleSpec
from tests.support.parts import own_folder

QUICK = ("quick-anime", "quick-cartoon")
"""Styles of few steps and small pictures: for tests that are about the farm, not about what it shows."""
PHOTOS = Path(str(resources.files("skimage"))) / "data"


@dataclass(frozen=True, slots=True)
class LiveFarm:
    """A farm that is up; ``client`` is its first team's."""

    data: Path
    client: Client
    env: Mapping[str, str]

    @property
    def parts(self) -> EmbeddedFarm:
        return EmbeddedFarm(self.data)

    def pid(self, part: str) -> int:
        """Of a part's main process."""
        found = self.parts._child(part)._process()
        assert found is not None, f"{part} does not run"
        return found.pid

    def kill(self, part: str) -> None:
        """SIGKILL, and it is gone when this returns."""
        process = psutil.Process(self.pid(part))
        process.kill()
        process.wait(10)

    def renderer_pids(self) -> list[int]:
        """Ray names an actor's process after its class."""
        tree = psutil.Process(self.pid("ray")).children(recursive=True)
        return sorted(p.pid for p in tree if any("ray::Renderer" in word for word in p.cmdline()))

    def up(self) -> None:
        """Starts what was killed."""
        bootstrap.up(self.data, renderers=2, on_step=print, env=self.env)

    def spec(
        self, name: str, *, variants: int, photos: tuple[str, ...] = ("coffee.png", "chelsea.png")
    ) -> CampaignSpec:
        sources = [self.client.upload_source(PHOTOS / photo) for photo in photos]
        return CampaignSpec(
            name=name,
            blocks=(
                Block(
                    sources=tuple(SourceEntry(source=source.id) for source in sources),
                    styles=QUICK,
                    strengths=(0.5,),
                    variants=variants,
                ),
            ),
            seed=int(hashlib.sha256(name.encode()).hexdigest()[:8], 16),  # no test takes over another's pictures
        )


@contextmanager
def live_farm(settings: Mapping[str, str] | Callable[[EmbeddedFarm], Mapping[str, str]]) -> Iterator[LiveFarm]:
    """*settings* go to its services; they may depend on the farm's passwords, which are there before it starts."""
    with own_folder() as folder:
        data = folder / "farm"
        env = settings(EmbeddedFarm(data)) if callable(settings) else settings
        try:
            running = bootstrap.up(data, renderers=2, on_step=print, env=env)
            with Client(running.url, running.key) as client:
                for name in QUICK:
                    lora = StyleLora(lora=name.removeprefix("quick-"))
                    client.save_style(StyleSpec(name=name, loras=(lora,), guidance=1.0, steps=4, size="128x128"))
                yield LiveFarm(data, client, env)
        finally:
            EmbeddedFarm(data).wipe()


def wait_for_renders(client: Client, campaign: str, count: int) -> None:
    """Until at least *count* renders have an outcome, as the event stream tells it."""
    done = 0
    for event in client.events(campaign, after=0):
        if event.kind == "renders.settled":
            done += sum(hi - lo for part in ("succeeded", "failed") for lo, hi in event.data[part])
        if done >= count:
            return


def farm_command(*words: str, data: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """The CLI as a user runs it, in a process of its own."""
    argv = [sys.executable, "-m", "farm", "--data", str(data), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout, cwd=data.parent)
