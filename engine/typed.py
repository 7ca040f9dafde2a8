"""A runtime whose rows are what clients send, and whose outputs are what they are answered: images in,
probabilities out, say. The model's own runtime is inside.

1. Each row is decoded by itself; one that cannot be fails alone.
2. Rows of one shape go through the model together. Where it fails on them together they are halved, until
   those at fault are alone; none is decoded again.
3. Its arrays are encoded, also of each group by itself, and put into the rows' order.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from common.errors import CallerError, LoadError, ModelError
from common.models import ModelSettings
from common.tensor import TensorSpec
from engine.inputs.decoder import Decoded, Decoder, Files
from engine.outputs.encoder import Encoder
from engine.rows import Array
from engine.runtimes.runtime import (
    RowsFailed,
    Runtime,
    Specs,
    check_inputs,
    datatype_of,
    example_inputs,
    first_line,
    layout_of,
)

# What each type needs installed, by the extra of its name.
_PACKAGES = {"image": "Pillow", "text": "tokenizers", "audio": "soundfile and soxr"}


class TypedRuntime:
    """`decoder` None: rows are the model's own arrays; `encoder` None: so are the outputs."""

    def __init__(
        self, inner: Runtime, takes: Specs | None, decoder: Decoder | None, encoder: Encoder | None
    ) -> None:
        self.inner = inner
        self.inputs = takes
        self.device = inner.device
        self._decoder = decoder
        self._encoder = encoder
        self.outputs = inner.outputs if encoder is None else None
        self._try()

    def run(self, arrays: list[Array]) -> tuple[Specs, list[Array]]:
        """As every runtime; `RowsFailed` where some rows are at fault."""
        if self._decoder is None:
            return self._encoded([Decoded()] * len(arrays[0]), arrays)
        batch = _Batch()
        for at, data in enumerate(arrays[0].reshape(-1).tolist()):
            try:
                batch.decoded[at] = self._decoder.decode(data)
            except CallerError as error:
                batch.errors[at] = error
        for group in batch.groups():
            self._run_group(batch, group)
        return batch.answer()

    def _run_group(self, batch: _Batch, group: list[int]) -> None:
        rows = [batch.decoded[at] for at in group]
        try:
            arrays = [np.stack(column) for column in zip(*[row.arrays for row in rows], strict=True)]
            batch.take(group, *self._encoded(rows, arrays))
        except Exception as error:
            if len(group) == 1:
                batch.errors[group[0]] = error
                return
            middle = len(group) // 2
            self._run_group(batch, group[:middle])
            self._run_group(batch, group[middle:])

    def _example(self) -> Decoded | None:
        if self._decoder is not None:
            return self._decoder.example()
        arrays = example_inputs(self.inner.inputs, 1)
        return None if arrays is None else Decoded(tuple(array.reshape(array.shape[1:]) for array in arrays))

    def _encoded(self, rows: Sequence[Decoded], arrays: list[Array]) -> tuple[Specs, list[Array]]:
        layout, outputs = self.inner.run(arrays)
        if self._encoder is None:
            return layout, outputs
        named = {spec.name: output for spec, output in zip(layout, outputs, strict=True)}
        return layout_of(self._encoder.encode(named, rows))

    def _try(self) -> None:
        """Run a made-up row, so that what does not fit together is told as the model is loaded."""
        try:
            row = self._example()
            if row is None:
                return
            specs = tuple(TensorSpec("", datatype_of(array.dtype), array.shape) for array in row.arrays)
            _check_shapes(self.inner.inputs, specs)
            self.outputs, _ = self._encoded([row], [array[np.newaxis] for array in row.arrays])
        except Exception as error:
            raise LoadError(
                f"the model loads, but does not run on an example of its input type: {first_line(error)}"
            ) from error


class _Batch:
    """Invariant: in the end each row is in `errors` or in one of the pieces."""

    def __init__(self) -> None:
        self.decoded: dict[int, Decoded] = {}
        self.errors: dict[int, Exception] = {}
        self._layout: Specs | None = None
        self._at: list[int] = []
        self._pieces: list[list[Array]] = []

    def groups(self) -> list[list[int]]:
        """Rows by the shapes of their arrays."""
        found: dict[Any, list[int]] = {}
        for at, row in self.decoded.items():
            found.setdefault([*map(np.shape, row.arrays)].__repr__(), []).append(at)
        return list(found.values())

    def take(self, group: list[int], layout: Specs, outputs: list[Array]) -> None:
        """Keep what a group was answered; `ModelError` where other rows' outputs look otherwise."""
        if self._layout is not None and self._layout != layout:
            raise ModelError(
                f"the model's outputs are {_shown(layout)} for this row, and {_shown(self._layout)} for"
                " others: rows that are answered as tensors have one shape"
            )
        self._layout = layout
        self._at += group
        self._pieces.append(outputs)

    def answer(self) -> tuple[Specs, list[Array]]:
        """The outputs in the rows' order; `RowsFailed` where some have none."""
        layout = self._layout or ()
        order = np.argsort(self._at)
        outputs = [np.concatenate(column)[order] for column in zip(*self._pieces, strict=True)]
        if self.errors:
            raise RowsFailed(self.errors, layout, outputs)
        return layout, outputs


def make_typed(inner: Runtime, settings: ModelSettings, files: Files) -> Runtime:
    """A runtime of what the settings' input and output types say; the same where they say nothing.

    `files` are those beside the model. `LoadError` for what does not fit the model, or is not installed.
    """
    if settings.input_type in ("tensor", "vector") and settings.output_type == "raw":
        return inner
    decoder = _make_decoder(settings, files, inner.inputs)
    takes = settings.signature if decoder is not None else inner.inputs
    return TypedRuntime(inner, takes, decoder, _make_encoder(settings, files))


def _make_decoder(settings: ModelSettings, files: Files, takes: Specs | None) -> Decoder | None:
    kind = settings.input_type
    if kind in ("tensor", "vector"):
        return None
    is_plain = kind == "text" and settings.text.tokenizer not in files
    decoder: Decoder = _make(f"inputs.{'plain_text' if is_plain else kind}", kind, settings, files, takes)
    return decoder


def _make_encoder(settings: ModelSettings, files: Files) -> Encoder | None:
    kind = settings.output_type
    if kind == "raw":
        return None
    encoder: Encoder = _make(f"outputs.{kind}", kind, settings, files)
    return encoder


def _make(name: str, kind: str, *what: Any) -> Any:
    """What a module makes, which may need a library; `LoadError` names the extra where that is missing."""
    try:
        return importlib.import_module(f"engine.{name}").make(*what)
    except ImportError as error:
        if kind not in _PACKAGES:
            raise
        raise LoadError(
            f"a model of type {kind} needs {_PACKAGES[kind]}, which cannot be imported here ({error}):"
            f' pip install "pipeline-inference[{kind}]"'
        ) from error


def _check_shapes(takes: Specs | None, given: Specs) -> None:
    if takes is not None and len(takes) == len(given):
        given = tuple(
            msgspec.structs.replace(spec, name=want.name) for spec, want in zip(given, takes, strict=True)
        )
    check_inputs(takes, given)


def _shown(layout: Specs) -> str:
    return ", ".join(f"{spec.datatype} {list(spec.row_shape)}" for spec in layout)
