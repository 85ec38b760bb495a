"""Sources and weights: what is taken in, and what is refused with which code."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import pytest
from PIL import Image
from starlette.testclient import TestClient

from farm.api import weights
from farm.core.keys import source_key
from tests.unit.api.world import (
    CHECKPOINT,
    ENCODER,
    OURS,
    TO_Q,
    UNET,
    World,
    lora_of,
    picture,
    safetensors,
    tar_of,
)


def _png_header(width: int, height: int) -> bytes:
    """A PNG that says it is that large, with next to nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def _animated() -> bytes:
    target = io.BytesIO()
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(target, "WEBP", save_all=True, append_images=frames[1:])
    return target.getvalue()


def _noise(kind: str) -> bytes:
    target = io.BytesIO()
    Image.effect_noise((200, 200), 80).convert("RGB").save(target, kind)
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (lambda: b"", "source_empty"),
        (lambda: b"hello, this is text", "source_not_a_picture"),
        (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "source_unsupported_format"),
        (lambda: picture(kind="GIF", mode="L"), "source_unsupported_format"),
        (lambda: picture(kind="TIFF"), "source_unsupported_format"),
        (lambda: _noise("JPEG")[:4000], "source_truncated"),
        (lambda: _noise("PNG")[:4000], "source_truncated"),
        (lambda: _noise("WEBP")[:4000], "source_truncated"),
        (lambda: _png_header(10_000, 10_000), "source_too_many_pixels"),
        (lambda: _png_header(65_535, 65_535), "source_too_many_pixels"),
        (_animated, "source_animated"),
        (lambda: picture(size=(2000, 4)), "source_too_narrow"),
    ],
)
def test_bad_pictures_are_refused_with_their_code(http: TestClient, data: Callable[[], bytes], code: str) -> None:
    response = http.post("/v1/sources?name=a.jpg", content=data())
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert response.json()["detail"].endswith(".")
    assert http.get("/v1/sources").json()["data"] == []


