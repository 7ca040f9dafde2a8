"""Pure: what an answer refuses is found in the shape of every door, as one sentence and an exit code."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from cli.failure import EXIT_LATER, EXIT_REFUSED, refusal

TRACE = base64.b64encode(b"Traceback\n  File\ncommon.errors.LoadError: keys do not fit\n").decode()


@pytest.mark.parametrize(
    ("status", "value", "sentence"),
    [
        (404, {"status": False, "message": "there is no model x"}, "there is no model x"),
        (400, {"error": "inputs are missing"}, "inputs are missing"),
        (400, {"errors": ["no such inference_type"]}, "no such inference_type"),
        (200, {"status": False, "message": TRACE, "result": 0.0}, "keys do not fit"),
        (200, {"status": False, "message": "No weights loaded", "result": 0.0}, "No weights loaded"),
        (
            200,
            {
                "status": False,
                "message": "not loaded",
                "workers": [{"result": True}, {"result": False, "trace": TRACE}],
            },
            "not loaded: keys do not fit",
        ),
        (500, {"detail": "?"}, "the gateway answered 500 without a reason"),
        (500, ["?"], "the gateway answered 500 without a reason"),
        (404, {"errors": "?"}, "the gateway answered 404 without a reason"),
        (
            401,
            {"status": False, "message": "who are you"},
            "who are you: give the gateway's token by --token or PIPELINE_TOKEN",
        ),
    ],
)
def test_a_refusal_of_any_door_is_a_sentence(status: int, value: Any, sentence: str) -> None:
    failure = refusal(status, value)
    assert failure is not None
    assert (str(failure), failure.code) == (sentence, EXIT_REFUSED)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_do_later_has_an_exit_code_of_its_own(status: int) -> None:
    failure = refusal(status, {"status": False, "message": "Server is busy"})
    assert failure is not None
    assert (str(failure), failure.code) == ("Server is busy", EXIT_LATER)


@pytest.mark.parametrize("value", [{"status": True}, {}, [], {"errors": []}])
def test_what_is_done_is_no_refusal(value: Any) -> None:
    assert refusal(200, value) is None
    assert refusal(202, value) is None
