"""Add a checkpoint: look at every header, keep the files by content, remember the shapes."""

import hashlib
import json
from pathlib import Path

from farm.core.errors import BadRequest
from farm.core.ids import CheckpointId, TeamId, mint
from farm.core.keys import checkpoint_prefix, shapes_key
from farm.core.records import CheckpointRow
from farm.core.sdxl import Shapes, check_folder, check_single, diffusers_names
from farm.ports import ApiStore, Clock, Depot
from farm.usecases.weight_files import WeightFile, fetched, read_header, unpacked
from schemas.checkpoint import CheckpointFile

_TYPES = {".json": "application/json", ".txt": "text/plain"}
_CONFIG_BYTES = 1 << 20


def add_checkpoint(
    store: ApiStore, depot: Depot, clock: Clock, team: TeamId, *, name: str, upload: Path | None, key: str | None = None
) -> CheckpointRow:
    """From an upload (a tar of a diffusers folder, or one .safetensors file) or from *key* in the depot.

    Raises `BadRequest`, `Conflict` when the name is taken by other weights.
    """
    with unpacked(upload) if upload is not None else fetched(depot, key or "") as files:
        return _keep(store, depot, clock, team, name, files)


def _keep(
    store: ApiStore, depot: Depot, clock: Clock, team: TeamId, name: str, files: list[WeightFile]
) -> CheckpointRow:
    single = len(files) == 1 and files[0].path.endswith(".safetensors")
    shapes = _single_shapes(files[0]) if single else _folder_shapes(files)
    digest = digest_of(files)
    prefix = checkpoint_prefix(digest)
    for file in files:
        if depot.size(prefix + file.path) != file.bytes:
            depot.put_file(prefix + file.path, file.local, _type(file.path))
    depot.put(shapes_key(digest), json.dumps(shapes, separators=(",", ":")).encode(), "application/json")
    now = clock.now()
    row = CheckpointRow(
        id=CheckpointId(mint(now, clock.random_bits())),
        name=name,
        digest=digest,
        layout="single" if single else "folder",
        prefix=prefix,
        files=tuple(CheckpointFile(path=f.path, sha256=f.sha256, bytes=f.bytes) for f in files),
        created_at=now,
    )
    with store.as_team(team) as tx:
        tx.add_checkpoint(row)
        return next(known for known in tx.checkpoints() if known.name == name)


def digest_of(files: list[WeightFile]) -> str:
    """The same files under the same paths are the same checkpoint, whatever it is called."""
    lines = sorted(f"{file.path}\0{file.sha256}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _single_shapes(file: WeightFile) -> Shapes:
    shapes = read_header(file.local).shapes
    check_single(shapes)
    return diffusers_names(shapes)


def _folder_shapes(files: list[WeightFile]) -> Shapes:
    """{component.module.weight: shape} of every .safetensors file; the folder it lies in is the component."""
    if not any(file.path == "model_index.json" for file in files):
        raise BadRequest("This is no diffusers folder: it has no model_index.json.", code="bad_checkpoint_files")
    shapes: Shapes = {}
    for file in files:
        if file.path.endswith(".safetensors"):
            component = file.path.split("/")[0]
            shapes |= {f"{component}.{name}": shape for name, shape in read_header(file.local).shapes.items()}
        elif file.path == "unet/config.json":
            _check_config(file)
    check_folder(shapes)
    return shapes


def _check_config(file: WeightFile) -> None:
    try:
        config = json.loads(file.local.read_bytes()[:_CONFIG_BYTES])
        kind = config.get("addition_embed_type")
    except (ValueError, RecursionError, AttributeError) as fault:
        raise BadRequest(f"unet/config.json cannot be read: {fault}.", code="bad_checkpoint_files") from fault
    if kind != "text_time":
        detail = f"This is no SDXL checkpoint: addition_embed_type in unet/config.json is {kind}, not text_time."
        raise BadRequest(detail, code="not_sdxl")


def _type(path: str) -> str:
    return _TYPES.get(Path(path).suffix, "application/octet-stream")
