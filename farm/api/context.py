"""What every route needs: the parts that were passed to `create_app`, and whose request it is."""

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, cast

from anyio import CapacityLimiter
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from farm.api.waker import Waker
from farm.config import ApiSettings
from farm.core.errors import BadRequest, Unauthorised
from farm.core.ids import TeamId
from farm.ports import ApiStore, Clock, Depot
from farm.telemetry import ApiMetrics
from farm.usecases.check_campaign import Terms


@dataclass(frozen=True, slots=True)
class Context:
    settings: ApiSettings
    store: ApiStore
    depot: Depot
    clock: Clock
    metrics: ApiMetrics
    waker: Waker
    heavy: CapacityLimiter  # pictures decoded and weights read at once: each may take hundreds of MB

    @property
    def terms(self) -> Terms:
        settings = self.settings
        return Terms(settings.max_campaign_renders, settings.shard_seconds, settings.currency)


def context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


Ctx = Annotated[Context, Depends(context)]
_bearer = HTTPBearer(auto_error=False, description="An API key: `farm_<id>_<secret>`.")


def digest_of(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> bytes:
    """A key is 256 random bits, so one round of SHA-256 at rest is enough."""
    if credentials is None:
        raise Unauthorised("Send an API key: Authorization: Bearer farm_...", code="no_key")
    return hashlib.sha256(credentials.credentials.encode()).digest()


Digest = Annotated[bytes, Depends(digest_of)]


def team_of(ctx: Ctx, digest: Digest) -> TeamId:
    """The team whose key this is. It is looked up at each request: a revoked key ends at once."""
    owner = ctx.store.key_owner(digest)
    if owner is None:
        raise Unauthorised("This API key is not known, or was revoked.", code="bad_key")
    return owner.team


Team = Annotated[TeamId, Depends(team_of)]


def idempotency_key(request: Request) -> str | None:
    given = request.headers.get("idempotency-key")
    if given is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", given):
        detail = "An Idempotency-Key is 1 to 255 visible ASCII characters, without spaces."
        raise BadRequest(detail, code="bad_idempotency_key")
    return given


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
