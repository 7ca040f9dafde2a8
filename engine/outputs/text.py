"""Answers that are text: what a model writes, or the tokens that it gives, put into words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.errors import ModelError
from common.media import OutputOptions
from common.models import ModelSettings
from engine.inputs.decoder import Decoded, Files
from engine.outputs.encoder import Named, objects, pick
from engine.rows import Array


class TextEncoder:
    """`text`, BYTES of UTF-8. `tokenizer` is there for a model that gives token ids."""

    def __init__(self, options: OutputOptions, tokenizer: Any) -> None:
        self._options = options
        self._tokenizer = tokenizer

    def encode(self, outputs: Named, rows: Sequence[Decoded]) -> list[tuple[str, Array]]:
        """As `Encoder` says."""
        found = pick(outputs, self._options.name)
        if found.dtype.kind in "iu":
            return [("text", objects([self._words(ids) for ids in found]))]
        if found.size != len(found):
            raise ModelError(f"a row of text is one element, and the model gives {list(found.shape[1:])}")
        return [("text", objects([_as_text(each) for each in found.reshape(-1).tolist()]))]

    def _words(self, ids: Array) -> bytes:
        if self._tokenizer is None:
            raise ModelError("the model gives token ids, and there is no tokenizer beside it")
        flat = np.clip(ids.reshape(-1), 0, 2**32 - 1).tolist()
        words: str = self._tokenizer.decode(flat, skip_special_tokens=True)
        return words.encode()


def _as_text(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes):
        raise ModelError(f"the model answered with a {type(value).__name__}, not with text")
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"the model answered with bytes that are not UTF-8: {error}") from None
    return value


def make(settings: ModelSettings, files: Files) -> TextEncoder:
    """The encoder of a model's settings, with the tokenizer beside it, if there is one."""
    name = settings.text.tokenizer
    if name not in files:
        return TextEncoder(settings.output, None)
    from engine.inputs.text import load_tokenizer  # which needs a library

    return TextEncoder(settings.output, load_tokenizer(files[name], name))
