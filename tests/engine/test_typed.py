"""Unit: engine/typed.py, a runtime of images, text and documents around the model's own."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import InvalidRequest, LoadError, ModelError, PipelineError, UnsupportedMedia
from common.media import ImageOptions, OutputOptions
from common.models import ModelSettings
from common.tensor import TensorSpec
from engine.rows import Array
from engine.runtimes.runtime import RowsFailed, Runtime, layout_of
from engine.typed import make_typed
from tests.engine.inputs.files import coloured, saved, tokenizer_file

IMAGES = ModelSettings(input_type="image", image=ImageOptions(scale=1.0, resize="stretch"))


class Means(Runtime):
    """Answers each row with the mean of each of its channels; fails on a call with a row whose first is over
    `worst`, and keeps the shapes that it was called with."""

    def __init__(self, inputs: tuple[TensorSpec, ...] | None = None, worst: float = 1000.0) -> None:
        self.inputs: tuple[TensorSpec, ...] | None = inputs
        self.outputs: tuple[TensorSpec, ...] | None = None
        self.device = torch.device("cpu")
        self.calls: list[tuple[int, ...]] = []
        self._worst = worst

    def run(self, arrays: list[Array]) -> tuple[tuple[TensorSpec, ...], list[Array]]:
        rows: Any = arrays[0]
        self.calls.append(rows.shape)
        means = rows.reshape(*rows.shape[:2], -1).mean(axis=2)
        if (means[:, 0] > self._worst).any():
            raise ValueError("too red")
        return layout_of([("means", means)])


def column(*rows: bytes) -> list[Array]:
    found = np.empty(len(rows), np.object_)
    found[:] = rows
    return [found]


def plain(level: int, side: int = 8) -> bytes:
    return saved(coloured(side, side).point(lambda _: level), "PNG")


def answers(runtime: Runtime, *rows: bytes) -> tuple[Any, dict[int, Exception]]:
    try:
        _, (found,) = runtime.run(column(*rows))
    except RowsFailed as failed:
        return [each.tolist() for each in failed.outputs], dict(failed.errors)
    return [found.tolist()], {}


def test_rows_are_files_and_answers_what_the_model_says_of_them() -> None:
    runtime = make_typed(Means(), IMAGES, {})
    assert runtime.inputs == (TensorSpec("image", "BYTES", ()),)
    assert runtime.outputs == (TensorSpec("means", "FP32", (3,)),)
    assert answers(runtime, plain(7), plain(9)) == ([[[7.0] * 3, [9.0] * 3]], {})


def test_settings_that_say_nothing_leave_a_runtime_alone() -> None:
    inner = Means()
    assert make_typed(inner, ModelSettings(input_type="vector"), {}) is inner


def test_rows_of_one_shape_go_together_and_all_come_back_in_their_order() -> None:
    inner = Means()
    runtime = make_typed(inner, IMAGES, {})
    inner.calls.clear()
    found, _ = answers(runtime, plain(1), plain(2, 4), plain(3), plain(4, 4), plain(5))
    assert [row[0] for row in found[0]] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert inner.calls == [(3, 3, 8, 8), (2, 3, 4, 4)]


def test_rows_of_any_size_go_together_once_the_model_has_one() -> None:
    inner = Means((TensorSpec("x", "FP32", (3, 8, 8)),))
    runtime = make_typed(inner, IMAGES, {})
    inner.calls.clear()
    assert len(answers(runtime, plain(1, 20), plain(2, 4))[0][0]) == 2
    assert inner.calls == [(2, 3, 8, 8)]


def test_a_row_that_cannot_be_decoded_fails_alone() -> None:
    found, errors = answers(make_typed(Means(), IMAGES, {}), b"", plain(2), b"text", plain(4))
    assert found == [[[2.0] * 3, [4.0] * 3]]
    assert {at: type(error) for at, error in errors.items()} == {0: InvalidRequest, 2: UnsupportedMedia}


def test_a_row_that_the_model_fails_on_fails_alone_and_none_is_decoded_twice(monkeypatch) -> None:
    decoded = []
    runtime: Any = make_typed(Means(worst=200), IMAGES, {})
    decode = runtime._decoder.decode
    monkeypatch.setattr(runtime._decoder, "decode", lambda data: decoded.append(data) or decode(data))
    rows = [plain(level) for level in (1, 250, 3, 4, 5)]
    found, errors = answers(runtime, *rows)
    assert [row[0] for row in found[0]] == [1.0, 3.0, 4.0, 5.0]
    assert {at: str(error) for at, error in errors.items()} == {1: "too red"}
    assert decoded == rows


def test_when_every_row_fails_there_are_no_outputs() -> None:
    assert answers(make_typed(Means(), IMAGES, {}), b"", b"")[0] == []


class Same(Means):
    """Answers with what it is given."""

    def run(self, arrays: list[Array]) -> tuple[tuple[TensorSpec, ...], list[Array]]:
        return layout_of([("same", arrays[0])])


def test_rows_whose_tensors_differ_in_shape_cannot_be_answered_together() -> None:
    found, errors = answers(make_typed(Same(), IMAGES, {}), plain(1), plain(2, 4), plain(3))
    assert len(found[0]) == 2
    assert type(errors[1]) is ModelError
    assert "rows that are answered as tensors have one shape" in str(errors[1])


def test_what_does_not_fit_together_is_told_as_the_model_is_loaded() -> None:
    class Refuses(Means):
        def run(self, arrays: list[Array]) -> tuple[tuple[TensorSpec, ...], list[Array]]:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied\nmore")

    with pytest.raises(LoadError) as caught:
        make_typed(Refuses(), IMAGES, {})
    said = "the model loads, but does not run on an example of its input type: "
    assert str(caught.value) == f"{said}mat1 and mat2 shapes cannot be multiplied"


def test_outputs_have_a_type_without_one_for_the_inputs() -> None:
    inner = Means((TensorSpec("x", "FP32", (3,)),))
    settings = ModelSettings(output_type="classification", output=OutputOptions(activation="none"))
    runtime = make_typed(inner, settings, {})
    assert runtime.inputs == inner.inputs
    assert runtime.outputs == (TensorSpec("probabilities", "FP32", (3,)),)
    _, (found,) = runtime.run([np.array([[1, 2, 3]], np.float32)])
    assert found.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("settings", "library", "extra"),
    [
        ({"input_type": "image"}, "PIL", "image"),
        ({"input_type": "text"}, "tokenizers", "text"),
        ({"input_type": "audio"}, "soundfile", "audio"),
        ({"input_type": "audio"}, "soxr", "audio"),
        ({"output_type": "image"}, "PIL", "image"),
        ({"output_type": "text"}, "tokenizers", "text"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch, settings, library, extra) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == library:
            raise ImportError(f"No module named {library!r}")
        return real(name, *rest)

    for name in list(sys.modules):
        if name.startswith(("engine.inputs.", "engine.outputs.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    files = {"tokenizer.json": tokenizer_file()}
    with pytest.raises(LoadError) as caught:
        make_typed(Means(), ModelSettings(**settings), files)
    assert str(caught.value).startswith(f"a model of type {extra} needs ")
    assert f'(No module named {library!r}): pip install "pipeline-inference[{extra}]"' in str(caught.value)


def test_every_error_of_a_row_is_one_that_a_client_understands() -> None:
    _, errors = answers(make_typed(Means(), IMAGES, {}), b"x", b"")
    assert all(isinstance(error, PipelineError) and error.status < 500 for error in errors.values())
