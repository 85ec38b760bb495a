"""The depot on any S3 store, through the `minio` client library."""

import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar, cast
from urllib.parse import quote

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

from farm.core.errors import DepotDown, NotFound

T = TypeVar("T")

_PAGE = 1_000
"""Objects that S3 lists at once."""

_CONNECT_SECONDS = 3
_READ_SECONDS = 30
_CONNECTIONS = 32

# Everything up to here goes up in one request, at the price of this much memory (three times it for larger files).
_PART_BYTES = 32 * 2**20

_ABSENT = {"NoSuchKey", "NoSuchObject"}
_OURS_ALREADY = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


class Observer(Protocol):
    """Hears how the store is doing: put, get, stat, list, delete, ready."""

    def took(self, what: str, seconds: float) -> None:
        """A call has ended, well or not. Of a get, until its first bytes."""
        ...

    def failed(self, what: str) -> None:
        """The store did not answer, or refused."""
        ...


class S3Depot:
    """Thread-safe. Makes no call before the first method; links never make one."""

    def __init__(
        self,
        *,
        endpoint: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        region: str,
        secure: bool,
        observer: Observer | None = None,
    ) -> None:
        self._bucket = bucket
        self._observer = observer
        self._endpoint = endpoint
        self._client = Minio(
            endpoint,
            access_key=access_key,
            secret_key=secret_key,
            secure=secure,
            region=region,  # without it the client asks the store before it signs a link
            http_client=_pool(),
        )

    def ready(self) -> None:
        """Makes the bucket when it is missing."""
        with self._mapped("ready"), self._timed("ready"):
            if self._client.bucket_exists(self._bucket):
                return
            try:
                self._client.make_bucket(self._bucket)
            except S3Error as error:
                if error.code not in _OURS_ALREADY:  # another process was first
                    raise

    def put(self, key: str, data: bytes, content_type: str) -> None:
        with self._mapped("put"), self._timed("put"):
            self._client.put_object(
                self._bucket, key, io.BytesIO(data), len(data), content_type=content_type, part_size=_PART_BYTES
            )

    def put_file(self, key: str, path: Path, content_type: str) -> None:
        with self._mapped("put"), self._timed("put"):
            self._client.fput_object(self._bucket, key, str(path), content_type=content_type, part_size=_PART_BYTES)

    def get(self, key: str) -> bytes:
        with self.open(key) as body:
            return body.read()

    @contextmanager
    def open(self, key: str, offset: int = 0, length: int = 0) -> Iterator[BinaryIO]:
        with self._mapped("get", key):
            try:
                with self._timed("get"):
                    response = self._client.get_object(self._bucket, key, offset=offset, length=length)
            except S3Error as error:
                if error.code != "InvalidRange":
                    raise
                yield io.BytesIO()  # a file read past its end gives nothing either
                return
            try:
                yield cast(BinaryIO, response)
            finally:
                response.close()  # not back into the pool with an unread rest in it
                response.release_conn()

    def size(self, key: str) -> int | None:
        try:
            with self._mapped("stat", key), self._timed("stat"):
                return self._client.stat_object(self._bucket, key).size
        except NotFound:
            return None

    def written_at(self, key: str) -> datetime | None:
        try:
            with self._mapped("stat", key), self._timed("stat"):
                return self._client.stat_object(self._bucket, key).last_modified
        except NotFound:
            return None

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        with self._mapped("list"):
            pages = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
            for found in self._timed_pages(pages):
                if found.object_name and not found.is_dir:
                    yield found.object_name, found.size or 0

    def delete(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        with self._mapped("delete"), self._timed("delete"):
            errors = list(self._client.remove_objects(self._bucket, [DeleteObject(key) for key in keys]))
        kept = [error for error in errors if error.code not in _ABSENT]
        if kept:
            self._failed("delete")
            raise DepotDown(f"The store kept {len(kept)} of {len(keys)} objects: {kept[0].code}, {kept[0].message}.")

    def link_get(self, key: str, ttl: timedelta, filename: str | None = None) -> str:
        headers = {"response-content-disposition": attachment(filename)} if filename else None
        return self._client.presigned_get_object(
            self._bucket, key, expires=ttl, response_headers=cast("dict[str, str | list[str] | tuple[str]]", headers)
        )

    def link_put(self, key: str, ttl: timedelta) -> str:
        return self._client.presigned_put_object(self._bucket, key, expires=ttl)

    @contextmanager
    def _mapped(self, what: str, key: str | None = None) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            if key is not None and error.code in _ABSENT:
                raise NotFound(f"There is no object {key} in the depot.") from error
            self._failed(what)
            where = f"bucket {self._bucket} of the store at {self._endpoint}"
            raise DepotDown(f"The {where} answered {error.code}: {error.message}") from error
        except MinioException as error:
            self._failed(what)
            raise DepotDown(f"The store at {self._endpoint} did not answer as an S3 store: {error}") from error
        except urllib3.exceptions.HTTPError as error:
            self._failed(what)
            raise DepotDown(f"The store at {self._endpoint} does not answer: {error}") from error

    def _failed(self, what: str) -> None:
        if self._observer is not None:
            self._observer.failed(what)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            if self._observer is not None:
                self._observer.took(what, time.perf_counter() - began)

    def _timed_pages(self, found: Iterator[T]) -> Iterator[T]:
        """A call brings a page; what the caller does between one object and the next is not the store's time."""
        while True:
            with self._timed("list"):
                page = list(islice(found, _PAGE))
            yield from page
            if len(page) < _PAGE:
                return


def attachment(filename: str) -> str:
    """A Content-Disposition (RFC 6266): the true name, and one that old clients and odd characters survive."""
    plain = "".join(char if char.isascii() and char.isprintable() and char not in '"\\%' else "_" for char in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _pool() -> urllib3.PoolManager:
    """Tries a call four times within about two seconds. Every call that we make may be repeated, POST (delete) too."""
    retries = urllib3.Retry(
        total=3,
        backoff_factor=0.2,
        status_forcelist=(500, 502, 503, 504),
        allowed_methods=None,
        respect_retry_after_header=False,  # it may say an hour; whoever calls us has a lease to keep
    )
    timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS)
    return urllib3.PoolManager(maxsize=_CONNECTIONS, timeout=timeout, retries=retries)
