from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from farm.api.app import create_app
from tests.unit.api.scheduling import Scheduler
from tests.unit.api.world import CHECKPOINT, KEY, World, lora_of, picture, tar_of


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def scheduler(world: World) -> Scheduler:
    return Scheduler(world.store)


@pytest.fixture
def app(world: World) -> FastAPI:
    return create_app(world.settings, world.store, world.depot, world.clock)


@pytest.fixture
def http(app: FastAPI) -> Iterator[TestClient]:
    """A client with our key."""
    with TestClient(app, headers={"Authorization": f"Bearer {KEY}"}, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def stocked(http: TestClient) -> list[str]:
    """A checkpoint, a LoRA, two styles and two sources; gives the ids of the sources."""
    assert http.post("/v1/checkpoints?name=tiny", content=tar_of(CHECKPOINT)).status_code == 201
    assert http.post("/v1/loras?name=anime", content=lora_of()).status_code == 201
    for style in (
        {"name": "anime", "loras": [{"lora": "anime"}], "steps": 10, "size": "64x64"},
        {"name": "noir", "prompt": "{prompt}, noir", "steps": 10, "strength": 0.4, "size": "64x64"},
    ):
        assert http.post("/v1/styles", json=style).status_code == 201
    return [http.post(f"/v1/sources?name={n}.png", content=picture(n)).json()["id"] for n in (1, 2)]
