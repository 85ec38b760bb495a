"""A farm in memory for tests: two teams with keys, a checkpoint, a LoRA, styles, and pictures to upload."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from PIL import Image

from farm.config import ApiSettings
from farm.core.ids import CampaignId, Ordinal, TeamId, read
from farm.core.records import OutcomeRow, TeamRow
from farm.depot.memory import MemoryDepot
from farm.store.memory import MemoryStore
from schemas.report import Measured, TriedSeed

OURS, THEIRS = TeamId(1), TeamId(2)
KEY, THEIR_KEY = "farm_1_ours", "farm_2_theirs"

UNET = {
    "add_embedding.linear_1.weight": (8, 8),
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight": (8, 8),
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_k.weight": (8, 16),
}
ENCODER = {"text_model.encoder.layers.0.self_attn.q_proj.weight": (8, 8)}
CHECKPOINT: dict[str, bytes | Mapping[str, tuple[int, ...]]] = {
    "model_index.json": b"{}",
    "unet/config.json": b'{"addition_embed_type": "text_time"}',
    "unet/diffusion_pytorch_model.safetensors": UNET,
    "text_encoder/model.safetensors": ENCODER,
    "text_encoder_2/model.safetensors": ENCODER,
    "vae/diffusion_pytorch_model.safetensors": {"decoder.conv_in.weight": (4, 4, 3, 3)},
}
TO_Q = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def safetensors(shapes: Mapping[str, tuple[int, ...]], fill: int = 0) -> bytes:
    """A sound file with fp16 tensors of those shapes."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2
        for n in shape:
            size *= n
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes([fill]) * at


def tar_of(files: Mapping[str, bytes | Mapping[str, tuple[int, ...]]]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:") as tar:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else safetensors(content)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def lora_of(rank: int = 2, fill: int = 0, module: str = TO_Q) -> bytes:
    shapes = {f"{module}.lora_A.weight": (rank, 8), f"{module}.lora_B.weight": (8, rank)}
    return safetensors(shapes, fill)


def picture(colour: int = 0, size: tuple[int, int] = (64, 48), kind: str = "PNG", mode: str = "RGB") -> bytes:
    target = io.BytesIO()
    Image.new(mode, size, colour).save(target, kind)
    return target.getvalue()


@dataclass
class FakeClock:
    """A second passes with each look."""

    moment: datetime = datetime(2026, 11, 23, tzinfo=UTC)
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def now(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment

    def random_bits(self) -> int:
        return next(self.numbers)


@dataclass
class World:
    store: MemoryStore = field(default_factory=MemoryStore)
    depot: MemoryDepot = field(default_factory=MemoryDepot)
    clock: FakeClock = field(default_factory=FakeClock)
    settings: ApiSettings = field(
        default_factory=lambda: ApiSettings.model_validate(
            {
                "depot_endpoint": "memory",
                "depot_access_key": "a",
                "depot_secret_key": "b",
                "api_database_url": "memory",
                "max_campaign_renders": 2_000_000,
            }
        )
    )

    def __post_init__(self) -> None:
        for team, key in ((OURS, KEY), (THEIRS, THEIR_KEY)):
            self.store.add_team(TeamRow(team, f"team {team}", 1_500_000))
            self.store.add_key(team, hashlib.sha256(key.encode()).digest())

    def settle(
        self, campaign: str, fates: Mapping[int, str], *, phashes: Mapping[int, str] | None = None, **fields: Any
    ) -> None:
        """Writes outcomes as the scheduler would, each succeeded one with its picture in the depot, and *fields*."""
        number = CampaignId(read("cmp", campaign))
        rows = [self._outcome(number, ordinal, fate) for ordinal, fate in fates.items()]
        good = [replace(row, **fields) if row.key is not None else row for row in rows]
        for index, row in enumerate(good):
            if phashes and row.ordinal in phashes:
                tried = TriedSeed(seed=1, phash=phashes[row.ordinal])
                good[index] = replace(row, measured=Measured(tries=(tried,), kept=0))
        self.store.settle(OURS, good)

    def _outcome(self, campaign: CampaignId, ordinal: int, fate: str) -> OutcomeRow:
        now = self.clock.now()
        if fate != "succeeded":
            none = (None,) * 6
            return OutcomeRow(campaign, Ordinal(ordinal), fate, *none, False, "engine", "It broke.", now)
        data, key = picture(ordinal), f"pictures/{campaign}/{ordinal}/picture.png"
        self.depot.put(key, data, "image/png")
        sha256 = hashlib.sha256(data).hexdigest()
        return OutcomeRow(
            campaign, Ordinal(ordinal), fate, key, sha256, len(data), 64, 48, "png", False, None, None, now
        )
