"""Pure: common/models.py, what a model's settings may be, and that they cross the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from common.media import AudioOptions, ImageOptions, OutputOptions, TextOptions
from common.models import LOADED_BY, RUNTIMES, ModelInput, ModelSettings, runtime_of
from common.tensor import TensorSpec

ALL = ModelSettings(
    runtime="torch",
    architecture="mlp",
    arguments={"hidden": [20, 20], "bias": True, "rate": 0.5, "of": {"kind": "relu"}},
    inputs=(ModelInput(name="ids", datatype="INT64", shape=(-1,)), ModelInput(name="mask", shape=(2, 3))),
    input_type="tensor",
    output_type="classification",
    image=ImageOptions(size=(8, 9), mean=(0.5,)),
    text=TextOptions(tokenizer="", pair=True),
    audio=AudioOptions(length=2.5),
    output=OutputOptions(palette=((0, 0, 0), (255, 0, 0)), top_n=3),
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
        "output_type": "raw",
        "image": ImageOptions(),
        "text": TextOptions(),
        "audio": AudioOptions(),
        "output": OutputOptions(),
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


# --- what a worker loads a version by


CHANGED = {
    "runtime": "onnx",
    "architecture": "linear",
    "arguments": {"hidden": 3},
    "inputs": (ModelInput(name="x", shape=(2,)),),
    "max_batch": 7,
    "cache_size": 0,
    "round_decimals": 2,
    "warmup_rows": 3,
    "device": "cpu",
    "input_type": "image",
    "output_type": "text",
    "image": ImageOptions(channels="L"),
    "text": TextOptions(max_length=3),
    "audio": AudioOptions(mono=False),
    "output": OutputOptions(top_n=1),
    "labels": ("a",),
    "max_wait_ms": 5.0,
    "queue_max": 9,
    "timeout": 1.0,
    "instances": 2,
    "keep_versions": 3,
    "affinity": True,
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_a_version_is_loaded_by_has_a_digest_and_the_rest_has_no_part_in_it(name: str) -> None:
    changed = ModelSettings(**{name: CHANGED[name]})
    by = changed.loaded_as
    assert (len(by) == 16) is (name in LOADED_BY) is (by != "")
    assert changed.loaded_like(ModelSettings()) == (ModelSettings() if name in LOADED_BY else changed)
    assert ModelSettings().loaded_like(changed) == (changed if name in LOADED_BY else ModelSettings())


def test_labels_are_loaded_by_where_the_worker_writes_them() -> None:
    found = ModelSettings(output_type="detections")
    assert ModelSettings(output_type="detections", labels=("a",)).loaded_as != found.loaded_as
    assert ModelSettings(labels=("a",)).loaded_like(found) == found


def test_what_clients_send_to_a_decoded_type_is_one_file_whatever_the_model_takes() -> None:
    inputs = (ModelInput(name="x", shape=(3, 8, 8)),)
    settings = ModelSettings(input_type="image", inputs=inputs)
    assert settings.signature == (TensorSpec("image", "BYTES", ()),)
    assert settings.model_signature == (TensorSpec("x", "FP32", (3, 8, 8)),)
    assert ModelSettings(input_type="vector", inputs=inputs).signature == settings.model_signature


def test_the_digest_is_the_same_after_a_restart_and_however_tables_are_ordered() -> None:
    for settings in (ALL, ModelSettings(), ModelSettings(warmup_rows=((1.0, 2.0),))):
        stored = msgspec.json.decode(msgspec.json.encode(settings), type=ModelSettings)
        assert stored.loaded_as == settings.loaded_as
    one, other = ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1})
    assert ModelSettings(arguments=one).loaded_as == ModelSettings(arguments=other).loaded_as
    assert ModelSettings(max_batch=3).loaded_as != ModelSettings(max_batch=4).loaded_as


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_an_argument_that_would_not_come_back_from_the_state_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"^arguments hold what cannot be sent to a worker$"):
        ModelSettings(arguments={"rates": [value]})
