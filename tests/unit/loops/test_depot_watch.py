"""The depot, asked beside the loop."""

import threading
from typing import cast

from farm.core.errors import DepotDown
from farm.loops.depot_watch import DepotWatch
from farm.ports import Depot
from farm.telemetry import SchedulerMetrics
from schemas.report import Published, PublishedRendition


class Store:
    """Answers, refuses, or says nothing until it is let go."""

    def __init__(self) -> None:
        self.down = False
        self.go = threading.Event()
        self.go.set()
        self.deleted: list[str] = []
        self.did_delete = threading.Event()

    def ready(self) -> None:
        self.go.wait()
        if self.down:
            raise DepotDown("no")

    def delete(self, keys: list[str]) -> None:
        self.deleted += keys
        self.did_delete.set()


def watch(store: Store) -> DepotWatch:
    return DepotWatch(cast("Depot", store), SchedulerMetrics(), patience=0.2)


def test_it_says_whether_the_depot_answers() -> None:
    store = Store()
    seen = watch(store)
    assert seen.answers()
    store.down = True
    assert not seen.answers()
    seen.close()


def test_a_store_that_hangs_counts_as_down_and_is_asked_once() -> None:
    store = Store()
    seen = watch(store)
    store.go.clear()
    assert not seen.answers()
    assert not seen.answers()
    store.go.set()
    while not seen.answers():  # the one answer that was waited for
        pass
    seen.close()


def test_an_unwanted_picture_goes_with_what_lies_beside_it() -> None:
    store = Store()
    seen = watch(store)
    made = PublishedRendition(name="feed", sha256="b" * 64, bytes=5, width=8, height=10, format="webp")
    key = "outputs/1/2/3-t/picture.png"
    seen.drop([Published(key=key, sha256="a" * 64, bytes=9, width=8, height=8, format="png", renditions=(made,))])
    assert store.did_delete.wait(10)
    names = ("picture.png", "thumbnail.webp", "provenance.json", "rendition-feed.webp")
    assert store.deleted == [f"outputs/1/2/3-t/{name}" for name in names]
    seen.close()
