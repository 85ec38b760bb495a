"""Save a style, or a new version of one."""

import json

from farm.core.errors import BadRequest, NotFound
from farm.core.ids import StyleId, TeamId, mint
from farm.core.keys import shapes_key
from farm.core.records import StyleRow
from farm.ports import ApiStore, Clock, Depot
from farm.usecases.styles import Weights, reference_pictures, style_faults, weights_of
from schemas.problem import Fault
from schemas.style import StyleSpec


def add_style(store: ApiStore, depot: Depot, clock: Clock, team: TeamId, spec: StyleSpec) -> StyleRow:
    """The version that now holds *spec*. Raises `BadRequest` with everything that is wrong."""
    with store.as_team(team) as tx:
        weights, pictures = weights_of(tx), tx.sources_by_sha(reference_pictures(spec.reference))
    faults = style_faults(spec, weights, pictures) + _unfit_loras(depot, spec, weights)
    if faults:
        raise BadRequest(f"Style {spec.name} cannot be saved: {faults[0].detail}", code=faults[0].code, faults=faults)
    now = clock.now()
    with store.as_team(team) as tx:
        return tx.add_style(StyleRow(StyleId(mint(now, clock.random_bits())), spec.name, 0, spec, now))


def _unfit_loras(depot: Depot, spec: StyleSpec, weights: Weights) -> list[Fault]:
    """A LoRA was checked against one checkpoint; another with equal shapes (a fine-tune of it) will do as well."""
    checkpoint = weights.checkpoint(spec.checkpoint)
    faults = []
    for index, entry in enumerate(spec.loras):
        lora = weights.loras.get(entry.lora)
        if checkpoint is None or lora is None or lora.base == checkpoint.digest:
            continue
        if _shapes(depot, lora.base) != _shapes(depot, checkpoint.digest):
            detail = f"LoRA {lora.name} was made for checkpoint {lora.base_name}, not for {checkpoint.name}."
            faults.append(Fault(pointer=f"/loras/{index}/lora", code="lora_does_not_fit", detail=detail))
    return faults


def _shapes(depot: Depot, digest: str) -> object:
    """The digest itself where the shapes are gone: it then equals nothing but itself."""
    try:
        return json.loads(depot.get(shapes_key(digest)))
    except NotFound:
        return digest
