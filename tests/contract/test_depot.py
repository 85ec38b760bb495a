"""What every depot does: the twin in memory, SeaweedFS, and the MinIO gateway."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from farm.core.errors import DepotDown, NotFound
from farm.depot.memory import MemoryDepot
from farm.depot.s3 import S3Depot
from farm.ports import Depot
from tests.support.parts import StoreServer

HOUR = timedelta(hours=1)
PNG = "image/png"


class Visitor(Protocol):
    """Somebody who has a link and nothing else."""

    def get(self, link: str) -> bytes: ...

    def put(self, link: str, data: bytes) -> None: ...


class OverHttp:
    def get(self, link: str) -> bytes:
        return httpx2.get(link).raise_for_status().content

    def put(self, link: str, data: bytes) -> None:
        httpx2.put(link, content=data).raise_for_status()


class InMemory:
    """The twin has no HTTP server; it takes its own links back."""

    def __init__(self, depot: MemoryDepot) -> None:
        self.get = depot.fetch
        self.put = depot.send


@pytest.fixture(params=["memory", "seaweedfs", "minio_gateway"])
def world(request: pytest.FixtureRequest) -> tuple[Depot, Visitor]:
    if request.param == "memory":
        twin = MemoryDepot()
        return twin, InMemory(twin)
    server: StoreServer = request.getfixturevalue("s3" if request.param == "seaweedfs" else "minio_gateway")
    return server.depot(), OverHttp()


@pytest.fixture
def depot(world: tuple[Depot, Visitor]) -> Depot:
    return world[0]


@pytest.fixture
def visitor(world: tuple[Depot, Visitor]) -> Visitor:
    return world[1]


def test_ready_may_be_asked_again(depot: Depot) -> None:
    depot.ready()
    depot.ready()


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 4096], ids=["empty", "a byte", "a megabyte"])
def test_what_was_put_is_got(depot: Depot, data: bytes) -> None:
    depot.put("a/b.png", data, PNG)
    assert depot.get("a/b.png") == data
    assert depot.size("a/b.png") == len(data)


def test_it_is_known_when_an_object_was_written(depot: Depot) -> None:
    before = datetime.now(UTC).replace(microsecond=0)  # S3 tells it in whole seconds
    depot.put("a", b"1", PNG)
    written = depot.written_at("a")
    assert written is not None
    assert before <= written <= datetime.now(UTC)
    assert depot.written_at("nowhere") is None


def test_a_second_put_replaces_the_first(depot: Depot) -> None:
    depot.put("a", b"first and longer", PNG)
    depot.put("a", b"second", PNG)
    assert depot.get("a") == b"second"


@pytest.mark.parametrize("key", ["with space.png", "ümläut/ß", "plus+and&and=", "percent%20", "dots..x/y"])
def test_odd_keys_stay_as_they_are(depot: Depot, visitor: Visitor, key: str) -> None:
    depot.put(key, b"odd", PNG)
    assert depot.get(key) == b"odd"
    assert list(depot.list("")) == [(key, 3)]
    assert visitor.get(depot.link_get(key, HOUR)) == b"odd"


def test_a_missing_object_is_not_found(depot: Depot) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        depot.get("nowhere")
    with pytest.raises(NotFound), depot.open("nowhere"):
        pass
    assert depot.size("nowhere") is None


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, 0, b"0123456789"),
        (0, 3, b"012"),
        (4, 0, b"456789"),
        (4, 2, b"45"),
        (8, 100, b"89"),
        (10, 0, b""),
        (50, 5, b""),
    ],
)
def test_a_part_can_be_read(depot: Depot, offset: int, length: int, expected: bytes) -> None:
    depot.put("digits", b"0123456789", PNG)
    with depot.open("digits", offset, length) as body:
        assert body.read() == expected


def test_an_object_can_be_read_in_pieces(depot: Depot) -> None:
    data = bytes(range(256)) * 1000
    depot.put("big", data, PNG)
    with depot.open("big") as body:
        pieces = list(iter(lambda: body.read(10_000), b""))
    assert b"".join(pieces) == data
    assert len(pieces) > 1


def test_reading_may_stop_half_way(depot: Depot) -> None:
    depot.put("big", bytes(3 * 2**20), PNG)
    for _ in range(3):
        with depot.open("big") as body:
            assert body.read(10) == bytes(10)
    assert depot.size("big") == 3 * 2**20


def test_a_file_is_put(depot: Depot, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(bytes(range(256)) * 100)
    depot.put_file("w", file, "application/octet-stream")
    assert depot.get("w") == file.read_bytes()


def test_a_file_of_several_parts_is_put(depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.depot.s3._PART_BYTES", 5 * 2**20)  # the smallest that S3 allows
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"".join(bytes([number]) * 2**20 for number in range(11)))
    depot.put_file("w", file, "application/octet-stream")
    assert depot.size("w") == 11 * 2**20
    assert depot.get("w") == file.read_bytes()


def test_list_gives_what_is_under_a_prefix(depot: Depot) -> None:
    for key in ["a/1", "a/2/x", "ab", "b/1"]:
        depot.put(key, key.encode(), PNG)
    assert sorted(depot.list("a/")) == [("a/1", 3), ("a/2/x", 5)]
    assert sorted(depot.list("a")) == [("a/1", 3), ("a/2/x", 5), ("ab", 2)]
    assert sorted(key for key, _ in depot.list("")) == ["a/1", "a/2/x", "ab", "b/1"]
    assert list(depot.list("c")) == []


def test_list_goes_past_the_first_page(depot: Depot) -> None:
    keys = {f"many/{number:04}" for number in range(1005)}  # S3 gives at most 1000 at a time
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: depot.put(key, b"x", PNG), keys))
    assert {key for key, _ in depot.list("many/")} == keys
    depot.delete(sorted(keys))
    assert list(depot.list("many/")) == []


def test_delete_is_content_with_what_is_not_there(depot: Depot) -> None:
    depot.put("a", b"1", PNG)
    depot.put("b", b"1", PNG)
    depot.delete(["a", "never-was"])
    depot.delete(["a"])
    depot.delete([])
    assert [key for key, _ in depot.list("")] == ["b"]


def test_a_link_reads_one_object_without_keys(depot: Depot, visitor: Visitor) -> None:
    depot.put("team/picture.png", b"pixels", PNG)
    assert visitor.get(depot.link_get("team/picture.png", HOUR)) == b"pixels"


def test_a_link_writes_one_object_without_keys(depot: Depot, visitor: Visitor) -> None:
    visitor.put(depot.link_put("out/1.png", HOUR), b"pixels")
    assert depot.get("out/1.png") == b"pixels"


def test_threads_may_share_a_depot(depot: Depot) -> None:
    def put_and_get(number: int) -> bool:
        depot.put(f"t/{number}", str(number).encode(), PNG)
        return depot.get(f"t/{number}") == str(number).encode()

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(put_and_get, range(64)))


class TestLinksOverHttp:
    """What only a store with HTTP can show; the twin has no signatures and no headers."""

    @pytest.fixture(params=["s3", "minio_gateway"])
    def real(self, request: pytest.FixtureRequest) -> S3Depot:
        server: StoreServer = request.getfixturevalue(request.param)
        return server.depot()

    def test_a_link_of_one_object_does_not_open_another(self, real: S3Depot) -> None:
        real.put("mine", b"1", PNG)
        real.put("yours", b"2", PNG)
        link = real.link_get("mine", HOUR).replace("/mine?", "/yours?")
        assert httpx2.get(link).status_code == 403

    def test_a_link_that_reads_does_not_write(self, real: S3Depot) -> None:
        real.put("mine", b"1", PNG)
        assert httpx2.put(real.link_get("mine", HOUR), content=b"2").status_code == 403
        assert real.get("mine") == b"1"

    def test_without_a_signature_nothing_is_read(self, real: S3Depot) -> None:
        real.put("mine", b"1", PNG)
        assert httpx2.get(real.link_get("mine", HOUR).partition("?")[0]).status_code == 403

    def test_a_link_says_how_long_it_lasts(self, real: S3Depot) -> None:
        query = parse_qs(urlsplit(real.link_get("mine", timedelta(minutes=5))).query)
        assert query["X-Amz-Expires"] == ["300"]

    def test_a_browser_is_told_the_file_name(self, real: S3Depot) -> None:
        real.put("mine", b"1", PNG)
        answer = httpx2.get(real.link_get("mine", HOUR, filename='Käse "1".png'))
        disposition = answer.headers["content-disposition"]
        assert disposition.startswith('attachment; filename="K_se _1_.png"')
        assert "filename*=UTF-8''K%C3%A4se%20%221%22.png" in disposition

    def test_the_type_of_an_object_is_kept(self, real: S3Depot) -> None:
        real.put("mine", b"1", PNG)
        assert httpx2.get(real.link_get("mine", HOUR)).headers["content-type"] == PNG


def _every_call(depot: Depot) -> dict[str, object]:
    return {
        "ready": depot.ready,
        "put": lambda: depot.put("a", b"1", PNG),
        "put_file": lambda: depot.put_file("a", Path(__file__), PNG),
        "get": lambda: depot.get("a"),
        "open": lambda: depot.open("a").__enter__(),
        "size": lambda: depot.size("a"),
        "list": lambda: list(depot.list("")),
        "delete": lambda: depot.delete(["a"]),
    }


def _depot(endpoint: str, *, access_key: str = "key", secret_key: str = "wrong") -> S3Depot:
    return S3Depot(
        endpoint=endpoint,
        access_key=access_key,
        secret_key=secret_key,
        bucket="halftone",
        region="us-east-1",
        secure=False,
    )


def _silent() -> dict[str, Depot]:
    twin = MemoryDepot()
    twin.answers = False
    return {"memory": twin, "s3": _depot("127.0.0.1:1")}


@pytest.mark.parametrize("call", list(_every_call(MemoryDepot())))
@pytest.mark.parametrize("make", ["memory", "s3"])
def test_a_store_that_does_not_answer_is_down(make: str, call: str) -> None:
    method = _every_call(_silent()[make])[call]
    assert callable(method)
    with pytest.raises(DepotDown):
        method()


def test_links_need_no_store() -> None:
    assert _silent()["s3"].link_get("a", HOUR).startswith("http://127.0.0.1:1/halftone/a?")


def test_wrong_keys_are_told_in_words(s3: StoreServer) -> None:
    wrong = _depot(s3.endpoint, access_key=s3.access_key)
    with pytest.raises(DepotDown, match=r"SignatureDoesNotMatch|AccessDenied|Forbidden"):
        wrong.ready()
    with pytest.raises(DepotDown):
        wrong.get("a")
