"""The campaign of `make demo`: photos that scikit-image ships, in four styles at two strengths."""

import importlib.resources
from pathlib import Path

from farm.sdk import Client
from schemas.campaign import Block, CampaignSpec, SourceEntry

PHOTOS = {
    "coffee.png": "a cup of coffee on a wooden table",
    "chelsea.png": "a cat looking at the camera",
    "astronaut.png": "an astronaut in front of a shuttle",
    "rocket.jpg": "a rocket on its launch pad",
    "motorcycle_left.png": "a motorcycle in a workshop",
    "hubble_deep_field.jpg": "galaxies in the night sky",
}


def demo_campaign(client: Client) -> CampaignSpec:
    """Uploads the photos and returns the spec: 6 sources x 4 styles x 2 strengths."""
    folder = _photos()
    sources = {name: client.upload_source(folder / name, name) for name in PHOTOS}
    return CampaignSpec(
        name="Demo",
        blocks=(
            Block(
                sources=tuple(SourceEntry(source=source.id, prompt=PHOTOS[name]) for name, source in sources.items()),
                styles=("anime", "cartoon", "cinematic", "illustration"),
                strengths=(0.3, 0.55),
            ),
        ),
        seed=20,
    )


def _photos() -> Path:
    return Path(str(importlib.resources.files("skimage"))) / "data"
