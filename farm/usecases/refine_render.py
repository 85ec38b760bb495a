"""Refine a former output: its recipe with changes, rendered from its picture, or from its source again."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import PurePath

from farm.core.campaign import ENDED
from farm.core.errors import Conflict, NotFound
from farm.core.ids import CampaignId, Ordinal, TeamId, mint, show, show_render, show_source
from farm.core.matrix import Cell, cell_at
from farm.core.records import CampaignRow, OutcomeRow, SourceRow
from farm.ports import ApiStore, Clock, Depot, TeamTx
from farm.usecases.check_campaign import Checked, Terms, check_campaign
from farm.usecases.quote_campaign import foretell, wishes_of
from farm.usecases.submit_campaign import Submitted, drafted, measured_seconds, replay, save, shards_of
from farm.usecases.upload_source import upload_source
from schemas.campaign import (
    Block,
    CampaignSpec,
    CampaignState,
    ResolvedBlock,
    ResolvedCampaign,
    SourceEntry,
    StyleRef,
)
from schemas.order import Lane
from schemas.refine import Refine, RefineStart
from schemas.style import ControlKind, ResolvedStyle, StyleSpec

SETTLED = ENDED | {CampaignState.ACTIVE, CampaignState.CANCELLING}
"""A campaign in one of these can be a parent and live on: it never again waits for the approval of a proof, and a child
ends only such a one."""


@dataclass(frozen=True, slots=True)
class _Former:
    """The render that is refined, and what it was made by."""

    campaign: CampaignRow
    spec: CampaignSpec
    resolved: ResolvedCampaign
    cell: Cell
    outcome: OutcomeRow

    @property
    def id(self) -> str:
        return show_render(self.campaign.id, self.outcome.ordinal)

    @property
    def block(self) -> ResolvedBlock:
        return self.resolved.blocks[self.cell.block]

    @property
    def entry(self) -> SourceEntry:
        """As it was submitted."""
        return self.spec.blocks[self.cell.block].sources[self.cell.source]


def refine_render(
    store: ApiStore,
    depot: Depot,
    clock: Clock,
    team: TeamId,
    render: tuple[CampaignId, Ordinal],
    changes: Refine,
    terms: Terms,
    *,
    idempotency_key: str | None,
) -> Submitted:
    """A campaign of its own. Raises `NotFound`, `Conflict` when there is no picture, `BadRequest`, `KeyReused`."""
    now = clock.now()
    campaign = CampaignId(mint(now, clock.random_bits()))
    refined = show_render(*render)
    # Of what was asked, not of the spec: that also says how the former campaign stands at this moment.
    asked = f"refine {refined}\n{changes.model_dump_json(exclude_defaults=True)}"
    submit_key = f"refine {refined} {idempotency_key or campaign}"
    submit_hash = hashlib.sha256(asked.encode()).hexdigest()
    with store.as_team(team) as tx:
        if (made := tx.campaign_by_submit_key(submit_key)) is not None:  # whatever became of the render since
            return replay(made, submit_hash)
        former = _former(tx, *render)
        style = _style(tx, former, changes)
    source = _source_of(store, depot, clock, team, former, changes.start)
    spec = _spec(former, source, style, changes)
    with store.as_team(team) as tx:
        checked = _checked(check_campaign(tx, spec, now, terms), former, changes)
        quote = foretell(tx, checked, wishes_of(spec, checked.parent), now, terms.currency)
        seconds_of = measured_seconds(tx)
    new = drafted(campaign, spec, checked, quote, submit_key=submit_key, submit_hash=submit_hash)
    return save(store, team, new, shards_of(checked.resolved, None, seconds_of, terms))


def _former(tx: TeamTx, campaign: CampaignId, ordinal: Ordinal) -> _Former:
    row, resolved = tx.campaign(campaign), tx.resolved(campaign)
    if ordinal >= row.renders:
        raise NotFound(f"There is no render {show_render(campaign, ordinal)}.")
    outcome = _outcome(tx, row, ordinal)
    return _Former(row, tx.spec(campaign), resolved, cell_at(resolved, ordinal), outcome)


def _outcome(tx: TeamTx, campaign: CampaignRow, ordinal: Ordinal) -> OutcomeRow:
    render = show_render(campaign.id, ordinal)
    # Open ranges first: what is settled between the two statements then shows up in both, never in neither.
    waiting = tx.open_ranges(campaign.id, lo=ordinal, hi=ordinal + 1)
    found = tx.outcomes(campaign.id, ordinal, ordinal + 1)
    if found and found[0].key is not None:
        return found[0]
    if found:
        detail = f"Render {render} failed ({found[0].code}), so there is no picture to refine."
        raise Conflict(f"{detail} `farm campaign retry` renders it again.", code="render_not_finished")
    if campaign.state in ENDED and not waiting:
        raise _pruned(render)
    raise Conflict(f"Render {render} has no picture yet. Refine it when it has one.", code="render_not_finished")


def _source_of(
    store: ApiStore, depot: Depot, clock: Clock, team: TeamId, former: _Former, start: RefineStart
) -> SourceRow | None:
    """The render's picture as a source of the team; None: its own source serves again."""
    if start is RefineStart.SOURCE or former.outcome.key is None:
        return None
    try:
        data = depot.get(former.outcome.key)
    except NotFound as gone:
        raise _pruned(former.id) from gone
    block, cell = former.block, former.cell
    stem = PurePath(block.sources[cell.source].name).stem[:120]
    name = f"{stem}-{block.styles[cell.style].name}.{former.outcome.format}"
    return upload_source(store, depot, clock, team, name=name, data=data)[0]


