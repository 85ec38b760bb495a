"""The depot's twin in memory, with the same behaviour."""

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from farm.core.errors import DepotDown, NotFound

_SCHEME = "memory"


class MemoryDepot:
    """Thread-safe. Set ``answers`` to False and it is a store that is down."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.answers, self._now = True, now
        self._objects: dict[str, tuple[bytes, str, datetime]] = {}
        self._lock = threading.Lock()

    def ready(self) -> None:
        self._check()

    def put(self, key: str, data: bytes, content_type: str) -> None:
        self._check()
        with self._lock:
            self._objects[key] = (bytes(data), content_type, self._now())

    def put_file(self, key: str, path: Path, content_type: str) -> None:
        self.put(key, path.read_bytes(), content_type)

    def get(self, key: str) -> bytes:
        return self._found(key)[0]

    @contextmanager
    def open(self, key: str, offset: int = 0, length: int = 0) -> Iterator[BinaryIO]:
        data = self.get(key)
        yield io.BytesIO(data[offset : offset + length if length else None])

    def size(self, key: str) -> int | None:
        self._check()
        with self._lock:
            return len(self._objects[key][0]) if key in self._objects else None

    def written_at(self, key: str) -> datetime | None:
        self._check()
        with self._lock:
            return self._objects[key][2] if key in self._objects else None

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        self._check()
        with self._lock:
            found = [(key, len(data)) for key, (data, _, _) in self._objects.items() if key.startswith(prefix)]
        yield from sorted(found)

    def delete(self, keys: Sequence[str]) -> None:
        self._check()
        with self._lock:
            for key in keys:
                self._objects.pop(key, None)

    def link_get(self, key: str, ttl: timedelta, filename: str | None = None) -> str:
        return _link("get", key, ttl, filename)

    def link_put(self, key: str, ttl: timedelta) -> str:
        return _link("put", key, ttl, None)

    def fetch(self, link: str) -> bytes:
        """What an HTTP client does with a link of `link_get`."""
        return self.get(_key(link, "get"))

    def send(self, link: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """What an HTTP client does with a link of `link_put`."""
        self.put(_key(link, "put"), data, content_type)

    def _found(self, key: str) -> tuple[bytes, str, datetime]:
        self._check()
        with self._lock:
            if key not in self._objects:
                raise NotFound(f"There is no object {key} in the depot.")
            return self._objects[key]

    def _check(self) -> None:
        if not self.answers:
            raise DepotDown("The store in memory was told not to answer.")


def _link(verb: str, key: str, ttl: timedelta, filename: str | None) -> str:
    query = {"verb": verb, "ttl": str(int(ttl.total_seconds()))} | ({"filename": filename} if filename else {})
    return f"{_SCHEME}:///{quote(key)}?{urlencode(query)}"


def _key(link: str, verb: str) -> str:
    parts = urlsplit(link)
    if parts.scheme != _SCHEME or parse_qs(parts.query)["verb"] != [verb]:
        raise PermissionError(f"{link} is no link to {verb} an object.")
    return unquote(parts.path.removeprefix("/"))
