"""The depot's twin with links that cost nothing to make, and the ways in which an upload goes wrong."""

import hashlib
from datetime import timedelta

from farm.core.errors import DepotDown
from farm.depot.memory import MemoryDepot
from schemas.order import OrderRow
from schemas.rendition import Rendition
from schemas.report import PublishedRendition
from schemas.style import dimensions
from tests.simulation.faults import Faults
from tests.simulation.kernel import Kernel

_PUT = "put:"


class SimulatedDepot(MemoryDepot):
    """Links hold the key and nothing else; they never run out."""

    def link_get(self, key: str, ttl: timedelta, filename: str | None = None) -> str:
        return "get:" + key

    def link_put(self, key: str, ttl: timedelta) -> str:
        return _PUT + key

    def keys(self) -> set[str]:
        return set(self._objects)

    def sha256(self, key: str) -> str | None:
        found = self._objects.get(key)
        return None if found is None else hashlib.sha256(found[0]).hexdigest()


class Courier:
    """Takes pictures to the depot. A PUT may be lost, or done and said to be lost."""

    def __init__(self, kernel: Kernel, depot: SimulatedDepot, faults: Faults) -> None:
        self._kernel, self._depot, self._faults = kernel, depot, faults

    def send(self, link: str, data: bytes) -> None:
        """Raises `DepotDown`."""
        faulty = self._kernel.now < self._faults.until
        if faulty and self._kernel.random.random() < self._faults.put_lost:
            raise DepotDown("The connection was refused.")
        self._depot.put(link.removeprefix(_PUT), data, "image/png")
        if faulty and self._kernel.random.random() < self._faults.put_unknown:
            raise DepotDown("The connection was cut before the answer.")

    def digest(self, data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    def rendition(self, row: OrderRow, wanted: Rendition, data: bytes) -> PublishedRendition:
        """Raises `DepotDown`."""
        pixels = data + wanted.name.encode()
        self.send(row.links.renditions[wanted.name], pixels)
        width, height = wanted.crop(*dimensions(row.recipe.size))
        sha256, kind = self.digest(pixels), wanted.format
        return PublishedRendition(
            name=wanted.name, sha256=sha256, bytes=len(pixels), width=width, height=height, format=kind
        )
