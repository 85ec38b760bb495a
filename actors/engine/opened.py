"""Which engine the settings ask for. Torch is imported here, and only when it is needed."""

from importlib.metadata import PackageNotFoundError, version

from actors.engine.fake import FakeEngine
from actors.engine.port import Engine
from actors.settings import RendererSettings

LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "pillow")


def opened(settings: RendererSettings) -> Engine:
    """Takes seconds for the real engine, and must be called in the thread that will render."""
    if settings.engine == "fake":
        return FakeEngine(batch=settings.batch, seconds=settings.fake_seconds)
    from actors.engine.denoise import SdxlEngine

    return SdxlEngine(settings)


def versions() -> dict[str, str]:
    """Of the libraries that decide what a picture looks like."""
    found: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # the fake engine needs none of them
            continue
    return found
