"""Which pictures are fetched ahead, and which prepared ones are kept."""

from typing import Any

from PIL import Image

from actors.ledger import HeldRow, Ledger, RowRef, Stage
from actors.making import Making
from actors.prepare import Prepared
from actors.sources import Sources, key_of
from schemas.recipe import Mask
from tests.unit.actors.support import order, recipe, row

WINDOW = 2
BYTES = 64 * 48 * 3
"""Of one picture."""


def a_ledger(*shards: list[str], **changes: Any) -> Ledger:
    """Each shard has a row for each of its sources."""
    ledger = Ledger(first_seq=1)
    for number, sources in enumerate(shards):
        rows = [row(ordinal, recipe(source, **changes)) for ordinal, source in enumerate(sources)]
        ledger.offer(order(rows, shard=number, fence="f"))
    return ledger


def wanted(sources: Sources, ledger: Ledger) -> list[str]:
    return [each.row.recipe.source for each in sources.wanted(ledger.queue())]


def key(source: str) -> str:
    return key_of(HeldRow(row(0, recipe(source))))


def a_picture() -> Prepared:
    return Prepared(picture=Image.new("RGB", (64, 48)), mask=None, control=None, references=())


def test_each_shard_has_a_window_of_its_own() -> None:
    ledger = a_ledger(["a", "b", "c", "d"], ["x", "y", "z"])
    assert wanted(Sources(WINDOW), ledger) == ["a", "b", "x", "y"]


def test_rows_with_the_same_source_need_it_once() -> None:
    ledger = a_ledger(["a", "a", "b", "a", "c", "b"])
    sources = Sources(WINDOW)
    assert wanted(sources, ledger) == ["a", "b"]
    assert [ref.ordinal for _, ref, _ in sources.visible(ledger.queue())] == [0, 1, 2, 3, 5]


def test_rows_with_another_mask_need_other_inputs() -> None:
    one, other = row(0, recipe("a")), row(1, recipe("a", mask=Mask(picture="m", feather=0)))
    ledger = Ledger(first_seq=1)
    ledger.offer(order([one, other], shard=1, fence="f"))
    assert wanted(Sources(WINDOW), ledger) == ["a", "a"]


def test_what_is_on_its_way_is_not_asked_for_again_until_it_failed() -> None:
    ledger, sources = a_ledger(["a"]), Sources(WINDOW)
    assert wanted(sources, ledger) == ["a"]
    assert wanted(sources, ledger) == []
    sources.failed(key("a"))
    assert wanted(sources, ledger) == ["a"]


def test_only_the_first_row_is_charged_for_fetching() -> None:
    ledger, sources = a_ledger(["a", "b"]), Sources(WINDOW)
    wanted(sources, ledger)
    sources.came(key("a"), a_picture(), 1.5)
    assert sources[key("a")].charge() == 1.5
    assert sources[key("a")].charge() == 0.0


def test_pictures_that_no_row_waits_for_are_kept_while_there_is_room_and_the_oldest_leave_first() -> None:
    ledger, sources = a_ledger(["a", "b", "c"]), Sources(3, kept_bytes=BYTES)
    wanted(sources, ledger)
    for source in "abc":
        sources.came(key(source), a_picture(), 0.0)
    for ordinal in range(2):  # first a, then b is not needed any more
        ledger.move([RowRef(0, "f", ordinal)], Stage.RUNNING)
        wanted(sources, ledger)
    assert [source for source in "abc" if key(source) in sources] == ["b", "c"]


def test_a_picture_that_was_kept_is_not_fetched_again() -> None:
    ledger, sources = a_ledger(["a"]), Sources(WINDOW, kept_bytes=BYTES)
    wanted(sources, ledger)
    sources.came(key("a"), a_picture(), 0.0)
    ledger.revoke(None, 0.0)
    wanted(sources, ledger)
    assert wanted(sources, a_ledger(["a"], prompt="another style")) == []


def test_a_row_that_has_begun_takes_no_place_in_the_window_and_fetches_nothing() -> None:
    ledger, sources = a_ledger(["a", "b", "c"]), Sources(WINDOW)
    held = ledger.row(RowRef(0, "f", 0))
    assert held is not None
    held.making = Making(held.order, a_picture())
    assert wanted(sources, ledger) == ["b", "c"]
    assert [ref.ordinal for _, ref, _ in sources.visible(ledger.queue())] == [0, 1, 2]
