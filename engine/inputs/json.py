"""JSON documents as rows: a list as deep as the model's input, or an object of its inputs by name. A model of
one input of BYTES is given the document itself."""

from __future__ import annotations

import msgspec
import numpy as np

from common.errors import InvalidRequest
from common.models import ModelSettings
from common.tensor import BYTES
from engine.features import FeatureReader
from engine.inputs.decoder import Decoded, Files
from engine.rows import array_of
from engine.runtimes.runtime import Specs, example_inputs


class JsonDecoder:
    """For a model that `takes` these inputs, or (None) whatever is in a document."""

    def __init__(self, takes: Specs | None) -> None:
        self._takes = takes
        self._is_whole = takes is not None and len(takes) == 1 and takes[0].datatype == BYTES
        self._reader = FeatureReader(takes)

    def decode(self, data: bytes) -> Decoded:
        """One row, as `Decoder` says."""
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"the row is not JSON: {error}") from None
        if self._is_whole:
            return self._whole(data)
        specs, columns = self._reader.row(value)
        return Decoded(
            tuple(
                array_of(spec, bytearray(column), 1).reshape(spec.row_shape)
                for spec, column in zip(specs, columns, strict=True)
            )
        )

    def example(self) -> Decoded | None:
        """Zeros, where the model's inputs have a shape; no document that a model takes is known."""
        arrays = None if self._is_whole else example_inputs(self._takes, 1)
        return None if arrays is None else Decoded(tuple(array.reshape(array.shape[1:]) for array in arrays))

    def _whole(self, data: bytes) -> Decoded:
        assert self._takes is not None
        array = np.empty(1, np.object_)
        array[0] = data
        return Decoded((array.reshape((1,) * len(self._takes[0].row_shape)),))


def make(settings: ModelSettings, files: Files, takes: Specs | None) -> JsonDecoder:
    """The decoder of a model's inputs."""
    return JsonDecoder(takes)
