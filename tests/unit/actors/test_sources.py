"""Which sources are fetched ahead, and which prepared pictures are kept."""

from PIL import Image

from actors.ledger import Ledger, RowRef, Stage
from actors.sources import PictureKey, Sources
from tests.unit.actors.support import order, recipe, row

WINDOW = 2


def a_ledger(*shards: list[str]) -> Ledger:
    """Each shard has a row for each of its sources."""
    ledger = Ledger(first_seq=1)
    for number, sources in enumerate(shards):
        rows = [row(ordinal, recipe(source)) for ordinal, source in enumerate(sources)]
        ledger.offer(order(rows, shard=number, fence="f"))
    return ledger


def wanted(sources: Sources, ledger: Ledger) -> list[str]:
    return [key.sha256 for key, _ in sources.wanted(ledger.waiting())]


def test_each_shard_has_a_window_of_its_own() -> None:
    ledger = a_ledger(["a", "b", "c", "d"], ["x", "y", "z"])
    assert wanted(Sources(WINDOW), ledger) == ["a", "b", "x", "y"]


def test_rows_with_the_same_source_need_it_once() -> None:
    ledger = a_ledger(["a", "a", "b", "a", "c", "b"])
    sources = Sources(WINDOW)
    assert wanted(sources, ledger) == ["a", "b"]
    assert [ref.ordinal for _, ref, _, _ in sources.visible(ledger.waiting())] == [0, 1, 2, 3, 5]


def test_what_is_on_its_way_is_not_asked_for_again_until_it_failed() -> None:
    ledger, sources = a_ledger(["a"]), Sources(WINDOW)
    assert wanted(sources, ledger) == ["a"]
    assert wanted(sources, ledger) == []
    sources.failed(PictureKey.of(recipe("a")))
    assert wanted(sources, ledger) == ["a"]


def test_picture_goes_when_no_waiting_row_needs_it() -> None:
    ledger, sources = a_ledger(["a", "b"]), Sources(WINDOW)
    wanted(sources, ledger)
    key = PictureKey.of(recipe("a"))
    sources.came(key, Image.new("RGB", (64, 48)), 1.5)
    assert sources[key].charge() == 1.5
    assert sources[key].charge() == 0.0
    ledger.move([RowRef(0, "f", 0)], Stage.RUNNING)
    wanted(sources, ledger)
    assert key not in sources
