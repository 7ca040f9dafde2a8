"""Pure: the JSON shapes of REST v1 that more than one of its routes gives."""

from __future__ import annotations

import base64
import json

import pytest

from common.errors import (
    DeadlineExceeded,
    Draining,
    InvalidRequest,
    LoadError,
    ModelError,
    NoWeights,
    NoWorker,
    PipelineError,
    Poisoned,
    QueueFull,
    TooLarge,
)
from gateway.doors.shape import encode, error_body, failure, predict_failure

RETRY = b"retry-after: 1\r\n"


def test_every_refusal_has_one_shape():
    assert failure("no") == {"status": False, "message": "no"}
    assert error_body(431, "too long", "/predict") == b'{"status":false,"message":"too long"}'


@pytest.mark.parametrize(
    ("value", "json_bytes"),
    [({"a": 0.1, "b": [1, 2.5]}, b'{"a":0.1,"b":[1,2.5]}'), ("é\n", '"é\\n"'.encode()), (None, b"null")],
)
def test_json_is_compact_utf8(value, json_bytes):
    assert encode(value) == json_bytes


@pytest.mark.parametrize(
    ("error", "status", "extra"),
    [
        (InvalidRequest("nonsense"), 400, b""),
        (TooLarge("too many rows"), 413, b""),
        (DeadlineExceeded("Deadline exceeded"), 504, b""),
        (QueueFull("Server is busy"), 503, RETRY),
        (NoWorker("No live worker"), 503, RETRY),
        (Draining("Server is shutting down"), 503, RETRY),
        (Poisoned("it killed two workers"), 500, b""),
        (PipelineError("The server failed on this request."), 500, b""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
@pytest.mark.parametrize("many", [False, True])
def test_a_prediction_that_is_refused_is_an_http_error_in_words(error, status, extra, many):
    body = b'{"status":false,"message":"%b"}' % str(error).encode()
    assert predict_failure(error, many=many) == (status, body, extra)


def test_what_the_model_says_is_200_and_its_stack_trace_in_base64():
    trace = "Traceback:\n  ValueError: é"
    status, body, extra = predict_failure(ModelError("it failed", trace), many=False)
    answer = json.loads(body)
    assert (status, extra, answer["status"], answer["result"]) == (200, b"", False, 0.0)
    assert base64.b64decode(answer["message"]).decode() == trace
    assert list(answer) == ["status", "message", "result"]


def test_many_rows_that_the_model_failed_on_have_no_results():
    answer = json.loads(predict_failure(ModelError("it failed"), many=True)[1])
    assert (answer["status"], answer["results"]) == (False, [])
    assert base64.b64decode(answer["message"]) == b"it failed"


def test_without_weights_the_status_is_200_and_the_message_plain():
    assert predict_failure(NoWeights("No weights loaded"), many=False) == (
        200,
        b'{"status":false,"message":"No weights loaded","result":0.0}',
        b"",
    )
    assert predict_failure(NoWeights("No weights loaded"), many=True) == (
        200,
        b'{"status":false,"message":"No weights loaded","results":[]}',
        b"",
    )


def test_weights_that_do_not_load_are_told_by_their_stack_trace():
    answer = json.loads(predict_failure(LoadError("no", "Traceback: no"), many=False)[1])
    assert base64.b64decode(answer["message"]) == b"Traceback: no"
