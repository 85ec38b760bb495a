"""A Redis with a password, as Ray's head keeps its state in it; Debian's redis-server."""

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from farm.embedded.ports import free_port
from tests.support.faults import until
from tests.support.parts import own_folder


@dataclass(frozen=True, slots=True)
class Redis:
    port: int
    password: str

    @property
    def head_env(self) -> dict[str, str]:
        """What KubeRay sets on the head for a cluster with fault tolerance."""
        return {
            "RAY_REDIS_ADDRESS": f"127.0.0.1:{self.port}",
            "REDIS_PASSWORD": self.password,
            "RAY_external_storage_namespace": "farm",
        }


def has_redis() -> bool:
    return shutil.which("redis-server") is not None


@contextmanager
def running_redis() -> Iterator[Redis]:
    """In memory; what the head says it keeps lives as long as this."""
    with own_folder() as folder:
        found = Redis(free_port(()), secrets.token_hex(16))
        config = folder / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(f'bind 127.0.0.1\nport {found.port}\nrequirepass {found.password}\nsave ""\ndir {folder}\n')
        log = folder / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(["redis-server", str(config)], stdout=file, stderr=file)
        try:
            until(lambda: b"Ready to accept connections" in log.read_bytes(), "Redis answers")
            yield found
        finally:
            process.kill()
            process.wait(10)
