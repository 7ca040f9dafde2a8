"""Images, recordings and a tokenizer, made by the libraries that everybody makes them with."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

SENTENCES = ["the cat sat on the mat", "a dog ate my homework", "cats and dogs", "what a day"]


def coloured(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards; smooth, so that JPEG hardly changes it."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :, 0] = np.linspace(0, 255, width)[np.newaxis, :]
    pixels[:, :, 1] = np.linspace(0, 255, height)[:, np.newaxis]
    pixels[:, :, 2] = 128
    return Image.fromarray(pixels)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def recorded(samples: Any, rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def tone(seconds: float, rate: int, hertz: float = 440.0) -> Any:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def make_tokenizer() -> Tokenizer:
    """Words of a few sentences, in the form that BERT has made the usual one."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(
        SENTENCES, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special)
    )
    ends = [(word, tokenizer.token_to_id(word)) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return tokenizer


def tokenizer_file() -> bytes:
    return make_tokenizer().to_str().encode()
