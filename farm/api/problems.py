"""Every error as ``application/problem+json`` (RFC 9457), validation and unknown routes included."""

import errno
from collections.abc import Iterable, Mapping
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from farm.core.errors import (
    BadRequest,
    Conflict,
    FarmError,
    KeyReused,
    NotFound,
    Refused,
    TooLarge,
    Unauthorised,
    Unavailable,
)
from farm.telemetry import ApiMetrics
from schemas.problem import Fault, Problem

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "2"
"""Seconds: about as long as a database or an S3 store takes to come back from a restart of its connections."""

_BODY_UNREADABLE = "There was an error parsing the body"  # FastAPI's words for JSON that is nested too deeply

_STATUS: tuple[tuple[type[FarmError], int], ...] = (
    (KeyReused, 422),
    (BadRequest, 422),
    (NotFound, 404),
    (Unauthorised, 401),
    (Conflict, 409),
    (TooLarge, 413),
    (Refused, 400),
    (Unavailable, 503),
)

_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}

log = structlog.get_logger("farm.api")


def status_of(error: FarmError) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def reply(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    faults: Iterable[Fault] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    problem = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        instance=request.url.path,
        request_id=getattr(request.state, "request_id", None),
        errors=tuple(faults),
    )
    return Response(problem.model_dump_json(), status, dict(headers or {}), MEDIA_TYPE)


def pointer(location: Iterable[object]) -> str:
    """A JSON pointer (RFC 6901) from pydantic's location."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def install(app: FastAPI, metrics: ApiMetrics) -> None:
    """Sets the handlers. An error that nobody foresaw is caught by the middleware, which knows the request id."""

    @app.exception_handler(FarmError)
    def _farm(request: Request, error: FarmError) -> Response:
        return farm_error(request, error, metrics)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> Response:
        faults = _real([_fault(entry) for entry in error.errors()])
        where = f" {faults[0].pointer}: {faults[0].detail}" if faults else ""
        return reply(request, 422, "invalid", f"The request is not valid.{where}", faults=faults)

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400 and error.detail == _BODY_UNREADABLE:
            return reply(request, 422, "json_invalid", "The body cannot be read as JSON: is it nested too deeply?")
        code = _CODES.get(error.status_code, f"http_{error.status_code}")
        return reply(request, error.status_code, code, _sentence(request, error), headers=error.headers)

    @app.exception_handler(OSError)
    def _os(request: Request, error: OSError) -> Response:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            down = Unavailable("The disk of the API is full, so the upload found no room. Free some.", code="disk_full")
            return farm_error(request, down, metrics)
        raise error


def farm_error(request: Request, error: FarmError, metrics: ApiMetrics) -> Response:
    status = status_of(error)
    headers = {}
    if isinstance(error, Unavailable):
        metrics.errors.labels(error.code).inc()
        log.warning("unavailable", code=error.code, detail=error.detail)
        headers["Retry-After"] = RETRY_AFTER
    if isinstance(error, Unauthorised):
        headers["WWW-Authenticate"] = "Bearer"
    faults = error.faults if isinstance(error, BadRequest) else ()
    return reply(request, status, error.code, error.detail, faults=faults, headers=headers)


def _fault(entry: Mapping[str, object]) -> Fault:
    location = entry.get("loc")
    where, *parts = location if isinstance(location, tuple) else ("",)
    at = pointer(parts) if where == "body" else pointer((where, *parts))
    return Fault(pointer=at, code=str(entry.get("type", "invalid")), detail=str(entry.get("msg", "")))


def _real(faults: list[Fault]) -> list[Fault]:
    """Without lists that are "too short" only because what stands in them was wrong, which is said already."""
    return [
        fault
        for fault in faults
        if fault.code != "too_short" or not any(other.pointer.startswith(f"{fault.pointer}/") for other in faults)
    ]


def _sentence(request: Request, error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return f"There is nothing at {request.url.path}."
        case 405:
            return f"{request.method} does not go at {request.url.path}."
        case _:
            return str(error.detail)
