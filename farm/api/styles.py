"""/v1/styles"""

from typing import Annotated

from fastapi import APIRouter, Body, Path

from farm.api import views
from farm.api.context import Ctx, Team
from farm.api.pages import whole
from farm.core.errors import NotFound
from farm.usecases.add_style import add_style
from schemas.page import Page
from schemas.style import Style, StyleSpec

router = APIRouter(prefix="/v1/styles", tags=["styles"])

_EXAMPLE = {
    "name": "anime",
    "loras": [{"lora": "anime", "scale": 0.8}],
    "prompt": "{prompt}, anime key visual, clean lines",
    "negative_prompt": "photo, blurry",
    "strength": 0.55,
    "steps": 30,
    "size": "1024x1024",
}
Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


@router.post("", status_code=201)
def save(ctx: Ctx, team: Team, spec: Annotated[StyleSpec, Body(examples=[_EXAMPLE])]) -> Style:
    """Save a style. Under a name that is taken this makes the next version; an equal spec makes nothing new."""
    return views.style(add_style(ctx.store, ctx.depot, ctx.clock, team, spec))


@router.get("")
def list_styles(ctx: Ctx, team: Team) -> Page[Style]:
    """The newest version of each style."""
    with ctx.store.as_team(team) as tx:
        return whole([views.style(row) for row in tx.styles()])


@router.get("/{name}")
def show(ctx: Ctx, team: Team, name: Name) -> Style:
    """The newest version."""
    return versions(ctx, team, name).data[0]


@router.get("/{name}/versions")
def versions(ctx: Ctx, team: Team, name: Name) -> Page[Style]:
    """Every version, newest first."""
    with ctx.store.as_team(team) as tx:
        rows = tx.style_versions(name)
    if not rows:
        raise NotFound(f"There is no style {name}.")
    return whole([views.style(row) for row in rows])
