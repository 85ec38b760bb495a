"""Keyset pages: ``?limit=50&after=`` in, ``{data, has_more, next_cursor}`` out."""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Query

from schemas.page import Page

Row = TypeVar("Row")
View = TypeVar("View")

Limit = Annotated[int, Query(ge=1, le=200, description="How many at most.")]
After = Annotated[str | None, Query(max_length=100, description="`next_cursor` of the page before.")]


def page(rows: Sequence[Row], limit: int, view: Callable[[Row], View], cursor: Callable[[View], str]) -> Page[View]:
    """*rows* are one more than *limit* when there are more."""
    data = tuple(view(row) for row in rows[:limit])
    more = len(rows) > limit
    return Page(data=data, has_more=more, next_cursor=cursor(data[-1]) if more else None)


def whole(data: Sequence[View]) -> Page[View]:
    """A list that is short by nature, on one page."""
    return Page(data=tuple(data), has_more=False, next_cursor=None)