@pytest.mark.parametrize(
    ("mode", "kind"), [("CMYK", "JPEG"), ("I;16", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("L", "JPEG")]
)
def test_unusual_pictures_are_taken_as_they_are(world: World, http: TestClient, mode: str, kind: str) -> None:
    target = io.BytesIO()
    Image.new(mode, (40, 30)).save(target, kind)
    source = http.post("/v1/sources?name=a", content=target.getvalue()).json()
    assert (source["width"], source["height"], source["format"]) == (40, 30, kind)
    assert world.depot.get(source_key(OURS, source["sha256"])) == target.getvalue()


def test_the_same_picture_is_one_source(http: TestClient) -> None:
    first = http.post("/v1/sources?name=a.png", content=picture(1))
    again = http.post("/v1/sources?name=b.png", content=picture(1))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert http.get(f"/v1/sources/{first.json()['id']}").json() == first.json()


def test_an_upload_over_the_cap_is_413(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.api.sources.MAX_BYTES", 1000)

    def stream() -> Iterator[bytes]:
        yield from [b"x" * 600] * 3  # without a Content-Length it is noticed on the way

    for content in (b"x" * 1001, stream()):
        response = http.post("/v1/sources?name=a", content=content)
        assert (response.status_code, response.json()["code"]) == (413, "source_too_many_bytes")


def test_names_lose_paths_and_control_characters(http: TestClient) -> None:
    response = http.post("/v1/sources", params={"name": "../../etc/\x00pass\nwd.png"}, content=picture())
    assert response.json()["name"] == "passwd.png"


def test_sources_come_in_pages(http: TestClient) -> None:
    ids = sorted(http.post(f"/v1/sources?name={n}", content=picture(n)).json()["id"] for n in range(5))
    found, after = [], ""
    while True:
        page = http.get(f"/v1/sources?limit=2{after}").json()
        found += [source["id"] for source in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['next_cursor']}"
    assert found == ids


def test_a_source_whose_object_cannot_be_written_leaves_no_row(world: World, http: TestClient) -> None:
    world.depot.answers = False
    assert http.post("/v1/sources?name=a", content=picture()).json()["code"] == "depot_down"
    assert http.get("/v1/sources").json()["data"] == []


# weights


def test_a_checkpoint_is_addressed_by_its_files(world: World, http: TestClient) -> None:
    first = http.post("/v1/checkpoints?name=tiny", content=tar_of(CHECKPOINT))
    assert first.status_code == 201
    digest, layout = first.json()["digest"], first.json()["layout"]
    assert layout == "folder"
    assert world.depot.get(f"checkpoints/{digest}/unet/config.json") == CHECKPOINT["unet/config.json"]
    nested = tar_of({f"sdxl/{path}": content for path, content in reversed(CHECKPOINT.items())})
    assert http.post("/v1/checkpoints?name=same", content=nested).json()["digest"] == digest
    other = tar_of({**CHECKPOINT, "tokenizer/merges.txt": b"x"})
    assert http.post("/v1/checkpoints?name=tiny", content=other).json()["code"] == "name_taken"
    assert [row["name"] for row in http.get("/v1/checkpoints").json()["data"]] == ["tiny", "same"]


SINGLE = {
    "model.diffusion_model.label_emb.0.0.weight": (8, 8),
    "model.diffusion_model.input_blocks.1.0.in_layers.0.weight": (8,),
    "model.diffusion_model.input_blocks.2.0.op.weight": (8, 8, 3, 3),
    "model.diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight": (8, 8),
    "conditioner.embedders.0.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight": (8, 8),
    "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight": (24, 8),
    "first_stage_model.decoder.conv_in.weight": (4, 4, 3, 3),
}


def test_a_single_file_checkpoint_takes_loras_by_diffusers_names(http: TestClient) -> None:
    response = http.post("/v1/checkpoints?name=single", content=safetensors(SINGLE))
    assert response.json()["layout"] == "single"
    assert http.post("/v1/loras?name=a", content=lora_of()).json()["targets"] == 1
    second = "text_encoder_2.text_model.encoder.layers.0.self_attn.k_proj"
    assert http.post("/v1/loras?name=b", content=lora_of(module=second)).status_code == 201


def test_a_checkpoint_can_come_from_the_depot(world: World, http: TestClient) -> None:
    for path, content in CHECKPOINT.items():
        data = content if isinstance(content, bytes) else safetensors(content)
        world.depot.put(f"imports/tiny/{path}", data, "application/octet-stream")
    world.depot.put("imports/a.safetensors", lora_of(), "application/octet-stream")
    assert http.post("/v1/checkpoints?name=tiny&key=imports/tiny/").status_code == 201
    assert http.post("/v1/loras?name=a&key=imports/a.safetensors").status_code == 201
    assert http.post("/v1/checkpoints?name=x&key=imports/none/").status_code == 404
    assert http.post("/v1/checkpoints?name=x&key=sources/2/").json()["code"] == "bad_depot_key"


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({**CHECKPOINT, "unet/evil.bin": b"pickle"}, "bad_checkpoint_files"),
        ({**CHECKPOINT, "../evil.json": b"{}"}, "bad_checkpoint_files"),
        ({"unet/config.json": b"{}"}, "bad_checkpoint_files"),
        ({**CHECKPOINT, "unet/config.json": b'{"addition_embed_type": null}'}, "not_sdxl"),
        ({**CHECKPOINT, "unet/config.json": b"[" * 10_000}, "bad_checkpoint_files"),
        ({k: v for k, v in CHECKPOINT.items() if not k.startswith("text_encoder_2")}, "not_sdxl"),
        ({**CHECKPOINT, "vae/diffusion_pytorch_model.safetensors": b"\x80\x04pickle..."}, "not_safetensors"),
    ],
)
def test_what_is_no_checkpoint_is_refused(http: TestClient, files: dict[str, bytes], code: str) -> None:
    assert http.post("/v1/checkpoints?name=x", content=tar_of(files)).json()["code"] == code


