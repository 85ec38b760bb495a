"""A campaign's renders, a page at a time. A render without an outcome has no row: it is read off its ordinal."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from farm.core.campaign import recipe_of
from farm.core.cells import EVERY_CELL, CellFilter, matching
from farm.core.errors import NotFound
from farm.core.ids import CampaignId, Ordinal, TeamId, show_render, show_source
from farm.core.matrix import cell_at
from farm.core.records import OpenRange, OutcomeRow
from farm.ports import ApiStore, TeamTx
from schemas.campaign import PictureLinks, Render, RenderState, ResolvedCampaign

WINDOW = 1_000
"""Ordinals that one look into the store covers."""

LOOKS = 20
"""Looks for one page. With them spent the page is short, and its cursor says where to go on."""

Links = Callable[[OutcomeRow], PictureLinks | None]
_STATES = {
    "held": RenderState.QUEUED,  # until the proof is approved
    "ready": RenderState.QUEUED,
    "leased": RenderState.RUNNING,
    "cancelled": RenderState.CANCELLED,
}
_ENDED = (RenderState.SUCCEEDED, RenderState.FAILED)


@dataclass(frozen=True, slots=True)
class RenderPage:
    renders: tuple[Render, ...]
    next_after: int | None  # None: this was the last page


@dataclass(frozen=True, slots=True)
class _Fate:
    """What is known of one ordinal."""

    ordinal: Ordinal
    state: RenderState
    outcome: OutcomeRow | None = None


def list_renders(
    store: ApiStore,
    team: TeamId,
    campaign: CampaignId,
    *,
    after: int,
    limit: int,
    links: Links,
    state: RenderState | None = None,
    wanted: CellFilter = EVERY_CELL,
) -> RenderPage:
    """Renders above ordinal *after*, in order. Raises `NotFound`."""
    with store.as_team(team) as tx:
        resolved = tx.resolved(campaign)
        if state in _ENDED:
            looks = _ended(tx, campaign, state, after)
            looks = (_passing(resolved, wanted, look) for look in looks)
        else:
            looks = _all(tx, resolved, campaign, wanted, after)
        found, position = _gather(looks, state, limit)
    renders = tuple(to_render(resolved, campaign, fate.outcome, fate.ordinal, fate.state, links) for fate in found)
    return RenderPage(renders, position)


def show_one(store: ApiStore, team: TeamId, campaign: CampaignId, ordinal: Ordinal, links: Links) -> Render:
    """Raises `NotFound`."""
    with store.as_team(team) as tx:
        resolved = tx.resolved(campaign)
        if ordinal >= tx.campaign(campaign).renders:
            raise NotFound(f"There is no render {show_render(campaign, ordinal)}.")
        fate = _look(tx, campaign, [ordinal])[0]
    return to_render(resolved, campaign, fate.outcome, ordinal, fate.state, links)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look: what it found, how far it went, and whether anything may come after it."""

    fates: list[_Fate]
    upto: int
    more: bool


def _gather(looks: Iterator[_Seen], state: RenderState | None, limit: int) -> tuple[list[_Fate], int | None]:
    found: list[_Fate] = []
    upto: int | None = None
    for look in islice(looks, LOOKS):
        found += [fate for fate in look.fates if state in (None, fate.state)]
        if len(found) > limit:
            return found[:limit], found[limit - 1].ordinal
        upto = look.upto if look.more else None
        if upto is None or len(found) == limit:
            return found, upto
    return found, upto


def _ended(tx: TeamTx, campaign: CampaignId, state: RenderState, after: int) -> Iterator[_Seen]:
    """Outcomes by themselves: a few failures among a million renders are found at once."""
    more = True
    while more:
        rows = tx.outcomes_after(campaign, outcome=state.value, after=after, limit=WINDOW)
        more = len(rows) == WINDOW
        after = rows[-1].ordinal if rows else after
        yield _Seen([_Fate(row.ordinal, state, row) for row in rows], after, more)


def _passing(resolved: ResolvedCampaign, wanted: CellFilter, look: _Seen) -> _Seen:
    if wanted.empty:
        return look
    fates = [fate for fate in look.fates if wanted.passes(resolved, cell_at(resolved, fate.ordinal))]
    return _Seen(fates, look.upto, look.more)


def _all(
    tx: TeamTx, resolved: ResolvedCampaign, campaign: CampaignId, wanted: CellFilter, after: int
) -> Iterator[_Seen]:
    ordinals = matching(resolved, wanted, after=after)
    held = next(ordinals, None)
    while held is not None:
        # One window of the store, and of it what passes: a sparse filter must not read what lies between.
        window = [held]
        while (held := next(ordinals, None)) is not None and held < window[0] + WINDOW:
            window.append(held)
        yield _Seen(_look(tx, campaign, window), window[-1], held is not None)


def _look(tx: TeamTx, campaign: CampaignId, ordinals: Sequence[Ordinal]) -> list[_Fate]:
    """What became of *ordinals*, which are sorted."""
    lo, hi = ordinals[0], ordinals[-1] + 1
    # Open ranges first: what is settled between the two statements then shows up in both, never in neither.
    open_ranges = tx.open_ranges(campaign, lo=lo, hi=hi)
    outcomes = {row.ordinal: row for row in tx.outcomes(campaign, lo, hi)}
    states = _states(open_ranges)
    return [
        _Fate(n, RenderState(outcomes[n].outcome), outcomes[n])
        if n in outcomes
        else _Fate(n, states.get(n, RenderState.QUEUED))
        for n in ordinals
    ]


def _states(ranges: Sequence[OpenRange]) -> dict[int, RenderState]:
    return {n: _STATES[r.state] for r in ranges for n in range(r.lo, r.hi)}


def to_render(
    resolved: ResolvedCampaign,
    campaign: CampaignId,
    row: OutcomeRow | None,
    ordinal: Ordinal,
    state: RenderState,
    links: Links,
) -> Render:
    cell = cell_at(resolved, ordinal)
    recipe, block = recipe_of(resolved, cell), resolved.blocks[cell.block]
    style = block.styles[cell.style]
    render = Render(
        id=show_render(campaign, ordinal),
        ordinal=ordinal,
        state=state,
        source=show_source(recipe.source),
        source_name=block.sources[cell.source].name,
        style=style.name,
        style_version=style.version,
        size=recipe.size,
        prompt=recipe.prompt,
        strength=recipe.strength,
        variant=block.first_variant + cell.variant,
        seed=recipe.seed,
        made_from=block.sources[cell.source].made_from,
    )
    return render if row is None else render.model_copy(update=_ended_fields(row, links))


def _ended_fields(row: OutcomeRow, links: Links) -> dict[str, object]:
    return {
        "sha256": row.sha256,
        "bytes": row.bytes,
        "format": row.format,
        "reused": row.reused,
        "code": row.code,
        "detail": row.detail,
        "finished_at": row.finished_at.isoformat(),
        "numerics": row.numerics,
        "renditions": row.renditions,
        "measured": row.measured,
        "links": links(row),
    }