def _style(tx: TeamTx, former: _Former, changes: Refine) -> ResolvedStyle | StyleSpec:
    """What is asked of the source. A style that there is not is found out when the campaign is checked."""
    own = former.block.styles[former.cell.style]
    if changes.style is None:
        return own
    name, _, version = changes.style.partition("@")
    rows = (row for row in tx.style_versions(name) if not version or row.version == int(version))
    return next((row.spec for row in rows), own)


def _spec(former: _Former, source: SourceRow | None, asked: ResolvedStyle | StyleSpec, changes: Refine) -> CampaignSpec:
    block, cell, spec = former.block, former.cell, former.spec
    style = block.styles[cell.style]
    strength, size = block.strengths[cell.strength], block.sizes[cell.size]
    wanted_strength = strength if changes.strength is None else changes.strength
    wanted_size = changes.size or size
    own: StyleRef = f"{style.name}@{style.version}"
    refined = Block(
        sources=(_entry(former, source, asked, changes),),
        styles=(changes.style or own,),
        sizes=None if wanted_size is None else (wanted_size,),
        strengths=None if wanted_strength is None else (wanted_strength,),
        variants=changes.variants,
        first_variant=block.first_variant + cell.variant if source is None else 0,  # from its source, with its noise
    )
    return CampaignSpec(
        name=changes.name or f"{former.campaign.name[:180]}, refined",
        blocks=(refined,),
        seed=spec.seed if changes.seed is None else changes.seed,
        output=spec.output,
        parent=show("cmp", former.campaign.id) if former.campaign.state in SETTLED else None,
        lane=Lane.INTERACTIVE,
        gpu=spec.gpu,
    )


def _entry(former: _Former, source: SourceRow | None, asked: ResolvedStyle | StyleSpec, changes: Refine) -> SourceEntry:
    """Only with pictures that the style takes after. From a picture, masks and blends are done with: they are in it."""
    entry, cell = former.entry, former.cell
    prompt = former.block.prompts[cell.prompt] if entry.prompt is None else entry.prompt
    kept = entry.model_copy(
        update={
            "prompt": prompt if changes.prompt is None else changes.prompt,
            "mask": changes.mask or entry.mask,
            "control": entry.control if asked.control and asked.control.kind is not ControlKind.CANNY else None,
            "references": entry.references if asked.reference else (),
        }
    )
    if source is None:
        return kept
    own = {"source": show_source(source.sha256), "mask": changes.mask, "blend": (), "made_from": former.id}
    return kept.model_copy(update=own)


def _checked(checked: Checked, former: _Former, changes: Refine) -> Checked:
    """A style that is kept means what it meant: what it names without a version, such as the default checkpoint, may
    have moved on since."""
    if changes.style is not None:
        return checked
    (block,) = checked.resolved.blocks
    same = block.model_copy(update={"styles": (former.block.styles[former.cell.style],)})
    return replace(checked, resolved=checked.resolved.model_copy(update={"blocks": (same,)}))


def _pruned(render: str) -> NotFound:
    detail = f"The picture of render {render} was deleted: the team keeps pictures for a limited time."
    return NotFound(f"{detail} Submit its campaign again to have it anew.", code="picture_pruned")
