"""How many rows fit through one pass, learned from running out of memory and remembered on disk.

The file lies beside the weights and is shared by all renderers of a machine. Losing it costs one more failure each.
"""

import json
import os
from contextlib import suppress
from pathlib import Path


class Limits:
    """*path*: none keeps them for the life of this process only. *gpu*: the name of its type."""

    def __init__(self, path: Path | None, gpu: str) -> None:
        self._path, self._gpu = path, gpu
        self._known = self._read()

    def bucket(self, size: str, batch: int) -> int:
        """Rows of *size* that go through a pass when *batch* are wanted."""
        return min(batch, self._known.get(self._key(size), batch))

    def halve(self, size: str, failed: int) -> int:
        """*failed* rows were too many. What now holds; never more than another renderer has found."""
        found = self._read()
        halved = max(1, failed // 2)
        for known in (self._known, found):
            halved = min(halved, known.get(self._key(size), halved))
        self._known = {**self._known, **found, self._key(size): halved}
        self._write()
        return halved

    def _key(self, size: str) -> str:
        return f"{self._gpu} {size}"

    def _read(self) -> dict[str, int]:
        if self._path is None or not self._path.exists():
            return {}
        try:
            found = json.loads(self._path.read_text())
            return {str(key): max(1, int(value)) for key, value in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):  # no limits are better than no renderer
            return {}

    def _write(self) -> None:
        if self._path is None:
            return
        unfinished = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps(self._known, indent=1, sort_keys=True))
            unfinished.replace(self._path)
        except OSError:  # a full disk: this process still remembers
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
