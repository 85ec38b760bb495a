"""Where things lie in the depot."""

from farm.core.ids import TeamId

IMPORTS = "imports/"
"""What an operator puts below it, with any S3 tool, can be added as weights without another upload."""


def source_key(team: TeamId, sha256: str) -> str:
    return f"sources/{team}/{sha256}"


def checkpoint_prefix(digest: str) -> str:
    return f"checkpoints/{digest}/"


def shapes_key(digest: str) -> str:
    """The shape of every weight of a checkpoint, as JSON: LoRAs are checked against it."""
    return f"checkpoints/{digest}.shapes.json"


def lora_key(sha256: str) -> str:
    return f"loras/{sha256}.safetensors"


def thumbnail_key(picture_key: str) -> str:
    return f"{picture_key.rpartition('/')[0]}/thumbnail.webp"


def rendition_key(picture_key: str, name: str, file_format: str) -> str:
    return f"{picture_key.rpartition('/')[0]}/rendition-{name}.{file_format}"


def provenance_key(picture_key: str) -> str:
    return f"{picture_key.rpartition('/')[0]}/provenance.json"
