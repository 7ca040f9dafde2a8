"""Pure: which weights load, and which are refused with which sentence."""

import base64
import collections
import contextlib
import io
import os
import pickle
import random
import traceback
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from common.errors import LoadError
from common.tensor import TensorSpec
from engine.runtimes import torch_state
from engine.runtimes.networks import SampleNetwork
from engine.runtimes.options import LoadOptions
from engine.runtimes.torch_call import TorchRuntime

CPU = torch.device("cpu")
SAMPLE = LoadOptions(architecture="sample")
DATA = Path(__file__).resolve().parents[3] / "data"
good_files = sorted(path for path in DATA.glob("*.b64") if path.name != "bad_tensors.b64")


def saved(thing: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(thing, file, **options)
    return file.getvalue()


def state(**changes: object) -> dict[str, Any]:
    torch.manual_seed(1)
    return {**SampleNetwork().state_dict(), **changes}


def state_with(key: str, change: Any) -> dict[str, Any]:
    tensors = state()
    tensors[key] = change(tensors[key])
    return tensors


def answers(runtime: TorchRuntime, *rows: list[float]) -> list[float]:
    return runtime.run([np.array(rows, np.float32)])[1][0].flatten().tolist()


@pytest.fixture(params=["bytes", "file"])
def load(request: pytest.FixtureRequest, tmp_path: Path):
    """Loads weights as a survey carries them, or from a file, which is removed at once."""

    def load(data: bytes) -> TorchRuntime:
        if request.param == "bytes":
            return torch_state.load(data, SAMPLE, CPU)
        path = tmp_path / "weights"
        path.write_bytes(data)
        try:
            return torch_state.load(path, SAMPLE, CPU)
        finally:
            path.unlink()

    return load


@pytest.mark.parametrize("path", good_files, ids=lambda path: path.name[:8])
def test_the_sample_weights_load_and_add(load, path: Path) -> None:
    runtime = load(base64.b64decode(path.read_bytes()))
    assert runtime.inputs == (TensorSpec("vector", "FP32", (2,)),)
    assert answers(runtime, [0.3, 0.7], [0.1, 0.2]) == pytest.approx([1.0, 0.3], abs=0.01)


def test_what_is_loaded_answers_as_the_network_it_was_saved_from(load) -> None:
    torch.manual_seed(2)
    network = SampleNetwork()
    rows = torch.rand(16, 2)
    with torch.no_grad():
        expected = network(rows).flatten().tolist()
    assert answers(load(saved(network.state_dict())), *rows.tolist()) == expected


@pytest.mark.parametrize(
    "data",
    [
        saved(dict(state())),
        saved(collections.OrderedDict(state())),
        saved({key: nn.Parameter(tensor) for key, tensor in state().items()}),
        saved(state(), _use_new_zipfile_serialization=False),
        saved(state_with("fc1.weight", lambda weight: weight.T.contiguous().T)),
        saved(state_with("fc2.bias", lambda bias: torch.zeros(1).expand(20))),
    ],
    ids=["dict", "ordered dict", "parameters", "before 1.6", "transposed", "expanded"],
)
def test_whatever_form_the_tensors_were_saved_in_they_load(load, data: bytes) -> None:
    assert len(answers(load(data), [0.1, 0.2])) == 1


NOT_TORCHS = "the file is not what torch.save wrote, or not all of it: "

refused: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "a bare tensor": (saved(torch.zeros(3)), "the file holds a Tensor, not a state_dict of tensors"),
    "a number": (saved(3), "the file holds a int, not a state_dict of tensors"),
    "nested": (
        saved({"state_dict": state()}),
        "the file holds a dict under 'state_dict', where a state_dict has a tensor: "
        "save the network's state_dict() alone",
    ),
    "no keys": (
        saved({}),
        "keys do not fit: missing 'fc1.bias', 'fc1.weight', 'fc2.bias', 'fc2.weight', 'output_layer.bias', "
        "'output_layer.weight'; unexpected none",
    ),
    "other keys": (
        saved({key.replace("fc1", "first"): tensor for key, tensor in state().items()}),
        "keys do not fit: missing 'fc1.bias', 'fc1.weight'; unexpected 'first.bias', 'first.weight'",
    ),
    "a key of megabytes": (
        saved(state(**{"k" * 1_000_000: torch.zeros(1)})),
        f"keys do not fit: missing none; unexpected '{'k' * 79}",
    ),
    "keys that are numbers": (
        saved({**state(), 7: torch.zeros(1)}),
        "keys do not fit: missing none; unexpected 7",
    ),
    "another shape": (
        saved(state(**{"fc2.weight": torch.zeros(20, 19)})),
        "shapes do not fit: fc2.weight has [20, 19], the network's has [20, 20]",
    ),
    "half": (
        saved({key: tensor.half() for key, tensor in state().items()}),
        "fc1.weight is torch.float16, the network's is torch.float32",
    ),
    "double": (
        saved(state_with("fc1.bias", torch.Tensor.double)),
        "fc1.bias is torch.float64, the network's is torch.float32",
    ),
    "a NaN": (
        saved(state(**{"fc1.bias": torch.full((20,), torch.nan)})),
        "fc1.bias holds numbers that are not finite",
    ),
    "an infinity": (
        saved(state(**{"output_layer.bias": torch.tensor([torch.inf])})),
        "output_layer.bias holds numbers that are not finite",
    ),
    "sparse": (
        saved(state_with("fc1.weight", torch.Tensor.to_sparse)),
        "fc1.weight is a torch.sparse_coo tensor on cpu, not one of plain numbers",
    ),
    "without numbers": (
        saved(state_with("fc1.weight", lambda weight: weight.to("meta"))),
        "fc1.weight is a torch.strided tensor on meta, not one of plain numbers",
    ),
    "a whole network": (
        saved(SampleNetwork()),
        "the file asks to run code (engine.runtimes.networks.SampleNetwork), and only tensors are loaded: "
        "save the state_dict()",
    ),
    "text": (b"hello world", NOT_TORCHS),
    "random": (random.Random(1).randbytes(5000), NOT_TORCHS),
    "cut off at the end": (saved(state())[:-100], NOT_TORCHS),
    "cut off in the middle": (saved(state())[:1000], NOT_TORCHS),
    "cut off at the start": (saved(state())[:3], NOT_TORCHS),
    "another zip": (b"PK\x03\x04 but no archive", NOT_TORCHS),
}


