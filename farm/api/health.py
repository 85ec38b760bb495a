"""/healthz, /readyz, /metrics: for machines, without a key."""

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from farm.api.context import Ctx
from farm.api.problems import RETRY_AFTER, reply
from farm.core.errors import Unavailable
from schemas.problem import Fault

router = APIRouter(tags=["health"])

_ADVICE = {
    "store": "Start PostgreSQL, and look whether FARM_API_DATABASE_URL leads to it.",
    "depot": "Start the S3 store, look whether FARM_DEPOT_ENDPOINT leads to it, and whether its disk is full.",
}


@router.get("/healthz", response_class=PlainTextResponse)
def healthz() -> str:
    """The process answers. Nothing else is asked, so that a dead database does not get the API restarted."""
    return "ok\n"


@router.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "A part is down."}})
def readyz(request: Request, ctx: Ctx) -> Response:
    """Database and S3 store answer too; if not, which one does not, and what to do."""
    parts: tuple[tuple[str, Callable[[], None]], ...] = (("store", ctx.store.ready), ("depot", ctx.depot.ready))
    faults = []
    for part, ready in parts:
        try:
            ready()
        except Unavailable as down:
            ctx.metrics.errors.labels(down.code).inc()
            faults.append(Fault(pointer=f"/{part}", code=down.code, detail=f"{down.detail} {_ADVICE[part]}"))
    if not faults:
        return PlainTextResponse("ok\n")
    detail = " ".join(fault.detail for fault in faults)
    return reply(request, 503, "not_ready", detail, faults=faults, headers={"Retry-After": RETRY_AFTER})


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(ctx: Ctx) -> Response:
    return Response(generate_latest(ctx.metrics.registry), media_type=CONTENT_TYPE_LATEST)
