"""Free TCP ports on the loopback address."""

import random
import socket
from collections.abc import Collection

HOST = "127.0.0.1"

# SeaweedFS wants a port's gRPC twin here, and ignores in part what it is told instead.
GRPC_OFFSET = 10_000

# With their twins below 32768, where Linux begins to take ports for outgoing connections: a port that is kept between
# two runs is then not lost to a browser that happened to be given it.
_FIRST, _LAST = 10_000, 22_000


def is_free(port: int) -> bool:
    """Whether servers can listen on *port* and on its twin."""
    return _bindable(port) and _bindable(port + GRPC_OFFSET)


def _bindable(port: int) -> bool:
    """Connections that are still closing do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port(taken: Collection[int]) -> int:
    """A free port that is not one of *taken*."""
    candidates = random.sample(range(_FIRST, _LAST), k=500)
    for port in candidates:
        if port not in taken and is_free(port):
            return port
    raise OSError(f"No free port between {_FIRST} and {_LAST} on {HOST}.")


def settle(names: Collection[str], kept: dict[str, int]) -> dict[str, int]:
    """A free port for each of *names*: the one it had before (*kept*) if it can still be had.

    Links that were shown to people stay good from one run to the next.
    """
    chosen: dict[str, int] = {}
    others = {port for name, port in kept.items() if name not in names}
    for name in names:
        before = kept.get(name)
        usable = before is not None and before not in chosen.values() and is_free(before)
        chosen[name] = before if usable and before is not None else free_port(others | set(chosen.values()))
    return chosen
