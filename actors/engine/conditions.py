"""What the UNet is told beside the latents: texts, sizes, guidance. Each is made once."""

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from actors.engine.clock import Clock
from actors.engine.encode import Embedding, Kept, embedding_of
from actors.engine.port import Row
from schemas.style import dimensions

Pipe = Any
"""diffusers' pipelines are not typed."""

_SCORES = (6.0, 2.5)
"""What diffusers tells a checkpoint that asks for aesthetic scores: of the picture, and of what it should not be."""


class Conditions:
    """Of one checkpoint. Guidance doubles the rows, unless the UNet was distilled to be told it."""

    def __init__(self, pipe: Pipe, device: torch.device, clock: Clock) -> None:
        self._pipe, self._device, self._clock = pipe, device, clock
        self._texts: Kept[Embedding] = Kept()
        self._sizes: dict[tuple[str, bool], Tensor] = {}
        self._told_guidance = pipe.unet.config.time_cond_proj_dim

    def doubled(self, *, guided: bool) -> bool:
        return guided and self._told_guidance is None

    def of(self, row: Row, text_state: Hashable) -> dict[str, Tensor]:
        """(k, ...) each; of two, the unguided one first. *text_state*: what LoRAs make of the text encoders."""
        doubled = self.doubled(guided=row.group.guided)
        texts = [self._text(row.negative, text_state, negative=True)] if doubled else []
        texts.append(self._text(row.prompt, text_state, negative=False))
        found = {
            "text": torch.cat([text.sequence for text in texts]),
            "pooled": torch.cat([text.pooled for text in texts]),
            "sizes": self._size(row.size, doubled=doubled),
        }
        if self._told_guidance is not None:
            found["told_guidance"] = self._guidance(row.guidance).to(found["text"].dtype)
        return found

    def _text(self, text: str, state: Hashable, *, negative: bool) -> Embedding:
        key = (text, negative, state)
        with self._clock.counted(self._clock.prompts, hit=key in self._texts):
            return self._texts.get(key, lambda: embedding_of(self._pipe, text, negative=negative))

    def _size(self, size: str, *, doubled: bool) -> Tensor:
        """Original size, corner of the crop, size: a picture that was never cropped nor scaled."""
        if (size, doubled) not in self._sizes:
            width, height = dimensions(size)
            ends: list[tuple[float, ...]] = [(height, width), (height, width)]
            if self._pipe.config.requires_aesthetics_score:
                ends = [(_SCORES[1],), (_SCORES[0],)]
            told = [(height, width, 0, 0, *end) for end in (ends if doubled else ends[1:])]
            self._sizes[size, doubled] = torch.tensor(told, dtype=torch.float32, device=self._device)
        return self._sizes[size, doubled]

    def _guidance(self, guidance: float) -> Tensor:
        """(1, d), as in "On Distillation of Guided Diffusion Models" (arXiv 2210.03142)."""
        above = torch.tensor([guidance - 1])
        found: Tensor = self._pipe.get_guidance_scale_embedding(above, embedding_dim=self._told_guidance)
        return found.to(self._device)
