"""pure, but for a file: the bytes of requests, read back by the protocols' own libraries."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2

from bench.executor import payloads
from bench.executor.doors import open_door
from bench.executor.payloads import Payloads, Tensor, read_tensor

IDS = Tensor("ids", "INT64", (2, 3), below=7)


def request(
    door: str, tensor: Tensor = payloads.VECTOR, model: str = "", path: str | None = None
) -> list[str]:
    """The head's lines and the body of the request for input 5."""
    made = open_door(door, "http://127.0.0.1:8000", tensor, path).payloads.get(model, "5")
    head, _, body = made.decode().partition("\r\n\r\n")
    lines = head.split("\r\n")
    assert f"Content-Length: {len(body)}" in lines
    assert "Host: 127.0.0.1:8000" in lines
    return [lines[0], body]


def test_a_made_row_is_the_same_every_time_and_another_for_another_number():
    first, again = (Payloads(payloads.VECTOR, payloads.vector) for _ in range(2))
    assert first.values("5") == again.values("5") == [0.352589, 0.780524]
    assert first.values("6") != first.values("5")
    numbers = Payloads(IDS, payloads.v2).values("5")
    assert len(numbers) == 6
    assert set(numbers) <= set(range(7))


@pytest.mark.parametrize(
    ("door", "model", "line"),
    [
        ("v1", "", "POST /predict HTTP/1.1"),
        ("v1", "a b", "POST /models/a%20b/predict HTTP/1.1"),
        ("mosec", "", "POST /inference HTTP/1.1"),
        ("litserve", "", "POST /predict HTTP/1.1"),
    ],
)
def test_a_vector_goes_where_the_door_takes_it(door: str, model: str, line: str):
    assert request(door, model=model) == [line, '{"vector":[0.352589,0.780524]}']


def test_a_row_that_is_no_vector_of_floats_goes_to_v1_as_a_tensor():
    line, body = request("v1", IDS, "lm")
    assert line == "POST /models/lm/predict HTTP/1.1"
    (tensor,) = json.loads(body)["inputs"]
    assert tensor.pop("data") == Payloads(IDS, payloads.v2).values("5")
    assert tensor == {"name": "ids", "datatype": "INT64", "shape": [1, 2, 3]}


def test_another_path_is_taken_instead_of_the_doors_own():
    assert request("bentoml", path="/classify") == [
        "POST /classify HTTP/1.1",
        '{"vectors":[[0.352589,0.780524]]}',
    ]


def test_v2_says_shape_and_datatype():
    line, body = request("v2", model="mlp")
    assert line == "POST /v2/models/mlp/infer HTTP/1.1"
    assert json.loads(body) == {
        "inputs": [{"name": "vector", "datatype": "FP32", "shape": [1, 2], "data": [0.352589, 0.780524]}]
    }


def test_binary_v2_has_the_numbers_behind_its_header():
    made = open_door("v2-binary", "127.0.0.1:1", payloads.VECTOR).payloads.get("", "5")
    head, _, body = made.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/default/infer HTTP/1.1\r\n")
    size = int(head.partition(b"Inference-Header-Content-Length: ")[2])
    assert json.loads(body[:size])["inputs"][0]["parameters"] == {"binary_data_size": 8}
    assert struct.unpack("<2f", body[size:]) == pytest.approx([0.352589, 0.780524])


@pytest.mark.parametrize("tensor", [payloads.VECTOR, IDS, Tensor("x", "FP64", (200, 300))])
def test_grpc_requests_are_what_protobuf_reads(tensor: Tensor):
    values = Payloads(tensor, payloads.grpc).values("5")
    read = service_pb2.ModelInferRequest.FromString(payloads.grpc("mlp", tensor, values))
    expected = service_pb2.ModelInferRequest(model_name="mlp", raw_input_contents=[tensor.pack(values)])
    expected.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=[1, *tensor.shape])
    assert read == expected


def test_rows_of_a_file_are_read_by_their_number(tmp_path: Path):
    file = tmp_path / "rows.jsonl"
    file.write_text("[1, 2]\n\n[[3], [4.5]]\n[1]\nnull\n")
    rows = Payloads(payloads.VECTOR, payloads.vector)
    assert rows.values(f"{file}:1") == [1, 2]
    assert rows.values(f"{file}:2") == [3, 4.5]
    with pytest.raises(ValueError, match=r"row 3 of \S+ has 1 numbers, where the shape is \(2,\)"):
        rows.values(f"{file}:3")
    for number in (4, 5):
        with pytest.raises(ValueError, match=f"row {number} of .* cannot be read"):
            rows.values(f"{file}:{number}")


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(payloads, "MAX_PREPARED", 100)
    made = []

    def encode(model: str, tensor: Tensor, values: payloads.Values) -> bytes:
        made.append(values)
        return bytes(60)

    rows = Payloads(payloads.VECTOR, encode)
    for given in ("1", "2", "3", "1", "2", "3", "3"):
        rows.prepare("", given)
    assert len(made) == 2
    rows.get("", "3")
    rows.get("", "3")
    assert len(made) == 4


def test_a_row_is_read_from_its_description():
    assert read_tensor("image:FP32:3x224x224") == Tensor("image", "FP32", (3, 224, 224), 1000)
    assert read_tensor("ids:INT64:32:50") == Tensor("ids", "INT64", (32,), 50)


@pytest.mark.parametrize(
    "text", ["x", "x:FP32", "x:FP31:2", "x:FP16:2", "x:FP32:0", "x:FP32:a", "x:INT8:2:0"]
)
def test_what_describes_no_row_is_refused_with_what_does(text: str):
    with pytest.raises(ValueError, match="it is NAME:DATATYPE:SHAPE, as in"):
        read_tensor(text)


@pytest.mark.parametrize("url", ["127.0.0.1", "ftp://a:1", "http://a:port", "http://:80", ""])
def test_a_url_without_host_and_port_is_refused(url: str):
    with pytest.raises(ValueError, match="should be http://HOST:PORT"):
        open_door("v1", url, payloads.VECTOR)


def test_a_door_that_is_none_is_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match="there is no door 'v3': allowed are v1, v2, v2-binary, grpc, ws, mosec"
    ):
        open_door("v3", "http://a:1", payloads.VECTOR)
