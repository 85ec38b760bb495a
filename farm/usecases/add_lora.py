"""Add a LoRA: check it against a checkpoint's shapes, keep it by content."""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from farm.core import lora
from farm.core.errors import BadRequest, NotFound
from farm.core.ids import LoraId, TeamId, mint
from farm.core.keys import lora_key, shapes_key
from farm.core.records import CheckpointRow, LoraRow
from farm.core.sdxl import Shapes
from farm.ports import ApiStore, Clock, Depot
from farm.usecases.styles import weights_of
from farm.usecases.weight_files import WeightFile, fetched, read_header, weight_file
from schemas.problem import Fault


@dataclass(frozen=True, slots=True)
class LoraCard:
    """What its owner says of it."""

    name: str
    checkpoint: str | None = None  # none: the farm's default checkpoint
    trigger_words: tuple[str, ...] = ()
    licence: str = ""
    expires_at: datetime | None = None


def add_lora(
    store: ApiStore,
    depot: Depot,
    clock: Clock,
    team: TeamId,
    card: LoraCard,
    *,
    upload: Path | None,
    key: str | None = None,
) -> LoraRow:
    """Raises `BadRequest`, `Conflict` when the name is taken by other weights."""
    with store.as_team(team) as tx:
        base = weights_of(tx).checkpoint(card.checkpoint)
    if base is None:
        fault = Fault(pointer="/query/checkpoint", code="unknown_checkpoint", detail="There is no such checkpoint.")
        raise BadRequest(
            "A LoRA is checked against a checkpoint, and there is no such one.", code=fault.code, faults=[fault]
        )
    if upload is not None:
        return _keep(store, depot, clock, team, card, base, weight_file("lora.safetensors", upload))
    with fetched(depot, key or "") as files:
        if len(files) != 1:
            raise BadRequest("A LoRA is one .safetensors file.", code="bad_depot_key")
        return _keep(store, depot, clock, team, card, base, files[0])


def _keep(
    store: ApiStore, depot: Depot, clock: Clock, team: TeamId, card: LoraCard, base: CheckpointRow, file: WeightFile
) -> LoraRow:
    header = read_header(file.local, cap=lora.MAX_HEADER_BYTES, max_tensors=lora.MAX_TENSORS)
    fit = lora.fit(header, _shapes(depot, base))
    key = lora_key(file.sha256)
    if depot.size(key) != file.bytes:
        depot.put_file(key, file.local, "application/octet-stream")
    now = clock.now()
    row = LoraRow(
        id=LoraId(mint(now, clock.random_bits())),
        name=card.name,
        digest=file.sha256,
        key=key,
        bytes=file.bytes,
        base=base.digest,
        base_name=base.name,
        targets=fit.targets,
        rank=fit.rank,
        trigger_words=card.trigger_words,
        licence=card.licence,
        expires_at=card.expires_at,
        created_at=now,
    )
    with store.as_team(team) as tx:
        tx.add_lora(row)
        return next(known for known in tx.loras() if known.name == card.name)


def _shapes(depot: Depot, base: CheckpointRow) -> Shapes:
    try:
        return {name: tuple(shape) for name, shape in json.loads(depot.get(shapes_key(base.digest))).items()}
    except NotFound as gone:
        detail = f"The shapes of checkpoint {base.name} are gone from the depot: add the checkpoint again."
        raise BadRequest(detail, code="no_shapes") from gone
