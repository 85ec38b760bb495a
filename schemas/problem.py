"""Errors as every client gets them (RFC 9457)."""

from schemas.base import Wire


class Fault(Wire):
    """One thing wrong in a request. ``pointer`` is a JSON pointer into what was sent."""

    pointer: str
    code: str
    detail: str


class Problem(Wire):
    """``application/problem+json``. ``code`` is stable; sentences may be reworded."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str | None = None
    request_id: str | None = None
    errors: tuple[Fault, ...] = ()