@pytest.mark.parametrize("name", refused)
def test_weights_that_do_not_fit_are_refused_with_a_sentence(load, name: str) -> None:
    data, sentence = refused[name]
    with pytest.raises(LoadError) as raised:
        load(data)
    said = str(raised.value)
    assert said.startswith(sentence) if sentence == NOT_TORCHS or "kkk" in said else said == sentence
    assert len(said) < 300


class RunsCode:
    """Pickles as a call of `os.mkdir`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["torch.save", "before 1.6", "pickle", "beside tensors"])
def test_a_pickle_that_would_run_code_does_not_run_it(load, tmp_path: Path, form: str) -> None:
    planted = RunsCode(tmp_path / "planted")
    data = {
        "torch.save": lambda: saved(planted),
        "before 1.6": lambda: saved(planted, _use_new_zipfile_serialization=False),
        "pickle": lambda: pickle.dumps(planted, protocol=2),
        "beside tensors": lambda: saved({**state(), "more": planted}),
    }[form]()
    with pytest.raises(LoadError) as raised:
        load(data)
    assert str(raised.value) == (
        "the file asks to run code (posix.mkdir), and only tensors are loaded: save the state_dict()"
    )
    assert "posix.mkdir" in "".join(traceback.format_exception(raised.value))
    assert not planted.path.exists()
    pickle.loads(pickle.dumps(planted))  # the file is as dangerous as it looks
    assert planted.path.is_dir()


def test_an_archive_that_would_unpack_to_gigabytes_is_refused_before_it_is_unpacked(load) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(state()))) as honest, zipfile.ZipFile(packed, "w") as bomb:
        for entry in honest.infolist():
            bomb.writestr(entry.filename, honest.read(entry), compress_type=zipfile.ZIP_DEFLATED)
    with pytest.raises(LoadError, match=r"^the file is a compressed archive, and torch.save writes none$"):
        load(packed.getvalue())


def test_a_file_that_is_not_there_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"^the weights cannot be read: No such file or directory$"):
        torch_state.load(tmp_path / "none", SAMPLE, CPU)


def test_weights_read_from_a_file_outlive_it(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(saved(state()))
    runtime = torch_state.load(path, SAMPLE, CPU)
    before = answers(runtime, [0.1, 0.2])
    path.unlink()
    assert answers(runtime, [0.1, 0.2]) == before


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_weights_load_or_are_refused_and_nothing_else_happens(load, data: st.DataObject) -> None:
    damaged = bytearray(saved(state()))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(LoadError):
        load(bytes(damaged))


def test_cuda_that_is_not_there_is_refused_and_auto_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch_state.choose_device("auto") == torch_state.choose_device("cpu") == CPU
    with pytest.raises(ValueError, match=r"^--device cuda: this torch finds no CUDA device here"):
        torch_state.choose_device("cuda")
