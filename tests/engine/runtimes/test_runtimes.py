"""Contract: what every runtime keeps to, run over a small real model of each format and over the fake."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import LoadError, ModelError
from common.tensor import DATATYPES, TensorSpec
from engine.rows import Array
from engine.runtimes.fake import FakeRuntime
from engine.runtimes.formats import FORMATS, detect, load_runtime
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import Runtime, check_inputs

CPU = torch.device("cpu")


def load(sample) -> Runtime:
    return load_runtime(sample.data, sample.kind, sample.options, CPU)


def run(runtime: Runtime, arrays: list[Array]) -> list[bytes]:
    layout, outputs = runtime.run([array.copy() for array in arrays])
    for spec, output in zip(layout, outputs, strict=True):
        assert output.shape == (len(arrays[0]), *spec.row_shape)
        assert output.itemsize == DATATYPES[spec.datatype].itemsize
    return [output.tobytes() for output in outputs]


def test_it_answers_as_its_own_library_does(sample) -> None:
    layout, outputs = load(sample).run([array.copy() for array in sample.rows])
    assert len(layout) == len(outputs) == len(sample.expected)
    for output, expected in zip(outputs, sample.expected, strict=True):
        assert output.dtype == expected.dtype
        np.testing.assert_allclose(output, expected, rtol=2e-5, atol=2e-6)


def test_from_a_file_that_is_gone_it_answers_as_from_bytes(sample, write) -> None:
    path = write(sample)
    runtime = load_runtime(path, None, sample.options, CPU)
    path.unlink()
    assert run(runtime, sample.rows) == run(load(sample), sample.rows)


@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 100])
def test_outputs_are_what_the_layout_and_the_signature_say(sample, rows: int) -> None:
    runtime = load(sample)
    arrays = [array[:rows] for array in sample.rows]
    run(runtime, arrays)
    assert runtime.outputs == runtime.run(arrays)[0]
    assert runtime.device == CPU
    for spec, array in zip(runtime.inputs, sample.rows, strict=True):
        assert spec.row_shape == array.shape[1:]
        assert DATATYPES[spec.datatype].itemsize == array.itemsize


@pytest.mark.parametrize("size", [1, 2, 3, 7, 31, 32, 64, 99])
def test_a_row_has_the_same_answer_to_the_last_bit_in_every_company(sample, size: int) -> None:
    runtime = load(sample)
    count = len(sample.rows[0])
    together = run(runtime, sample.rows)
    apart = [run(runtime, [array[at : at + size] for array in sample.rows]) for at in range(0, count, size)]
    assert [b"".join(pieces) for pieces in zip(*apart, strict=True)] == together


def test_outputs_belong_to_the_caller(sample) -> None:
    runtime = load(sample)
    _, outputs = runtime.run([array[:16].copy() for array in sample.rows])
    before = [output.tobytes() for output in outputs]
    runtime.run([array[16:32].copy() for array in sample.rows])
    assert [output.tobytes() for output in outputs] == before


def test_rows_of_another_width_or_type_are_refused_before_the_model_sees_them(sample) -> None:
    inputs = load(sample).inputs
    check_inputs(inputs, inputs)
    (spec,) = inputs
    wider = TensorSpec(spec.name, spec.datatype, (*spec.row_shape[:-1], spec.row_shape[-1] + 1))
    other = TensorSpec(spec.name, "INT32", spec.row_shape)
    for given in (wider, other):
        with pytest.raises(ModelError) as raised:
            check_inputs(inputs, (given,))
        assert str(raised.value) == (
            f"the model takes rows of {spec.datatype} {list(spec.row_shape)}, "
            f"the request has {given.datatype} {list(given.row_shape)}"
        )


@pytest.mark.parametrize("has_suffix", [True, False])
def test_the_format_is_found_without_being_told(sample, write, has_suffix: bool) -> None:
    if not has_suffix and sample.suffix == ".joblib":
        pytest.skip("compressed bytes say nothing of what they hold")
    assert detect(write(sample, **({} if has_suffix else {"suffix": ""}))) == sample.kind


def test_what_is_in_a_file_counts_and_not_what_it_is_called(sample, write) -> None:
    if sample.suffix != ".joblib":
        assert detect(write(sample, suffix=".safetensors")) == sample.kind


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_short_is_refused_with_a_sentence(sample, write, share: float) -> None:
    if sample.kind == "python":
        pytest.skip("a shorter name is another name")
    if sample.suffix == ".joblib" and share > 0.9:
        pytest.skip("joblib does not read the checksum at the end")
    path = write(sample, data=sample.data[: int(len(sample.data) * share)])
    for kind in (sample.kind, None):
        with pytest.raises(LoadError) as raised:
            load_runtime(path, kind, sample.options, CPU)
        said = str(raised.value)
        assert len(said) < 400
        assert "\n" not in said


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_bytes_are_refused_with_a_sentence(kind: str, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(5000)
    with pytest.raises(LoadError) as raised:
        load_runtime(data, kind, LoadOptions(allow_pickle=True), CPU)
    assert len(str(raised.value)) < 400


def test_options_that_a_format_has_no_use_for_are_refused_and_not_ignored(sample) -> None:
    if sample.kind in {"torch", "safetensors"}:
        useless = replace(sample.options, methods=("predict",))
    else:
        useless = replace(sample.options, architecture="sample")
    with pytest.raises(LoadError, match=r"^(methods|architecture) was given, and .* has no use for it$"):
        load(replace(sample, options=useless))


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(LoadError, match=r"^the format 'tf' is not known: use one of torch, torchscript, "):
        load_runtime(b"x", "tf", LoadOptions(), CPU)


def test_a_file_of_no_format_says_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("nothing to see here")
    with pytest.raises(LoadError, match=r"^the file is of none of the known formats: torch state_dict, "):
        detect(tmp_path / "notes")


def test_the_fake_keeps_the_contract_of_outputs() -> None:
    assert run(FakeRuntime(), [np.ones((3, 2), np.float32)]) == [np.full(3, 2, np.float32).tobytes()]


def test_every_format_has_a_sample(sample_of: Callable) -> None:
    names = ["torch state_dict", "safetensors", "torchscript", "torch.export", "sklearn", "pickle", "onnx"]
    kinds = {sample_of(name).kind for name in [*names, "xgboost ubj", "lightgbm", "python"]}
    assert kinds == FORMATS.keys()
