"""Text as token ids, by a tokenizer of the `tokenizers` library."""

from __future__ import annotations

from typing import Any

import numpy as np
from tokenizers import Tokenizer

from common.errors import InvalidRequest, LoadError
from common.media import TextOptions
from common.models import ModelSettings
from engine.inputs.decoder import Decoded, Files
from engine.inputs.plain_text import example_text, read_text
from engine.rows import NUMPY_TYPES, Array
from engine.runtimes.runtime import Specs, first_line


class TextDecoder:
    """`tokenizer` is a file's text. `LoadError` where it is none, or the model `takes` other inputs."""

    def __init__(self, options: TextOptions, tokenizer: bytes, takes: Specs | None) -> None:
        self._options = options
        self._tokenizer = load_tokenizer(tokenizer, options.tokenizer)
        self._pad = _pad_id(self._tokenizer, options)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        if options.truncate:
            try:
                self._tokenizer.enable_truncation(options.max_length)
            except Exception as error:
                raise LoadError(f"text.max_length is {options.max_length}: {first_line(error)}") from error
        self._inputs = _choose(options, takes)

    def decode(self, data: bytes) -> Decoded:
        """One row, as `Decoder` says; `TooLarge` for more bytes than are allowed."""
        text, second = read_text(data, self._options)
        found = self._tokenizer.encode(text, second, add_special_tokens=self._options.special_tokens)
        ids = np.array(found.ids, np.int64)
        if len(ids) > self._options.max_length:
            raise InvalidRequest(
                f"the text has {len(ids)} tokens: at most {self._options.max_length} are allowed"
            )
        length = self._length(len(ids))
        if not length:
            raise InvalidRequest("the text has no tokens")
        mask = np.ones(len(ids), np.int64)
        columns = {
            "ids": _filled(ids, length, self._pad),
            "mask": _filled(mask, length, 0),
            "type_ids": _filled(np.array(found.type_ids, np.int64), length, 0),
        }
        arrays = tuple(columns[which].astype(kind, copy=False) for which, kind in self._inputs)
        return Decoded(arrays, mask=columns["mask"])

    def example(self) -> Decoded:
        """A few words."""
        return self.decode(example_text(self._options))

    def _length(self, tokens: int) -> int:
        """What so many tokens are filled up to."""
        options = self._options
        if options.padding == "max_length":
            return options.max_length
        if options.padding == "none":
            return tokens
        return min(max(1, -(-tokens // options.multiple)) * options.multiple, options.max_length)


def load_tokenizer(text: bytes, name: str) -> Tokenizer:
    """A tokenizer of a file's text; `LoadError` where it is none."""
    try:
        return Tokenizer.from_buffer(text)
    except Exception as error:  # it raises Exception itself
        raise LoadError(f"{name} is no file of the tokenizers library: {first_line(error)}") from error


def _pad_id(tokenizer: Any, options: TextOptions) -> int:
    if options.pad_id is not None:
        return options.pad_id
    found: int | None = None
    if tokenizer.padding is not None:
        found = tokenizer.padding.get("pad_id")
    for token in ("[PAD]", "<pad>"):
        found = tokenizer.token_to_id(token) if found is None else found
    return found or 0


def _choose(options: TextOptions, takes: Specs | None) -> list[tuple[str, Any]]:
    """Which of ids, mask and type_ids each of the model's inputs is, and its dtype: by their names, or, where
    it has none of these, in this order."""
    names = {options.ids: "ids", options.mask: "mask", options.type_ids: "type_ids"}
    names.pop("", None)
    offered = list(names.values())
    if takes is None:
        return [(which, np.int64) for which in offered if which != "type_ids"]
    chosen = [names.get(spec.name, "") for spec in takes]
    if not any(chosen) and len(takes) <= len(offered):
        chosen = offered[: len(takes)]
    for spec, which in zip(takes, chosen, strict=False):
        if not which:
            raise LoadError(
                f"the model takes an input {spec.name}, and text gives {', '.join(names)}: say which is which"
                " by ids, mask and type_ids of its settings"
            )
        if spec.datatype not in ("INT64", "INT32") or len(spec.row_shape) != 1:
            raise LoadError(
                f"a model of text takes rows of INT64 or INT32 of any length, and its input {spec.name} takes"
                f" {spec.datatype} {list(spec.row_shape)}"
            )
    if len(chosen) != len(takes):
        raise LoadError(f"the model takes {len(takes)} inputs, and text gives {', '.join(names)}")
    return [(which, NUMPY_TYPES[spec.datatype]) for which, spec in zip(chosen, takes, strict=True)]


def _filled(values: Array, length: int, pad: int) -> Array:
    filled = np.full(length, pad, np.int64)
    filled[: len(values)] = values
    return filled


def make(settings: ModelSettings, files: Files, takes: Specs | None) -> TextDecoder:
    """The decoder of a model's settings, by the tokenizer beside it."""
    return TextDecoder(settings.text, files[settings.text.tokenizer], takes)
