"""Add a checkpoint: look at every header, keep the files by content, remember the shapes."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from farm.core.errors import BadRequest
from farm.core.ids import CheckpointId, TeamId, mint
from farm.core.keys import checkpoint_prefix, shapes_key
from farm.core.records import CheckpointRow
from farm.core.sdxl import PARTS, Shapes, check_folder, check_single, diffusers_names, half_parts, parts_of
from farm.ports import ApiStore, Clock, Depot
from farm.usecases.weight_files import WeightFile, fetched, read_header, unpacked
from schemas.checkpoint import CheckpointFile

_TYPES = {".json": "application/json", ".txt": "text/plain"}
_CONFIG_BYTES = 1 << 20
_SHARED = ("block_out_channels", "layers_per_block", "cross_attention_dim")
"""What a ControlNet has in common with its UNet: one of SD 1.5 is a ControlNetModel too."""

_PART_FOLDERS = frozenset(folder.split("/")[0] for folder, _ in PARTS.values())


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
    """{component.module.weight: shape} of every .safetensors file of SDXL itself; its folder is the component."""
    if not any(file.path == "model_index.json" for file in files):
        raise BadRequest("This is no diffusers folder: it has no model_index.json.", code="bad_checkpoint_files")
    _check_parts(files)
    shapes: Shapes = {}
    for file in files:
        if file.path.endswith(".safetensors"):
            component = file.path.split("/")[0]
            header = read_header(file.local)
            if component not in _PART_FOLDERS:  # a fine-tune with other parts still takes the same LoRAs
                shapes |= {f"{component}.{name}": shape for name, shape in header.shapes.items()}
        elif file.path == "unet/config.json":
            _check_config(file)
    check_folder(shapes)
    return shapes


def _check_parts(files: list[WeightFile]) -> None:
    """A part that is there in half would be found out only on a GPU."""
    by_path = {file.path: file for file in files}
    for folder, missing in half_parts(by_path).items():
        raise BadRequest(f"{folder} lacks {', '.join(missing)}.", code="bad_checkpoint_files")
    for part in parts_of(by_path):
        folder, _ = PARTS[part]
        if part == "reference":
            _check_reference(by_path[folder + "ip_adapter.safetensors"])
        else:
            _check_control(by_path[folder + "config.json"], by_path.get("unet/config.json"))


def _check_control(config: WeightFile, unet: WeightFile | None) -> None:
    own = _config(config)
    kind = own.get("_class_name")
    if kind != "ControlNetModel":
        raise BadRequest(f"{config.path} is of a {kind}, not of a ControlNetModel.", code="bad_checkpoint_files")
    wanted = {} if unet is None else _config(unet)
    for name in _SHARED:
        if name in own and name in wanted and own[name] != wanted[name]:
            detail = f"{config.path} is made for another UNet: its {name} is {own[name]}, here it is {wanted[name]}."
            raise BadRequest(detail, code="bad_checkpoint_files")


def _check_reference(weights: WeightFile) -> None:
    shapes = read_header(weights.local).shapes
    for prefix in ("image_proj.", "ip_adapter."):
        if not any(name.startswith(prefix) for name in shapes):
            detail = f"{weights.path} is no IP-Adapter: nothing in it begins with {prefix}"
            raise BadRequest(f"{detail.rstrip('.')}.", code="bad_checkpoint_files")


def _check_config(file: WeightFile) -> None:
    kind = _config(file).get("addition_embed_type")
    if kind != "text_time":
        detail = f"This is no SDXL checkpoint: addition_embed_type in unet/config.json is {kind}, not text_time."
        raise BadRequest(detail, code="not_sdxl")


def _config(file: WeightFile) -> Mapping[str, object]:
    try:
        config = json.loads(file.local.read_bytes()[:_CONFIG_BYTES])
    except (ValueError, RecursionError) as fault:
        raise BadRequest(f"{file.path} cannot be read: {fault}.", code="bad_checkpoint_files") from fault
    if not isinstance(config, dict):
        raise BadRequest(f"{file.path} cannot be read: it is no object.", code="bad_checkpoint_files")
    return config


def _type(path: str) -> str:
    return _TYPES.get(Path(path).suffix, "application/octet-stream")
