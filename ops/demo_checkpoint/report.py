"""How good the shipped checkpoint is, on photos that no training saw: ``python -m ops.demo_checkpoint.report``.

Writes REPORT.md and its pictures; the figures are those that the tests ask of a few renders.
"""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Final

import numpy as np
import torch
from PIL import Image

from farm.embedded import SHIPPED
from ops.demo_checkpoint.filters import STYLES, Rgb
from ops.demo_checkpoint.judge import style_of
from ops.demo_checkpoint.renders import HELD_OUT, Studio, Wanted, likeness, peak_ratio, photo, reconstructed

HERE: Final = Path(__file__).parent
STRENGTHS: Final = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9)
JUDGED_AT: Final = 0.6
SEEDS: Final = (1, 2, 3)
WORDS: Final = ("night", "snow", "sepia", "sunset")


def main() -> None:
    studio = Studio()
    names = list(HELD_OUT)
    parts = [
        (HERE / "report_head.md").read_text().strip(),
        _machine(),
        _autoencoder(names),
        _strength(studio, names),
        _styles(studio, names),
        _scale(studio, names),
        _words(studio, names[:3]),
    ]
    (HERE / "REPORT.md").write_text("\n\n".join(parts) + "\n")


def _machine() -> str:
    size = sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) / 2**20
    training = json.loads((HERE / "training.json").read_text())
    rows = [(name, f"{done['steps']:,}", f"{done['minutes']:.1f}") for name, done in training.items()]
    return (
        f"All that is shipped together: {size:.1f} MiB. Measured with torch {torch.__version__}, Python "
        f"{platform.python_version()}, {torch.get_num_threads()} threads, fp32.\n\n"
        + _table(("trained", "steps", "minutes"), rows)
    )


def _autoencoder(names: Sequence[str]) -> str:
    photos = [np.asarray(photo(name)) for name in names]
    back = [reconstructed(picture) for picture in photos]
    ratios = [peak_ratio(one, other) for one, other in zip(photos, back, strict=True)]
    _sheet("autoencoder.jpg", [photos, back])
    reached = (
        "reached" if mean(ratios) >= 26 else "not reached: fine texture is lost, and with it most of the difference"
    )
    rows = [(name, f"{ratio:.1f}") for name, ratio in zip(names, ratios, strict=True)]
    return (
        f"## Autoencoder: {mean(ratios):.1f} dB\n\nAim: 26 dB, {reached}. Photos above, what comes back below.\n\n"
        + _table(("photo", "PSNR, dB"), [*rows, ("mean", f"{mean(ratios):.1f}")])
        + _shown("autoencoder.jpg", "photos and their reconstructions")
    )


def _strength(studio: Studio, names: Sequence[str]) -> str:
    kept = {name: np.asarray(photo(name)) for name in names}
    rows, shown = [], []
    for style in STYLES:
        studio.load(style)
        made = {s: [studio.styled(style, name, s) for name in names] for s in STRENGTHS}
        alike = [
            mean(likeness(np.asarray(photo(n)), p) for n, p in zip(names, made[s], strict=True)) for s in STRENGTHS
        ]
        rows.append((style, *(f"{each:.2f}" for each in alike)))
        shown.append([kept[names[0]], *(made[s][0] for s in STRENGTHS)])
    _sheet("strength.jpg", shown)
    return (
        "## Strength: how much of the photo stays\n\nSSIM of the luminance with the photo, mean of the five photos. "
        "The sheet shows the photo and then the strengths of the table.\n\n"
        + _table(("style", *map(str, STRENGTHS)), rows)
        + _shown("strength.jpg", "one photo in four styles from strength 0.2 to 0.9")
    )


def _styles(studio: Studio, names: Sequence[str]) -> str:
    found: dict[str, list[str]] = {}
    shown = [[np.asarray(photo(name)) for name in names]]
    for style in STYLES:
        studio.load(style)
        made = [studio.styled(style, name, JUDGED_AT, seed) for seed in SEEDS for name in names]
        found[style] = style_of(made)
        shown.append(made[: len(names)])
    _sheet("styles.jpg", shown)
    count = len(names) * len(SEEDS)
    right = mean(style_of_one == style for style, all_found in found.items() for style_of_one in all_found)
    reached = "reached" if right >= 0.9 else "not reached"
    filtered = [(style, STYLES[style](np.asarray(photo(name)))) for style in STYLES for name in names]
    known = mean(said == style for (style, _), said in zip(filtered, style_of([p for _, p in filtered]), strict=True))
    rows = [(style, *(str(found[style].count(other)) for other in STYLES)) for style in STYLES]
    return (
        f"## Styles at strength {JUDGED_AT}: {right:.0%} told apart\n\n"
        f"Aim: 90%, {reached}. A classifier trained on filter outputs of the training pictures says which style "
        f"it sees in {count} renders of each style; it is right on {known:.0%} of the filtered held-out photos "
        "themselves.\n\n"
        + _table(("rendered as", *(f"seen as {style}" for style in STYLES)), rows)
        + _shown("styles.jpg", "five photos, and each in anime, cartoon, cinematic and illustration")
    )


def _scale(studio: Studio, names: Sequence[str]) -> str:
    rows = []
    for style, apply in STYLES.items():
        off = []
        for scale in (0.0, 0.5, 1.0):
            studio.load(style, scale)
            made = [studio.styled(style, name, JUDGED_AT) for name in names]
            off.append(mean(distance(p, apply(np.asarray(photo(n)))) for n, p in zip(names, made, strict=True)))
        rows.append((style, *(f"{each:.1f}" for each in off)))
    return (
        f"## LoRA scale\n\nHow far renders at strength {JUDGED_AT} are from the photo through the style's filter: mean "
        "difference of 8x8 means, of 255. Scale 0 gives the base's picture to the bit (a test).\n\n"
        + _table(("style", "scale 0", "scale 0.5", "scale 1"), rows)
    )


def _words(studio: Studio, names: Sequence[str]) -> str:
    studio.load()
    shown = []
    for name in names:
        prompts = [HELD_OUT[name], *(f"{HELD_OUT[name]}, {word}" for word in WORDS)]
        made = [studio.picture(Wanted(name, prompt, 0.6, guidance=1.5)) for prompt in prompts]
        shown.append([np.asarray(photo(name)), *made])
    _sheet("words.jpg", shown)
    return (
        "## Words without a LoRA\n\n"
        "The photo, then the base at strength 0.6, guidance 1.5, under its caption, and with "
        + ", ".join(WORDS)
        + "."
        + _shown("words.jpg", "three photos under four words")
    )


def distance(one: Rgb, other: Rgb) -> float:
    """Mean absolute difference of the 8x8 means, 0..255: colour and tone, not fine lines."""
    small = [np.asarray(Image.fromarray(picture).reduce(8), np.float32) for picture in (one, other)]
    return float(np.abs(small[0] - small[1]).mean())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(file: str, what: str) -> str:
    return f"\n\n![{what}](report/{file})"


def _sheet(file: str, rows: Sequence[Sequence[Rgb]]) -> None:
    (HERE / "report").mkdir(exist_ok=True)
    whole = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    Image.fromarray(whole).save(HERE / "report" / file, quality=88)


if __name__ == "__main__":
    main()
