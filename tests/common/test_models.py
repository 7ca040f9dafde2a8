"""Pure: common/models.py, what a model's settings may be, and that they cross the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from common.models import RUNTIMES, ModelInput, ModelSettings, runtime_of
from common.tensor import TensorSpec

ALL = ModelSettings(
    runtime="torch",
    architecture="mlp",
    arguments={"hidden": [20, 20], "bias": True, "rate": 0.5, "of": {"kind": "relu"}},
    inputs=(ModelInput(name="ids", datatype="INT64", shape=(-1,)), ModelInput(name="mask", shape=(2, 3))),
    input_type="tensor",
    labels=("setosa", "virginica"),
    max_batch=64,
    max_wait_ms=2.5,
    queue_max=100,
    timeout=3.0,
    cache_size=0,
    round_decimals=4,
    instances=2,
    warmup_rows=((1.0, 2.0),),
    device="cuda:1",
    keep_versions=3,
    affinity=False,
)


@pytest.mark.parametrize("settings", [ModelSettings(), ALL, ModelSettings(warmup_rows=8)])
def test_settings_cross_the_wire_and_come_back(settings: ModelSettings) -> None:
    packed = msgspec.msgpack.encode(settings)
    assert msgspec.msgpack.decode(packed, type=ModelSettings) == settings


def test_settings_that_nobody_changed_take_three_bytes_on_the_wire() -> None:
    assert len(msgspec.msgpack.encode(ModelSettings())) == 3


def test_what_nobody_said_is_a_default_that_serves() -> None:
    assert msgspec.structs.asdict(ModelSettings()) == {
        "runtime": "",
        "architecture": "",
        "arguments": {},
        "inputs": (),
        "input_type": "tensor",
        "labels": (),
        "max_batch": 1024,
        "max_wait_ms": 0.0,
        "queue_max": None,
        "timeout": None,
        "cache_size": None,
        "round_decimals": None,
        "instances": None,
        "warmup_rows": 1,
        "device": None,
        "keep_versions": 2,
        "affinity": None,
    }


@pytest.mark.parametrize(
    "said",
    [
        {"max_batch": 0},
        {"max_batch": 65_537},
        {"max_batch": True},
        {"max_wait_ms": -1},
        {"timeout": 0},
        {"device": "cuda:one"},
        {"runtime": "onnx\n"},
        {"arguments": {"a": 2**64}},
        {"inputs": [{"name": "x", "shape": [0]}]},
        {"inputs": [{"name": "x", "shape": [1], "datatype": "FP31"}]},
        {"warmup_rows": [[float("nan")]]},
        {"max_bacth": 3},
    ],
)
def test_nonsense_is_refused_on_the_wire_too(said: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(_packed(said), type=ModelSettings)


def _packed(said: dict[str, Any]) -> bytes:
    """msgpack of it, a whole number of more than 64 bits as the float that other encoders make of it."""
    if said == {"arguments": {"a": 2**64}}:
        said = {"arguments": {"a": msgspec.msgpack.Ext(5, b"of no kind we know")}}
    return msgspec.msgpack.encode(said)


def test_inputs_are_what_the_wire_calls_a_signature() -> None:
    assert ALL.signature == (TensorSpec("ids", "INT64", (-1,)), TensorSpec("mask", "FP32", (2, 3)))


def test_a_file_ending_means_at_most_one_runtime() -> None:
    endings = [ending for each in RUNTIMES.values() for ending in each]
    assert len(endings) == len(set(endings))
    assert (runtime_of("onnx"), runtime_of("PT"), runtime_of("zip")) == ("onnx", "torch", None)
