"""How like its source a picture still is, measured when somebody asks."""

import threading
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from actors import masks
from actors.engine.encode import Kept
from actors.engine.identity import Identity, cosine
from actors.engine.port import Row


class Likeness:
    """*folder*: of the model; none measures nothing."""

    def __init__(self, folder: Path | None, device: torch.device) -> None:
        self._identity = Identity(folder, device)
        self._sources: Kept[tuple[torch.Tensor, ...]] = Kept()
        self._one = threading.Lock()  # asked from many threads

    def to(self, row: Row, picture: Callable[[], Image.Image]) -> Callable[[], float | None]:
        """A call that gives the cosine of the embeddings of *row*'s source and *picture*, with what its mask leaves
        black composed back; None without a model."""

        def measured() -> float | None:
            made = masks.composed(picture(), row.picture, row.mask)
            with self._one, torch.inference_mode():
                found = self._identity.embedding(made)
                if found is None:
                    return None
                return cosine(self._source(row), found)

        return measured

    def _source(self, row: Row) -> torch.Tensor:
        def embedded() -> tuple[torch.Tensor, ...]:
            found = self._identity.embedding(row.picture)
            if found is None:
                raise RuntimeError("there is no model")
            return (found,)

        return self._sources.get((row.source, row.size), embedded)[0]
