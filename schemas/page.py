"""Lists, a page at a time."""

from typing import Generic, TypeVar

from schemas.base import Wire

T = TypeVar("T")


class Page(Wire, Generic[T]):
    """``next_cursor`` goes into ``?after=`` of the next request. A page may be short, or empty, and not the last."""

    data: tuple[T, ...]
    has_more: bool
    next_cursor: str | None
