"""Text encoders with random weights, and tokenizers that take captions byte by byte or character by character.

Nothing is downloaded. Different captions give different embeddings, but nothing has learned what they mean.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from imginav_starter.sizes import Size

START, END = "<|startoftext|>", "<|endoftext|>"

WORD_END = "</w>"

TOKENS = 77
"""Of a caption, with its start and end; what is beyond is cut off."""

T5_CHARACTERS = string.ascii_letters + string.digits + string.punctuation

CLIP_HEAD, T5_HEAD = 16, 16
"""The width of an attention head of a text encoder."""


def clip_tokenizer() -> CLIPTokenizer:
    """Return a tokenizer of CLIP's kind whose tokens are single bytes."""
    characters = list(_byte_characters())
    words = [START, END]
    tokens = [*characters, *(character + WORD_END for character in characters), *words]
    with TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocabulary.write_text(json.dumps({token: number for number, token in enumerate(tokens)}), encoding="utf-8")
        merges.write_text("#version: 0.2\n")
        made: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=TOKENS)
        return made


def clip_encoder(size: Size, *, projected: bool = False) -> CLIPTextModel | CLIPTextModelWithProjection:
    """Return a text encoder of CLIP's kind; `projected` it also gives one vector of a whole caption."""
    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.text,
        intermediate_size=4 * size.text,
        projection_dim=size.text,
        num_hidden_layers=size.text_layers,
        num_attention_heads=size.text // CLIP_HEAD,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model: Any = CLIPTextModelWithProjection if projected else CLIPTextModel
    made: CLIPTextModel | CLIPTextModelWithProjection = model(config).eval()
    return made


def t5_tokenizer() -> T5Tokenizer:
    """Return a tokenizer of T5's kind whose tokens are single characters of ASCII; others are unknown to it."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary = [*special, *((character, -1.0) for character in "▁" + T5_CHARACTERS)]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=TOKENS)


def t5_encoder(width: int, size: Size) -> T5EncoderModel:
    """Return a text encoder of T5's kind whose vectors have `width` values."""
    config = T5Config(
        vocab_size=len(t5_tokenizer()),
        d_model=width,
        d_kv=T5_HEAD,
        d_ff=4 * width,
        num_layers=size.text_layers,
        num_heads=width // T5_HEAD,
    )
    model: T5EncoderModel = T5EncoderModel(config).eval()
    return model


def _byte_characters() -> str:
    """Return a printable character for each byte, in the order of the bytes, as GPT-2 and CLIP write them.

    Bytes that are printable in Latin-1 stand for themselves, and the others for what begins at code point 256
    (Radford et al. 2019, "Language models are unsupervised multitask learners", its byte-level BPE).
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return "".join(chr(byte) if byte in printable else chr(next(others)) for byte in range(256))
