"""How the client speaks to the farm: requests that are repeated while it is away, pages, and event streams."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import IO, Self, TypeVar, cast

import httpx2
from pydantic import BaseModel, ValidationError

from schemas.event import Event
from schemas.page import Page
from schemas.problem import Problem

M = TypeVar("M", bound=BaseModel)
Params = Mapping[str, str | int | float | list[str] | None]
_AWAY = frozenset({502, 503, 504})
_CHUNK = 1 << 20
_SILENCE = 45.0
"""Seconds. The server says something every 15, so after three times that the stream is dead."""

_BETWEEN_KEEP_ALIVES = 10.0


class ApiError(Exception):
    """The farm refused, and said why in ``problem``."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Unreachable(ApiError):
    """The farm, or a part that it needs, does not answer."""


class Transport:
    """Thread-safe. *patience* is how long a call is repeated while the farm is away. Few calls need no *key*."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        patience: timedelta = timedelta(seconds=15),
        http: httpx2.Client | None = None,
        files: httpx2.Client | None = None,
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = http or httpx2.Client(timeout=httpx2.Timeout(60, connect=5))
        self._files = files or httpx2.Client(timeout=httpx2.Timeout(60, connect=5))  # presigned links: never the key
        self._url, self._headers, self._patience = url.rstrip("/"), headers, patience.total_seconds()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()
        self._files.close()

    def fetch(self, link: str, target: IO[bytes]) -> None:
        """What lies behind a presigned link. Raises `Unreachable` when the depot refuses or does not answer."""
        try:
            with self._files.stream("GET", link) as response:
                if response.status_code != 200:
                    raise Unreachable(_local("depot_refused", f"The depot answered {response.status_code}."))
                for chunk in response.iter_bytes(_CHUNK):
                    target.write(chunk)
        except httpx2.TransportError as away:
            raise Unreachable(_local("depot_down", f"The depot does not answer: {away}.")) from away

    def _stream(self, path: str, after: int | None, deadline: float | None) -> Iterator[Event | None]:
        """Events, and None each time the stream has been opened."""
        position, delay = after, 0.0
        while True:
            time.sleep(delay)
            delay = min(max(2 * delay, 0.25), 5)
            try:
                with self._open_stream(path, position, deadline) as source:
                    for message in source:
                        position = int(message.id or position or 0)
                        delay = 0.25
                        yield _event(message)
                        _left(deadline)
            except httpx2.TransportError:
                _left(deadline)

    @contextmanager
    def _open_stream(self, path: str, after: int | None, deadline: float | None) -> Iterator[httpx2.EventSource]:
        headers = self._headers | ({} if after is None else {"Last-Event-ID": str(after)})
        # Keep-alives end a read and no message comes of them: a deadline is looked at when a read takes too long, so
        # with one the stream is opened anew before the server's next keep-alive.
        patience = _SILENCE if deadline is None else min(_BETWEEN_KEEP_ALIVES, _left(deadline))
        timeout = httpx2.Timeout(10, read=patience)
        with self._http.sse(self._url + path, headers=headers, timeout=timeout) as source:
            if source.response.status_code in _AWAY:
                raise httpx2.ConnectError("the farm is away")
            if source.response.status_code != 200:
                source.response.read()
                raise ApiError(_problem(source.response))
            yield source

    def _get(self, path: str, kind: type[M], params: Params | None = None) -> M:
        return kind.model_validate_json(self._send("GET", path, params=params).content)

    def _post(
        self,
        path: str,
        kind: type[M],
        *,
        params: Params | None = None,
        body: BaseModel | None = None,
        content: bytes | None = None,
        file: IO[bytes] | None = None,
        key: str | None = None,
    ) -> M:
        response = self._post_raw(path, params=params, body=body, content=content, file=file, key=key)
        return kind.model_validate_json(response.content)

    def _post_raw(
        self,
        path: str,
        *,
        params: Params | None = None,
        body: BaseModel | None = None,
        content: bytes | None = None,
        file: IO[bytes] | None = None,
        key: str | None = None,
    ) -> httpx2.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        if body is not None:
            content, headers["Content-Type"] = _json(body), "application/json"
        return self._send("POST", path, params=params, content=content, file=file, headers=headers)

    def _patch(self, path: str, kind: type[M], body: BaseModel) -> M:
        response = self._send("PATCH", path, content=_json(body), headers={"Content-Type": "application/json"})
        return kind.model_validate_json(response.content)

    def _pages(self, path: str, kind: type[M], params: Params | None = None) -> Iterator[M]:
        cursor = None
        while True:
            found = self._get(path, Page[kind], {**(params or {}), "after": cursor})  # type: ignore[valid-type]
            yield from cast("tuple[M, ...]", found.data)
            if not found.has_more:
                return
            cursor = found.next_cursor

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        content: bytes | None = None,
        file: IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> httpx2.Response:
        """Once, and again while the farm is away and *patience* lasts."""
        asked = {name: value for name, value in (params or {}).items() if value is not None}
        deadline = time.monotonic() + (self._patience if patience is None else patience)
        delay = 0.1
        while True:
            try:
                response = self._http.request(
                    method,
                    self._url + path,
                    params=asked,
                    content=content if file is None else _chunks(file),
                    headers={**self._headers, **(headers or {})} | ({} if file is None else _length(file)),
                )
                if response.status_code < 400:
                    return response
                error = (Unreachable if response.status_code in _AWAY else ApiError)(_problem(response))
            except httpx2.TransportError as away:
                error = Unreachable(_local("unreachable", f"The farm at {self._url} does not answer: {away}."))
            if not isinstance(error, Unreachable) or time.monotonic() + delay > deadline:
                raise error
            time.sleep(delay)
            delay = min(2 * delay, 5)


def _json(body: BaseModel) -> bytes:
    """Without defaults: a farm of an earlier release refuses keys that it does not know."""
    return body.model_dump_json(exclude_defaults=True).encode()


def _event(message: httpx2.ServerSentEvent) -> Event | None:
    if message.event == "stream.opened":
        return None
    try:
        return Event.model_validate_json(message.data)
    except ValidationError:  # of a kind that a newer farm knows: as good as a reason to look
        return None


def _left(deadline: float | None) -> float:
    """Seconds until *deadline*. Raises `TimeoutError` after it."""
    left = float("inf") if deadline is None else deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("The campaign has not ended in time.")
    return left


def _problem(response: httpx2.Response) -> Problem:
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:  # a proxy in between
        return _local(f"http_{response.status_code}", f"{response.url} answered {response.status_code}.")


def _local(code: str, detail: str) -> Problem:
    return Problem(type="about:blank", title="The farm does not answer", status=503, detail=detail, code=code)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(_CHUNK):
        yield chunk


def _length(file: IO[bytes]) -> dict[str, str]:
    return {"Content-Length": str(file.seek(0, 2))}
