"""HTTP on presigned links: fetch and check, upload and check, with a few bounded retries."""

import base64
import hashlib
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx2

from actors.engine.port import Refused
from schemas.report import FailureKind

TRIES = 4
FIRST_PAUSE = 0.25
"""Seconds before the second try; each further pause is twice as long, less a random part."""

_MD5 = re.compile(r"^[0-9a-f]{32}$")
T = TypeVar("T")


class _TryAgain(Exception):
    """It may be better in a moment."""


class WrongDigest(Exception):
    """What came is not what was asked for, twice."""


class Links:
    """Safe to use from several threads. *pause* waits for seconds; it returns early when the renderer is closed."""

    def __init__(self, pause: Callable[[float], object], connections: int = 16) -> None:
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        timeout = httpx2.Timeout(60.0, connect=10.0)
        self._client = httpx2.Client(limits=limits, timeout=timeout, trust_env=False)
        self._pause = pause

    def close(self) -> None:
        self._client.close()

    def get(self, url: str, *, sha256: str, limit: int) -> bytes:
        """Raises `Refused` (DEPOT) and `WrongDigest`. No more than *limit* bytes are kept."""
        return self._tried(lambda: b"".join(self._checked(url, sha256, limit)))

    def download(self, url: str, path: Path, *, sha256: str, limit: int) -> None:
        """Streams into *path*, which is complete when this returns. Raises as `get` does."""

        def once() -> None:
            with path.open("wb") as file:
                for chunk in self._checked(url, sha256, limit):
                    file.write(chunk)

        self._tried(once)

    def put(self, url: str, body: bytes, content_type: str) -> None:
        """Raises `Refused` (DEPOT). The store checks the MD5 that we send, and we check the one that it answers."""
        digest = hashlib.md5(body, usedforsecurity=False)
        headers = {"Content-Type": content_type, "Content-MD5": base64.b64encode(digest.digest()).decode()}

        def once() -> None:
            response = self._client.put(url, content=body, headers=headers)
            _check_status(response)
            tag = response.headers.get("etag", "").strip('"').lower()
            if _MD5.match(tag) and tag != digest.hexdigest():  # behind encryption a tag may be something else
                raise _TryAgain("The depot stored other bytes than it was sent.")

        self._tried(once)

    def _checked(self, url: str, sha256: str, limit: int) -> Iterator[bytes]:
        digest, size = hashlib.sha256(), 0
        with self._client.stream("GET", url) as response:
            _check_status(response)
            for chunk in response.iter_raw(1 << 20):
                size += len(chunk)
                if size > limit:
                    raise WrongDigest(f"more than the {limit} bytes that were announced")
                digest.update(chunk)
                yield chunk
        if digest.hexdigest() != sha256:
            raise WrongDigest(f"sha256 is {digest.hexdigest()}, not {sha256}")

    def _tried(self, once: Callable[[], T]) -> T:
        for number in range(1, TRIES + 1):
            try:
                return once()
            except httpx2.InvalidURL as error:
                raise Refused(FailureKind.DEPOT, "depot_bad_link", f"No usable link: {error}") from error
            except WrongDigest:
                if number > 1:
                    raise
            except (_TryAgain, httpx2.TransportError) as error:
                if number == TRIES:
                    detail = f"The depot did not answer as it should, {TRIES} times: {_words(error)}"
                    raise Refused(FailureKind.DEPOT, "depot_unreachable", detail) from error
            self._pause(FIRST_PAUSE * 2 ** (number - 1) * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")


def _check_status(response: httpx2.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    if status == 429 or status >= 500:
        raise _TryAgain(f"HTTP {status}")
    code = {403: "depot_link_refused", 404: "depot_missing"}.get(status, "depot_refused")
    raise Refused(FailureKind.DEPOT, code, f"The depot answered HTTP {status}.")


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
