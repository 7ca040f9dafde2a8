"""pure: what the doors' answers say, of bytes as they come."""

from __future__ import annotations

import json
import struct

import pytest
from tritonclient.grpc import service_pb2

from tests.chaos.answers import READERS, of_linear


def grpc() -> bytes:
    answer = service_pb2.ModelInferResponse(model_version="7", raw_output_contents=[struct.pack("<f", 1.5)])
    answer.outputs.add(name="output", datatype="FP32", shape=[1])
    return bytes(answer.SerializeToString())


HEAD = {"model_version": "7", "outputs": [{"name": "o", "datatype": "FP32", "shape": [1], "data": [1.5]}]}
BODIES = {
    "v1": b'{"status":true,"message":"7","result":1.5}',
    "v2": json.dumps(HEAD).encode(),
    "v2-binary": json.dumps(HEAD).encode() + struct.pack("<f", 1.5),
    "grpc": grpc(),
    "ws": b'{"id":1,"status":true,"message":"m","result":1.5,"version":"7"}',
}


@pytest.mark.parametrize("door", READERS)
def test_every_door_names_the_version_and_the_result(door: str):
    assert READERS[door](BODIES[door]) == ("7", 1.5)


@pytest.mark.parametrize("door", READERS)
def test_what_is_no_answer_is_an_error_that_is_told(door: str):
    with pytest.raises((ValueError, LookupError, TypeError)):
        READERS[door](b"[1]")


def test_a_linear_version_follows_from_its_name():
    assert of_linear("3", (0.5, 0.25)) == 3 * 0.5 + 997 * 0.25
