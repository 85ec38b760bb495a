"""Processes that check and encode pictures: one picture takes a third of a second of CPU, beside a thread that must
never wait for Python's lock.

loky's, because unlike those of the standard library they do not run ``__main__`` again: here that is Ray's.
"""

import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from loky import ProcessPoolExecutor  # type: ignore[import-untyped]
from loky.process_executor import BrokenProcessPool  # type: ignore[import-untyped]

TRIES: Final = 2
_WATCH_SECONDS: Final = 1.0
_ENVIRONMENT: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""A process is a core's worth; more threads would only stand in one another's way."""

P = ParamSpec("P")
T = TypeVar("T")


class EncoderDied(Exception):
    """A job's process was killed, and then the next one that tried it: it may need more memory than there is."""


class Encoders:
    """*count* processes, started when they are first needed; with 0 the calling thread does the work.

    Each process is a pool of its own, so that one that dies takes only its own job with it. Safe to use from several
    threads.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._closed = False
        self._free: queue.LifoQueue[ProcessPoolExecutor | None] = queue.LifoQueue()  # what ran last is warm
        for _ in range(count):
            self._free.put(None)

    def run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What *job* returns or raises; both must be picklable. Waits for a free process. Raises `EncoderDied`."""
        if self._count == 0:
            return job(*args, **kwargs)
        pool = self._free.get()
        try:
            if self._closed:
                raise RuntimeError("The encoders are closed.")
            for _ in range(TRIES):
                pool = pool or _pool()
                try:
                    result: T = pool.submit(job, *args, **kwargs).result()
                    return result
                except BrokenProcessPool:
                    pool.shutdown(kill_workers=True)
                    pool = None
            raise EncoderDied(f"{job.__name__}: its process died {TRIES} times.")
        finally:
            self._free.put(pool)

    def close(self) -> None:
        """Waits for what runs; what has not begun is refused."""
        self._closed = True
        for _ in range(self._count):
            pool = self._free.get()
            if pool is not None:
                pool.shutdown(wait=True)
        for _ in range(self._count):
            self._free.put(None)  # for those who still wait


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, env=_ENVIRONMENT, initializer=_end_with, initargs=(os.getpid(),))


def _end_with(parent: int) -> None:
    """The renderer may be killed without a word. (PR_SET_PDEATHSIG would act when the thread ends that started us.)"""
    threading.Thread(target=_watch, args=(parent,), name="watch", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)
