"""Processes that work for a renderer: they do not outlive it, and one that dies is replaced."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from actors.encoders import EncoderDied, Encoders
from actors.finish import Judged, encode, judge
from schemas.recipe import Output
from schemas.style import Checks

ROOT = Path(__file__).parents[3]


@pytest.fixture
def two() -> Iterator[Encoders]:
    encoders = Encoders(2)
    yield encoders
    encoders.close()


# Jobs: a worker imports them from here.


def who() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def die_once(mark: str) -> int:
    """Kills its process, unless it has done so before."""
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return os.getpid()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(word: str) -> None:
    raise KeyError(word)


def meet(folder: str, name: str, other: str) -> int:
    """Returns when the other one is at work too."""
    (Path(folder) / name).touch()
    deadline = time.monotonic() + 60
    while not (Path(folder) / other).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(other)
        time.sleep(0.01)
    return os.getpid()


def judged(picture: Image.Image) -> tuple[Judged, dict[str, Any]]:
    checks = Checks(structure=0.5, palette=("#ff0000",), delta_e=50)
    result = judge(picture, picture, None, 1, checks, None)
    seen = {
        "threads": os.environ["OMP_NUM_THREADS"],
        "loaded": [n for n in ("torch", "ray", "httpx2") if n in sys.modules],
    }
    return result, seen


def test_job_runs_in_another_process_and_its_error_comes_back(two: Encoders) -> None:
    pid, _ = two.run(who)
    assert pid != os.getpid()
    with pytest.raises(KeyError, match="word"):
        two.run(refuse, "word")
    assert two.run(who)[0] == pid  # an error does not cost a process


def test_none_means_that_the_calling_thread_does_the_work() -> None:
    encoders = Encoders(0)
    assert encoders.run(who) == who()
    encoders.close()


def test_as_many_jobs_run_at_once_as_there_are_processes(two: Encoders, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(two.run, meet, str(tmp_path), "a", "b")
        second = threads.submit(two.run, meet, str(tmp_path), "b", "a")
        assert first.result() != second.result()


def test_job_whose_process_is_killed_is_done_once_more_in_a_new_one(two: Encoders, tmp_path: Path) -> None:
    before, _ = two.run(who)
    after = two.run(die_once, str(tmp_path / "mark"))
    assert after != before
    assert two.run(who)[0] == after


def test_job_that_kills_every_process_fails_alone(two: Encoders, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(two.run, meet, str(tmp_path), "a", "b")
        with pytest.raises(EncoderDied, match="die"):
            two.run(die)
        (tmp_path / "b").touch()
        assert other.result() > 0
    assert two.run(who)[0] != os.getpid()


def test_process_that_was_killed_between_two_jobs_is_replaced(two: Encoders) -> None:
    pid, _ = two.run(who)
    worker = psutil.Process(pid)
    worker.kill()
    psutil.wait_procs([worker], timeout=30)
    assert two.run(who)[0] != pid


def test_pictures_pass_unchanged_and_no_heavy_library_is_loaded_for_them(
    two: Encoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    picture = Image.effect_noise((200, 150), 60).convert("RGB")
    result, seen = two.run(judged, picture)
    assert result.picture.tobytes() == picture.tobytes()
    assert result.tried.structure == 1.0
    assert two.run(encode, picture, None, Output(), "ab") == encode(picture, None, Output(), "ab")
    # What this file imports is loaded in a worker as well, but none of it is torch, Ray or the HTTP client.
    assert seen == {"threads": "1", "loaded": []}


def test_closed_encoders_have_no_processes_left_and_refuse_work() -> None:
    encoders = Encoders(1)
    worker = psutil.Process(encoders.run(who)[0])
    encoders.close()
    assert psutil.wait_procs([worker], timeout=30)[1] == []
    with pytest.raises(RuntimeError, match="closed"):
        encoders.run(who)


RENDERER = """
import json, os, sys, threading
from actors.encoders import Encoders
encoders = Encoders(2)
pids = []
def work():
    pids.append(encoders.run(os.getpid))
    encoders.run(__import__("time").sleep, float(sys.argv[1]))
threads = [threading.Thread(target=work) for _ in range(2)]
[thread.start() for thread in threads]
while len(pids) < 2:
    threads[0].join(0.05)
print(json.dumps(pids), flush=True)
[thread.join() for thread in threads]
threading.Event().wait()
"""


@pytest.mark.parametrize("busy", ["0", "600"])
def test_processes_end_soon_after_their_renderer_was_killed_whether_they_work_or_wait(busy: str) -> None:
    command = [sys.executable, "-c", RENDERER, busy]
    renderer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
    workers = []
    try:
        assert renderer.stdout is not None
        workers = [psutil.Process(pid) for pid in json.loads(renderer.stdout.readline())]
        assert len(workers) == 2
        renderer.kill()
        assert psutil.wait_procs(workers, timeout=20)[1] == []
    finally:
        renderer.kill()
        renderer.communicate()
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