def test_the_depot_can_hold_no_empty_weights(http: TestClient) -> None:
    assert http.post("/v1/checkpoints?name=x").json()["code"] == "empty_body"
    assert http.post("/v1/checkpoints?name=Not+a+name", content=b"x").status_code == 422


def test_weights_over_the_cap_are_413(http: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "LORA_BYTES", 100)
    assert http.post("/v1/loras?name=x", content=b"x" * 101).status_code == 413


def _header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


A, B = f"{TO_Q}.lora_A.weight", f"{TO_Q}.lora_B.weight"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"PK\x03\x04 a zip", "not_safetensors"),
        (b"\x80\x04\x95 a pickle", "not_safetensors"),
        (b"short", "not_safetensors"),
        ((2**63).to_bytes(8, "little") + b"{}", "not_safetensors"),
        (_header(b"[1]"), "not_safetensors"),
        (_header(b"[" * 50_000), "not_safetensors"),
        (_header(b'{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"a":1}', b"xx"), "not_safetensors"),
        (_header(b'{"a":{"dtype":"F16","shape":[9],"data_offsets":[0,18]}}', b"xx"), "not_safetensors"),
        (_header(b'{"a":{"dtype":"F16","shape":[-1],"data_offsets":[0,2]}}', b"xx"), "not_safetensors"),
        (_header(b'{"a":{"dtype":"PY","shape":[1],"data_offsets":[0,2]}}', b"xx"), "not_safetensors"),
        (_header(b'{"a":NaN}'), "not_safetensors"),
        (safetensors({f"t{n}": (0,) for n in range(20_001)}), "not_safetensors"),
        (safetensors({}), "lora_does_not_fit"),
        (lora_of(module="unet.down_blocks.9.to_q"), "lora_does_not_fit"),
        (lora_of(rank=0), "lora_does_not_fit"),
        (safetensors({A: (2, 9), B: (8, 2)}), "lora_does_not_fit"),
        (safetensors({A: (2, 8), B: (8, 3)}), "lora_does_not_fit"),
        (safetensors({A: (2, 8)}), "lora_does_not_fit"),
        (safetensors({A: (2, 8), B: (8, 2), "cond_stage.what": (1,)}), "lora_does_not_fit"),
    ],
)
def test_a_lora_that_is_none_or_does_not_fit_is_refused(
    http: TestClient, stocked: list[str], data: bytes, code: str
) -> None:
    response = http.post("/v1/loras?name=new", content=data)
    assert (response.status_code, response.json()["code"]) == (422, code)


def test_misfits_are_named_ten_at_most(http: TestClient, stocked: list[str]) -> None:
    shapes = {f"unet.nothing.{n}.lora_A.weight": (1, 1) for n in range(30)}
    errors = http.post("/v1/loras?name=new", content=safetensors(shapes)).json()["errors"]
    assert len(errors) == 10
    assert errors[0]["detail"].startswith("unet.nothing.0: the checkpoint has no such weight")


def test_both_layouts_and_both_encoders_fit(http: TestClient, stocked: list[str]) -> None:
    kohya = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_k"
    shapes = {
        f"{kohya}.lora_down.weight": (3, 16),
        f"{kohya}.lora_up.weight": (8, 3),
        f"{kohya}.alpha": (),
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": (2, 8),
        "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": (8, 2),
    }
    params = {"name": "kohya", "trigger_word": ["a", "b"], "licence": "CC0", "expires_at": "2027-01-01T00:00:00"}
    lora = http.post("/v1/loras", params=params, content=safetensors(shapes)).json()
    assert (lora["targets"], lora["rank"], lora["trigger_words"]) == (2, 3, ["a", "b"])
    assert lora["expires_at"] == "2027-01-01T00:00:00+00:00"
    assert len(UNET) + len(ENCODER) == 4  # the shapes above are of these
    assert {row["name"] for row in http.get("/v1/loras").json()["data"]} == {"anime", "kohya"}


def test_a_lora_needs_its_checkpoint(http: TestClient) -> None:
    assert http.post("/v1/loras?name=x", content=lora_of()).json()["code"] == "unknown_checkpoint"
