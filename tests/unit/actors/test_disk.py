"""Weights on disk, shared by the renderers of a machine."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.disk import Disk, Lease
from actors.engine.port import Refused
from actors.links import Links
from schemas.order import CheckpointRef, FileRef, ShardOrder
from tests.unit.actors.support import Depot, checkpoint_file, lora, order, recipe, row, running_depot


@pytest.fixture
def depot() -> Iterator[Depot]:
    with running_depot() as running:
        yield running


@pytest.fixture
def links() -> Iterator[Links]:
    made = Links(lambda _: None)
    yield made
    made.close()


def with_lora(depot: Depot, data: bytes) -> ShardOrder:
    ref, used = lora(depot, data)
    return order([row(0, recipe(loras=(used,)))], depot, loras=(ref,))


def entries(root: Path) -> set[str]:
    return {path.name for path in (root / "entries").iterdir()}


def test_weights_are_fetched_once_and_found_again(depot: Depot, links: Links, tmp_path: Path) -> None:
    wanted = with_lora(depot, b"lora")
    first, second = Lease(), Lease()
    found = Disk(tmp_path, 1 << 20, links).weights(wanted, first)
    again = Disk(tmp_path, 1 << 20, links).weights(wanted, second)
    assert found == again
    assert found.loras[0].path.read_bytes() == b"lora"
    assert depot.asked[f"GET /{wanted.loras[0].digest}"] == 1
    first.release()
    second.release()


def test_renderers_that_want_the_same_weights_at_once_fetch_them_once(
    depot: Depot, links: Links, tmp_path: Path
) -> None:
    wanted = with_lora(depot, b"lora")
    gate = depot.gates[f"/{wanted.loras[0].digest}"] = threading.Event()
    leases = [Lease(), Lease()]
    threads = [
        threading.Thread(target=Disk(tmp_path, 1 << 20, links).weights, args=(wanted, lease)) for lease in leases
    ]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert depot.asked[f"GET /{wanted.loras[0].digest}"] == 1
    for lease in leases:
        lease.release()


def test_oldest_weights_leave_when_the_folder_is_full_but_never_those_in_use(
    depot: Depot, links: Links, tmp_path: Path
) -> None:
    disk = Disk(tmp_path, 2500, links)
    in_use = Lease()
    held = with_lora(depot, b"a" * 1000)
    disk.weights(held, in_use)
    os.utime(tmp_path / "entries" / held.loras[0].digest, (0, 0))  # the oldest of all
    digests = []
    for letter in (b"b", b"c"):
        lease, wanted = Lease(), with_lora(depot, letter * 1000)
        disk.weights(wanted, lease)
        lease.release()
        digests.append(wanted.loras[0].digest)
        os.utime(tmp_path / "entries" / digests[-1], (len(digests), len(digests)))
    last = Lease()
    newest = with_lora(depot, b"d" * 1000)
    disk.weights(newest, last)
    assert held.loras[0].digest in entries(tmp_path)
    assert newest.loras[0].digest in entries(tmp_path)
    assert not set(digests) & entries(tmp_path)
    in_use.release()
    last.release()


def test_broken_download_leaves_nothing(depot: Depot, links: Links, tmp_path: Path) -> None:
    wanted = with_lora(depot, b"lora")
    depot.objects[f"/{wanted.loras[0].digest}"] = b"evil"
    lease = Lease()
    with pytest.raises(Refused) as refused:
        Disk(tmp_path, 1 << 20, links).weights(wanted, lease)
    lease.release()
    assert refused.value.failure.code == "weights_wrong_digest"
    assert wanted.loras[0].digest not in entries(tmp_path)
    assert list((tmp_path / "unfinished").iterdir()) == []


def test_what_a_dead_renderer_left_unfinished_goes(depot: Depot, links: Links, tmp_path: Path) -> None:
    wanted = with_lora(depot, b"lora")
    disk = Disk(tmp_path, 1 << 20, links)
    left = tmp_path / "unfinished" / f"{wanted.loras[0].digest}.0000"
    left.mkdir()
    lease = Lease()
    disk.weights(wanted, lease)
    lease.release()
    assert not left.exists()


@pytest.mark.parametrize("path", ["../evil.safetensors", "/etc/evil.json", "unet/model.bin", "model.ckpt", "code.py"])
def test_files_that_could_do_harm_are_refused(depot: Depot, links: Links, tmp_path: Path, path: str) -> None:
    digest = depot.add(b"x")
    file = FileRef(path=path, url=depot.link(digest), sha256=digest, bytes=1)
    checkpoint = CheckpointRef(name="bad", digest="b" * 64, files=(file,))
    wanted = order([row(0, recipe())], depot, checkpoint=checkpoint)
    lease = Lease()
    with pytest.raises(Refused) as refused:
        Disk(tmp_path / "cache", 1 << 20, links).weights(wanted, lease)
    lease.release()
    assert refused.value.failure.code == "weights_unsafe_file"
    assert not depot.asked


def test_lora_at_scale_zero_is_not_fetched(depot: Depot, links: Links, tmp_path: Path) -> None:
    ref, used = lora(depot, b"lora", scale=0.0)
    wanted = order([row(0, recipe(loras=(used,)))], depot, loras=(ref,), checkpoint=checkpoint_file(depot))
    lease = Lease()
    assert Disk(tmp_path, 1 << 20, links).weights(wanted, lease).loras == ()
    lease.release()
    assert not depot.asked[f"GET /{ref.digest}"]
