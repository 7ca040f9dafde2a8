"""Text as it is, for a model that takes text; and what is checked of every text."""

from __future__ import annotations

import msgspec
import numpy as np

from common.errors import InvalidRequest, LoadError, TooLarge
from common.media import TextOptions
from common.models import ModelSettings
from common.tensor import BYTES
from engine.inputs.decoder import Decoded, Files
from engine.runtimes.runtime import Specs

_EXAMPLE = "an example"
_pair = msgspec.json.Decoder(tuple[str, str])


class PlainTextDecoder:
    """For a model of one input of BYTES: what it is given is UTF-8."""

    def __init__(self, options: TextOptions, takes: Specs | None) -> None:
        if takes is None or len(takes) != 1 or takes[0].datatype != BYTES:
            raise LoadError(
                f"there is no {options.tokenizer or 'tokenizer'} beside the model, and without a tokenizer a"
                " model of text has one input of BYTES"
            )
        self._options = options
        self._shape = (1,) * len(takes[0].row_shape)

    def decode(self, data: bytes) -> Decoded:
        """One row, as `Decoder` says."""
        read_text(data, self._options)
        return self._decoded(data)

    def example(self) -> Decoded:
        """A few words."""
        return self._decoded(example_text(self._options))

    def _decoded(self, data: bytes) -> Decoded:
        array = np.empty(1, np.object_)
        array[0] = data
        return Decoded((array.reshape(self._shape),))


def read_text(data: bytes, options: TextOptions) -> tuple[str, str | None]:
    """The text of a row, or both of them."""
    if len(data) > options.max_bytes:
        raise TooLarge(f"the text has {len(data)} bytes: at most {options.max_bytes} are allowed")
    try:
        if options.pair:
            return _pair.decode(data)
        return data.decode(), None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the text is not UTF-8: {error}") from None
    except msgspec.MsgspecError:
        raise InvalidRequest('a row is two texts: a JSON list like ["one","two"]') from None


def example_text(options: TextOptions) -> bytes:
    """A few words as a row."""
    return msgspec.json.encode((_EXAMPLE, _EXAMPLE)) if options.pair else _EXAMPLE.encode()


def make(settings: ModelSettings, files: Files, takes: Specs | None) -> PlainTextDecoder:
    """The decoder of a model's settings."""
    return PlainTextDecoder(settings.text, takes)
