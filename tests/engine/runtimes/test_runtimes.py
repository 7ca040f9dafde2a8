"""Contract: what every runtime keeps to, run over each of them. A new one is one more line of `runtimes`."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from common.tensor import DATATYPES
from engine.rows import Array
from engine.runtimes import torch_state
from engine.runtimes.fake import FakeRuntime
from engine.runtimes.networks import SampleNetwork
from engine.runtimes.runtime import Runtime


def sample_network() -> Runtime:
    torch.manual_seed(5)
    network = SampleNetwork().requires_grad_(False)
    return torch_state.TorchStateRuntime(network, torch_state.SIGNATURES["sample"], torch.device("cpu"))


runtimes: dict[str, Callable[[], Runtime]] = {
    "fake": FakeRuntime,
    "torch state_dict": sample_network,
}


@pytest.fixture(params=runtimes)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return runtimes[request.param]()


def random_inputs(runtime: Runtime, rows: int, seed: int = 0) -> list[Array]:
    random = np.random.default_rng(seed)
    return [
        random.random((rows, *(3 if size == -1 else size for size in spec.row_shape)), dtype=np.float32)
        for spec in runtime.inputs
    ]


def run(runtime: Runtime, arrays: list[Array]) -> list[bytes]:
    layout, outputs = runtime.run([array.copy() for array in arrays])
    for spec, output in zip(layout, outputs, strict=True):
        assert output.shape == (len(arrays[0]), *spec.row_shape)
        assert output.itemsize == DATATYPES[spec.datatype].itemsize
    return [output.tobytes() for output in outputs]


@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 1000])
def test_outputs_are_what_the_layout_says(runtime: Runtime, rows: int) -> None:
    run(runtime, random_inputs(runtime, rows))


def test_the_same_rows_have_the_same_outputs_and_layout(runtime: Runtime) -> None:
    arrays = random_inputs(runtime, 9)
    assert runtime.run(arrays)[0] == runtime.run(arrays)[0]
    assert run(runtime, arrays) == run(runtime, arrays)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 31, 32, 64, 99])
def test_a_row_has_the_same_answer_to_the_last_bit_in_every_company(runtime: Runtime, size: int) -> None:
    arrays = random_inputs(runtime, 200)
    together = run(runtime, arrays)
    apart = [run(runtime, [array[at : at + size] for array in arrays]) for at in range(0, 200, size)]
    assert [b"".join(pieces) for pieces in zip(*apart, strict=True)] == together


def test_outputs_belong_to_the_caller(runtime: Runtime) -> None:
    arrays = random_inputs(runtime, 16)
    _, outputs = runtime.run(arrays)
    before = [output.tobytes() for output in outputs]
    runtime.run(random_inputs(runtime, 16, seed=1))
    assert [output.tobytes() for output in outputs] == before
