"""pure: what a front makes of the commonest request and answer is what the gateway would have made."""

from __future__ import annotations

import struct

import pytest

from common.tensor import TensorSpec
from gateway.doors.predict.results import provenance, render_one
from gateway.fronts.rows import RowAnswer, Rows, pack, render
from gateway.scheduling.requests import Answer, Provenance


@pytest.mark.parametrize(
    ("path", "query", "body", "packed"),
    [
        ("/predict", b"", b'{"vector":[1,2.5]}', struct.pack("<2f", 1, 2.5)),
        ("/models/a/predict", b"", b' {"vector" : [3]}', struct.pack("<f", 3)),
        ("/predict", b"top_n=2", b'{"vector":[1]}', b""),
        ("/models/a/image", b"", b'{"vector":[1]}', b""),
        ("/v2/models/a/infer", b"", b'{"vector":[1]}', b""),
        ("/predict", b"", b'{"vector":[]}', b""),
        ("/predict", b"", b'{"vectors":[[1]]}', b""),
        ("/predict", b"", b'{"vector":[1],"data":""}', b""),
        ("/predict", b"", b'{"vector":["1"]}', b""),
        ("/predict", b"", b'{"vector":[1e999]}', b""),
        ("/predict", b"", b'{"vector":[1e39]}', b""),
        ("/predict", b"", b"[" * 100_000, b""),
        ("/predict", b"", b"", b""),
    ],
)
def test_a_body_of_one_vector_is_packed_and_all_else_is_left_to_the_gateway(path, query, body, packed):
    assert pack(path, query, body) == packed


@pytest.mark.parametrize("width", [1, 3])
def test_answers_are_rendered_as_the_gateway_renders_them(width):
    outputs = (TensorSpec("y", "FP32", (width,)),)
    buffers = [struct.pack(f"<{width}f", *([0.1 * (n + 1)] * width)) for n in range(2)]
    rows = [RowAnswer(7 + n, b"x-request-id: a\r\n", n == 1, 0.001, (buffers[n],)) for n in range(2)]
    found = render(Rows("net", "it", "v1", 0.1, 0.2, 0.3, outputs, rows))
    by = Provenance("it", "v1", batch=0.1, link=0.2, infer=0.3)
    for n, rendered in enumerate(found):
        answer = Answer(outputs, (memoryview(buffers[n]),), n == 1, 0.001, by)
        extra = provenance(answer) + b"x-request-id: a\r\n"
        assert rendered == (7 + n, 200, render_one(answer, "net"), extra)


def test_an_answer_that_json_cannot_say_fails_alone():
    outputs = (TensorSpec("y", "FP32", (1,)),)
    rows = [
        RowAnswer(n, b"", False, 0.0, (struct.pack("<f", value),))
        for n, value in enumerate((1.0, float("nan")))
    ]
    good, bad = render(Rows("net", "it", "v1", 0.0, 0.0, 0.0, outputs, rows))
    assert good.body == b'{"status":true,"message":"net","result":1.0}'
    assert bad.body.startswith(b'{"status":false,')
    assert bad.body.endswith(b'"result":0.0}')
