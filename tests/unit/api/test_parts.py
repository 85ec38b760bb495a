"""Parts that a checkpoint brings beside SDXL itself: what is taken, what is refused."""

from collections.abc import Mapping

import pytest
from starlette.testclient import TestClient

from farm.core.sdxl import half_parts, parts_of
from tests.unit.api.world import CHECKPOINT, lora_of, tar_of

Files = Mapping[str, bytes | Mapping[str, tuple[int, ...]]]

CONTROL: Files = {
    "config.json": b'{"_class_name": "ControlNetModel"}',
    "diffusion_pytorch_model.safetensors": {"conv_in.weight": (8, 4, 3, 3)},
}
REFERENCE: Files = {
    "ip_adapter.safetensors": {"image_proj.proj.weight": (8, 8), "ip_adapter.1.to_k_ip.weight": (8, 8)},
    "image_encoder/config.json": b"{}",
    "image_encoder/model.safetensors": {"visual_projection.weight": (8, 8)},
}


def under(folder: str, files: Files) -> Files:
    return {f"{folder}/{path}": content for path, content in files.items()}


def without(files: Files, path: str) -> Files:
    return {at: content for at, content in files.items() if at != path}


CANNY, DEPTH, ADAPTER = (
    under("controlnet/canny", CONTROL),
    under("controlnet/depth", CONTROL),
    under("ip_adapter", REFERENCE),
)


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ({}, set()),
        (CANNY, {"control.canny"}),
        ({**CANNY, **DEPTH, **ADAPTER}, {"control.canny", "control.depth", "reference"}),
        (under("controlnet/pose", CONTROL), {"control.pose"}),
        (under("controlnet/tile", CONTROL), set()),  # not known: left alone, as any folder
        (without(ADAPTER, "ip_adapter/image_encoder/config.json"), set()),
    ],
)
def test_parts_follow_from_the_paths(files: Files, parts: set[str]) -> None:
    assert parts_of([*CHECKPOINT, *files]) == parts


def test_what_is_missing_from_a_part_is_named() -> None:
    assert half_parts([*CHECKPOINT, *CANNY, *ADAPTER]) == {}
    files = [*CHECKPOINT, *without(CANNY, "controlnet/canny/config.json")]
    assert half_parts(files) == {"controlnet/canny/": ["config.json"]}


@pytest.mark.parametrize("files", [CANNY, ADAPTER, {**CANNY, **DEPTH, **ADAPTER}, under("controlnet/tile", CONTROL)])
def test_whole_parts_are_taken_with_their_checkpoint(http: TestClient, files: Files) -> None:
    response = http.post("/v1/checkpoints?name=x", content=tar_of({**CHECKPOINT, **files}))
    assert response.status_code == 201, response.json()


CANNY_CONFIG, CANNY_WEIGHTS = (f"controlnet/canny/{name}" for name in CONTROL)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (without(CANNY, CANNY_CONFIG), "controlnet/canny/ lacks config.json"),
        (without(CANNY, CANNY_WEIGHTS), "controlnet/canny/ lacks diffusion_pytorch_model.safetensors"),
        ({**CANNY, CANNY_CONFIG: b'{"_class_name": "UNet2DConditionModel"}'}, "not of a ControlNetModel"),
        (
            {
                **CANNY,
                CANNY_CONFIG: b'{"_class_name": "ControlNetModel", "cross_attention_dim": 768}',
                "unet/config.json": b'{"addition_embed_type": "text_time", "cross_attention_dim": 2048}',
            },
            "its cross_attention_dim is 768, here it is 2048",
        ),
        ({**CANNY, CANNY_CONFIG: b"[]"}, "it is no object"),
        ({**CANNY, CANNY_CONFIG: b"\xff"}, "cannot be read"),
        (without(ADAPTER, "ip_adapter/ip_adapter.safetensors"), "ip_adapter/ lacks ip_adapter.safetensors"),
        (without(ADAPTER, "ip_adapter/image_encoder/model.safetensors"), "lacks image_encoder/model.safetensors"),
        (
            {**ADAPTER, "ip_adapter/ip_adapter.safetensors": {"image_proj.proj.weight": (8, 8)}},
            "begins with ip_adapter",
        ),
        ({**ADAPTER, "ip_adapter/ip_adapter.safetensors": {"ip_adapter.1.w": (8, 8)}}, "begins with image_proj"),
    ],
)
def test_a_part_that_is_there_in_half_is_refused(http: TestClient, files: Files, said: str) -> None:
    problem = http.post("/v1/checkpoints?name=x", content=tar_of({**CHECKPOINT, **files})).json()
    assert problem["code"] == "bad_checkpoint_files"
    assert said in problem["detail"]


def test_a_part_whose_weights_are_a_pickle_is_refused(http: TestClient) -> None:
    files = {**CHECKPOINT, **CANNY, CANNY_WEIGHTS: b"\x80\x04 a pickle"}
    assert http.post("/v1/checkpoints?name=x", content=tar_of(files)).json()["code"] == "not_safetensors"


def test_a_fine_tune_with_other_parts_takes_the_same_loras(http: TestClient) -> None:
    assert http.post("/v1/checkpoints?name=bare", content=tar_of(CHECKPOINT)).status_code == 201
    assert http.post("/v1/checkpoints?name=rich", content=tar_of({**CHECKPOINT, **CANNY})).status_code == 201
    assert http.post("/v1/loras?name=a&checkpoint=bare", content=lora_of()).status_code == 201
    style = {"name": "look", "checkpoint": "rich", "loras": [{"lora": "a"}]}
    assert http.post("/v1/styles", json=style).status_code == 201


def test_a_lora_cannot_change_a_controlnet(http: TestClient) -> None:
    http.post("/v1/checkpoints?name=rich", content=tar_of({**CHECKPOINT, **CANNY}))
    problem = http.post("/v1/loras?name=a", content=lora_of(module="controlnet.conv_in")).json()
    assert problem["code"] == "lora_does_not_fit"
