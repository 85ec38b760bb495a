"""LoRA files: what they are called, what is refused, and that the farm and the engine think alike of both."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from actors.engine import kohya, lora
from actors.engine.port import Refused
from farm.core import lora as farm_lora
from farm.core.errors import BadRequest
from farm.usecases.weight_files import read_header

BLOCK = "unet.down_blocks.1.attentions.0.transformer_blocks.0"
SHAPES = {
    "unet.conv_in.weight": (8, 4, 3, 3),
    "unet.time_embedding.linear_1.weight": (16, 8),
    "unet.down_blocks.0.resnets.0.conv1.weight": (8, 8, 3, 3),
    "unet.down_blocks.0.resnets.0.norm1.weight": (8,),
    "unet.down_blocks.0.resnets.1.conv1.weight": (8, 8, 3, 3),
    "unet.down_blocks.0.downsamplers.0.conv.weight": (8, 8, 3, 3),
    f"{BLOCK}.attn1.to_q.weight": (8, 8),
    f"{BLOCK}.attn1.to_out.0.weight": (8, 8),
    f"{BLOCK}.attn2.to_k.weight": (8, 16),
    "text_encoder.text_model.embeddings.token_embedding.weight": (20, 8),
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.weight": (8, 8),
    "text_encoder_2.text_model.encoder.layers.0.mlp.fc1.weight": (12, 8),
    "text_encoder_2.text_projection.weight": (8, 8),
    "vae.decoder.conv_in.weight": (4, 4, 3, 3),
}
TO_Q = f"{BLOCK}.attn1.to_q"
FLAT = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
ORIGINAL = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
ENCODER = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"

File = Mapping[str, tuple[int, ...]]


def _leaf(name: str, shape: tuple[int, ...]) -> nn.Module:
    match shape:
        case (rows, columns) if name.endswith("_embedding"):
            return nn.Embedding(rows, columns)
        case (rows, columns):
            return nn.Linear(columns, rows)
        case (rows, columns, size, _):
            return nn.Conv2d(columns, rows, size)
        case (size,):
            return nn.LayerNorm(size)
    raise ValueError(shape)


def checkpoint() -> dict[str, nn.Module]:
    """Modules of those shapes, as `lora.targets` finds them."""
    roots: dict[str, nn.Module] = {part: nn.Module() for part in lora.PARTS}
    for weight, shape in SHAPES.items():
        part, *path = weight.removesuffix(".weight").split(".")
        if part in roots:
            at = roots[part]
            for step in path[:-1]:
                if step not in dict(at.named_children()):
                    at.add_module(step, nn.Module())
                at = at.get_submodule(step)
            at.add_module(path[-1], _leaf(path[-1], shape))
    return lora.targets(roots)


def pair(
    module: str, down: tuple[int, ...], up: tuple[int, ...], names: tuple[str, str] = ("lora_A", "lora_B")
) -> File:
    return {f"{module}.{names[0]}.weight": down, f"{module}.{names[1]}.weight": up}


KOHYA = ("lora_down", "lora_up")
SQUARE = ((2, 8), (8, 2))
CONV = ((2, 8, 3, 3), (8, 2, 1, 1))

FITS: dict[str, tuple[File, str]] = {
    "peft": (pair(TO_Q, *SQUARE), TO_Q),
    "peft, an adapter named": (pair(TO_Q, *SQUARE, ("lora_A.default", "lora_B.default")), TO_Q),
    "peft, wrapped": (pair(f"base_model.model.{TO_Q}", *SQUARE), TO_Q),
    "peft, a rank larger than the weight": (pair(TO_Q, (64, 8), (8, 64)), TO_Q),
    "diffusers": (pair(TO_Q, *SQUARE, ("lora.down", "lora.up")), TO_Q),
    "diffusers, old": (pair(f"{BLOCK}.attn1.processor.to_q_lora", *SQUARE, ("down", "up")), TO_Q),
    "diffusers, old, out": (
        pair(f"{BLOCK}.attn1.processor.to_out_lora", *SQUARE, ("down", "up")),
        f"{BLOCK}.attn1.to_out.0",
    ),
    "kohya": ({**pair(FLAT, *SQUARE, KOHYA), f"{FLAT}.alpha": ()}, TO_Q),
    "kohya, alpha in a list": ({**pair(FLAT, *SQUARE, KOHYA), f"{FLAT}.alpha": (1,)}, TO_Q),
    "kohya, original names": ({**pair(ORIGINAL, *SQUARE, KOHYA), f"{ORIGINAL}.alpha": ()}, TO_Q),
    "kohya, a convolution": (
        pair("lora_unet_input_blocks_1_0_in_layers_2", *CONV, KOHYA),
        "unet.down_blocks.0.resnets.0.conv1",
    ),
    "kohya, downsampling": (
        pair("lora_unet_input_blocks_3_0_op", *CONV, KOHYA),
        "unet.down_blocks.0.downsamplers.0.conv",
    ),
    "kohya, the first": (pair("lora_unet_input_blocks_0_0", (2, 4, 3, 3), (8, 2, 1, 1), KOHYA), "unet.conv_in"),
    "kohya, time": (pair("lora_unet_time_embed_0", (2, 8), (16, 2), KOHYA), "unet.time_embedding.linear_1"),
    "peft, a convolution": (pair("unet.conv_in", (2, 4, 3, 3), (8, 2, 1, 1)), "unet.conv_in"),
    "first encoder": (pair(ENCODER, *SQUARE), ENCODER),
    "first encoder, shorter": (pair(ENCODER.replace("text_model.", ""), *SQUARE), ENCODER),
    "first encoder, kohya": (
        pair("lora_te1_text_model_encoder_layers_0_self_attn_q_proj", *SQUARE, KOHYA),
        ENCODER,
    ),
    "second encoder, kohya": (
        pair("lora_te2_text_model_encoder_layers_0_mlp_fc1", (3, 8), (12, 3), KOHYA),
        "text_encoder_2.text_model.encoder.layers.0.mlp.fc1",
    ),
    "second encoder, projection": (
        pair("lora_te2_text_projection", *SQUARE, KOHYA),
        "text_encoder_2.text_projection",
    ),
}
KIND = "lora_kind_unsupported"
REFUSED: dict[str, tuple[File, str, str]] = {
    "DoRA of kohya": ({**pair(FLAT, *SQUARE, KOHYA), f"{FLAT}.dora_scale": (8, 1)}, KIND, "DoRA"),
    "DoRA of peft": ({**pair(TO_Q, *SQUARE), f"{TO_Q}.lora_magnitude_vector": (8,)}, KIND, "DoRA"),
    "DoRA of peft, with a weight": (
        {**pair(TO_Q, *SQUARE), f"{TO_Q}.lora_magnitude_vector.weight": (8,)},
        KIND,
        "DoRA",
    ),
    "LoKr": ({f"{FLAT}.lokr_w1": (2, 2), f"{FLAT}.lokr_w2": (4, 4), f"{FLAT}.alpha": ()}, KIND, "LoKr"),
    "LoHa": ({f"{FLAT}.hada_w1_a": (8, 2), f"{FLAT}.hada_w1_b": (2, 8)}, KIND, "LoHa"),
    "(IA)3": ({f"{FLAT}.weight": (8, 1), f"{FLAT}.on_input": ()}, KIND, "(IA)3"),
    "(IA)3 of peft": ({f"base_model.model.{TO_Q}.ia3_l": (8, 1)}, KIND, "(IA)3"),
    "OFT": ({f"{FLAT}.oft_blocks": (2, 4, 4)}, KIND, "OFT"),
    "a full difference": ({f"{FLAT}.diff": (8, 8)}, KIND, "a full difference"),
    "LoCon, decomposed": (
        {
            "lora_unet_input_blocks_1_0_in_layers_2.lora_down.weight": (2, 8, 1, 1),
            "lora_unet_input_blocks_1_0_in_layers_2.lora_mid.weight": (2, 2, 3, 3),
            "lora_unet_input_blocks_1_0_in_layers_2.lora_up.weight": (8, 2, 1, 1),
        },
        KIND,
        "LoCon with a middle factor",
    ),
    "a weight that is not there": (pair("unet.down_blocks.9.to_q", *SQUARE), "lora_unknown_keys", "unet.down_blocks.9"),
    "no name of a LoRA": ({**pair(TO_Q, *SQUARE), "cond_stage.what": (1,)}, "lora_unknown_keys", "cond_stage.what"),
    "a bias": ({**pair(TO_Q, *SQUARE), f"{TO_Q}.lora_B.bias": (8,)}, "lora_unknown_keys", f"{TO_Q}.lora_B.bias"),
    "a norm": (pair("unet.down_blocks.0.resnets.0.norm1", (2, 8), (8, 2)), "lora_unknown_keys", "norm1"),
    "a table of embeddings": (
        pair("text_encoder.text_model.embeddings.token_embedding", (2, 8), (20, 2)),
        "lora_unknown_keys",
        "token_embedding",
    ),
    "the VAE": (pair("vae.decoder.conv_in", (2, 4, 3, 3), (4, 2, 1, 1)), "lora_unknown_keys", "vae.decoder.conv_in"),
    "another width": (pair(TO_Q, (2, 9), (8, 2)), "lora_wrong_shape", TO_Q),
    "two ranks": (pair(TO_Q, (2, 8), (8, 3)), "lora_wrong_shape", TO_Q),
    "no rank": (pair(TO_Q, (0, 8), (8, 0)), "lora_wrong_shape", TO_Q),
    "a matrix onto a convolution": (pair("unet.conv_in", (2, 4), (8, 2)), "lora_wrong_shape", "unet.conv_in"),
    "a kernel in the wrong half": (
        pair("unet.conv_in", (2, 4, 1, 1), (8, 2, 3, 3)),
        "lora_wrong_shape",
        "unet.conv_in",
    ),
    "many alphas": ({**pair(FLAT, *SQUARE, KOHYA), f"{FLAT}.alpha": (2,)}, "lora_wrong_shape", FLAT),
    "one half": ({f"{TO_Q}.lora_A.weight": (2, 8)}, "lora_incomplete", TO_Q),
    "only an alpha": ({f"{FLAT}.alpha": ()}, "lora_incomplete", FLAT),
    "the same weight twice": ({**pair(TO_Q, *SQUARE), **pair(FLAT, *SQUARE, KOHYA)}, "lora_ambiguous", "to_q"),
    "nothing": ({}, "lora_empty", ""),
}


def written(at: Path, file: File, dtype: torch.dtype = torch.float16, metadata: dict[str, str] | None = None) -> Path:
    path = at / "lora.safetensors"
    generator = torch.Generator().manual_seed(1)
    tensors = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in file.items()}
    save_file(tensors, path, metadata=metadata)
    return path


def bound(path: Path) -> lora.Lora:
    return lora.bind(lora.read(path, pinned=False), checkpoint(), 2)


def farms_answer(path: Path) -> farm_lora.Fit:
    header = read_header(path, cap=farm_lora.MAX_HEADER_BYTES, max_tensors=farm_lora.MAX_TENSORS)
    return farm_lora.fit(header, SHAPES)


@pytest.mark.parametrize("case", FITS)
def test_farm_and_engine_take_the_same_layouts(case: str, tmp_path: Path) -> None:
    file, target = FITS[case]
    path = written(tmp_path, file)
    assert set(bound(path).deltas) == {target}
    assert farms_answer(path).targets == 1


@pytest.mark.parametrize("case", REFUSED)
def test_farm_and_engine_refuse_the_same_files_and_name_what_is_wrong(case: str, tmp_path: Path) -> None:
    file, code, named = REFUSED[case]
    path = written(tmp_path, file)
    with pytest.raises(Refused) as engines:
        bound(path)
    with pytest.raises(BadRequest) as farms:
        farms_answer(path)
    assert engines.value.failure.code == code
    assert farms.value.code == (KIND if code == KIND else "lora_does_not_fit")
    assert named in engines.value.failure.detail
    assert named in str(farms.value)
    if code == KIND:
        assert any(key in engines.value.failure.detail and key in str(farms.value) for key in file)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int8])
def test_farm_and_engine_refuse_whole_numbers(dtype: torch.dtype, tmp_path: Path) -> None:
    path = written(tmp_path, pair(TO_Q, *SQUARE), dtype)
    with pytest.raises(Refused, match=r"to_q\.lora_A"):
        bound(path)
    with pytest.raises(BadRequest, match=r"to_q\.lora_A"):
        farms_answer(path)


def test_unknown_keys_are_counted_and_five_are_named(tmp_path: Path) -> None:
    file = {f"unet.gone.{number}.lora_A.weight": (1, 1) for number in range(9)}
    with pytest.raises(
        Refused, match=r"9 keys .*unet\.gone\.0\.lora_A\.weight, .*unet\.gone\.4\.lora_A\.weight, \.\.\."
    ):
        bound(written(tmp_path, file))


def test_numbers_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    tensors = {name: torch.ones(shape) for name, shape in pair(TO_Q, *SQUARE).items()}
    tensors[f"{TO_Q}.lora_B.weight"][3, 1] = float("inf")
    path = tmp_path / "lora.safetensors"
    save_file(tensors, path)
    with pytest.raises(Refused, match=r"to_q\.lora_B\.weight") as refused:
        lora.read(path, pinned=False)
    assert refused.value.failure.code == "lora_not_finite"


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, pair(TO_Q, *SQUARE))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(Refused) as refused:
        lora.read(path, pinned=False)
    assert refused.value.failure.code == "lora_unreadable"


def test_what_is_read_has_the_bits_of_the_file(tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = {
        "a": torch.randn(3, 5).to(torch.bfloat16),
        "b": torch.randn(7),
        "c": torch.randn(2, 3, 1, 1).half(),
        "d": torch.randn(1).double(),
    }
    path = tmp_path / "lora.safetensors"
    save_file(tensors, path)
    read = lora.read(path, pinned=False).tensors
    assert set(read.places) == set(tensors)
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        ({}, 1.0),
        ({"unet.lora_alpha": 8}, 8 / 2),
        ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 8 / 2**0.5),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 3}}, 3 / 2),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn2.to_q": 3}}, 8 / 2),
        ({"text_encoder.lora_alpha": 8}, 1.0),
    ],
)
def test_alpha_of_peft_is_in_the_metadata(settings: dict[str, object], factor: float, tmp_path: Path) -> None:
    metadata = {"lora_adapter_metadata": json.dumps(settings)}
    found = bound(written(tmp_path, pair(TO_Q, *SQUARE), metadata=metadata))
    assert found.deltas[TO_Q].factor == pytest.approx(factor)


@pytest.mark.parametrize(
    "broken", ["[1]", "{", '{"unet.lora_alpha": "x"}', '{"unet.alpha_pattern": 3}', '{"unet.lora_alpha": NaN}']
)
def test_metadata_that_cannot_be_read_is_refused(broken: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="lora_adapter_metadata"):
        bound(written(tmp_path, pair(TO_Q, *SQUARE), metadata={"lora_adapter_metadata": broken}))


def test_a_tensor_alpha_is_divided_by_the_rank(tmp_path: Path) -> None:
    tensors = {name: torch.ones(shape) for name, shape in pair(FLAT, *SQUARE, KOHYA).items()}
    path = tmp_path / "lora.safetensors"
    save_file({**tensors, f"{FLAT}.alpha": torch.tensor(6.0)}, path)
    assert bound(path).deltas[TO_Q].factor == 3.0


def test_only_loras_of_text_encoders_touch_text(tmp_path: Path) -> None:
    assert bound(written(tmp_path, pair(ENCODER, *SQUARE))).touches_text
    assert not bound(written(tmp_path, pair(TO_Q, *SQUARE))).touches_text


@pytest.mark.parametrize(
    ("original", "ours"),
    [
        (
            "input_blocks_4_1_transformer_blocks_0_attn1_to_q",
            "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
        ),
        ("input_blocks_8_1_proj_in", "down_blocks_2_attentions_1_proj_in"),
        ("input_blocks_1_0_in_layers_2", "down_blocks_0_resnets_0_conv1"),
        ("input_blocks_3_0_op", "down_blocks_0_downsamplers_0_conv"),
        (
            "middle_block_1_transformer_blocks_9_ff_net_0_proj",
            "mid_block_attentions_0_transformer_blocks_9_ff_net_0_proj",
        ),
        ("middle_block_2_emb_layers_1", "mid_block_resnets_1_time_emb_proj"),
        ("output_blocks_0_1_proj_out", "up_blocks_0_attentions_0_proj_out"),
        (
            "output_blocks_5_1_transformer_blocks_1_attn2_to_out_0",
            "up_blocks_1_attentions_2_transformer_blocks_1_attn2_to_out_0",
        ),
        ("output_blocks_2_2_conv", "up_blocks_0_upsamplers_0_conv"),
        ("output_blocks_8_0_skip_connection", "up_blocks_2_resnets_2_conv_shortcut"),
        ("label_emb_0_2", "add_embedding_linear_2"),
        ("out_2", "conv_out"),
        ("down_blocks_1_attentions_0_proj_in", "down_blocks_1_attentions_0_proj_in"),
    ],
)
def test_names_of_the_original_sdxl_become_those_of_diffusers(original: str, ours: str) -> None:
    key = f"lora_unet_{original}.lora_down.weight"
    assert kohya.diffusers_name(key, 2) == f"lora_unet_{ours}.lora_down.weight"
