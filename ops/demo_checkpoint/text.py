"""The two tokenizers and text encoders: CLIP's classes, with a small vocabulary made from the training captions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from actors.engine.base_config import tokenizer as tokenizer_config

WIDTH: Final = 64
"""Of each text encoder, and of the pooled embedding; the UNet sees both encoders side by side, 128."""
VOCABULARY: Final = 2048
_START, _END = "<|startoftext|>", "<|endoftext|>"
_SPLIT: Final = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def write_tokenizers(folder: Path, captions: Sequence[str]) -> None:
    """``tokenizer/`` and ``tokenizer_2/`` in SDXL's layout: common words of the captions are one token each."""
    vocabulary, merges = _learned(captions)
    for name, pad in (("tokenizer", _END), ("tokenizer_2", "!")):
        at = folder / name
        at.mkdir(parents=True, exist_ok=True)
        (at / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
        (at / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
        (at / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(pad)))


def _learned(captions: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Byte-level BPE with CLIP's end-of-word mark; ids in CLIP's order: bytes, bytes that end a word, merges, marks."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 258, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges), _START, _END]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}, [" ".join(pair) for pair in merges]


class Texts(nn.Module):
    """Both encoders, and prompts as the pipeline of SDXL feeds them to the UNet."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.tokenizers = [CLIPTokenizer.from_pretrained(folder / name) for name in ("tokenizer", "tokenizer_2")]
        marks = self.tokenizers[0].get_vocab()
        config = CLIPTextConfig(
            vocab_size=len(marks),
            bos_token_id=marks[_START],
            eos_token_id=marks[_END],
            pad_token_id=marks[_END],
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_attention_heads=4,
            num_hidden_layers=3,
            max_position_embeddings=77,
        )
        self.text_encoder = CLIPTextModel(config)
        self.text_encoder_2 = CLIPTextModelWithProjection(config)

    def forward(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 77, 128) of the last layers but one, and (B, 64) pooled. No prompt at all, "", is zeros, as in SDXL."""
        first, second = (self._ids(number, prompts) for number in range(2))
        one = self.text_encoder(first, output_hidden_states=True)
        other = self.text_encoder_2(second, output_hidden_states=True)
        told = torch.tensor([float(bool(prompt)) for prompt in prompts], device=first.device)
        sequence = torch.cat([one.hidden_states[-2], other.hidden_states[-2]], dim=-1)
        return sequence * told[:, None, None], other.text_embeds * told[:, None]

    def _ids(self, number: int, prompts: Sequence[str]) -> torch.Tensor:
        given: Any = self.tokenizers[number](
            list(prompts), padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        )
        ids: torch.Tensor = given.input_ids.to(self.text_encoder.device)
        return ids
