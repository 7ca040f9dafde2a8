"""Collaboration: `POST /predict` between the lane and the batch loops, and its pure parts; virtual time."""

from __future__ import annotations

import base64
import json
import math
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request as AsgiRequest

from common.errors import InvalidRequest, ModelError, TooLarge
from common.tensor import Buffer, TensorSpec, pack_elements, vector_spec
from gateway.auth.clients import Client
from gateway.doors.json import JsonReader
from gateway.doors.predict.predict import Body, PredictDoor, read_body, read_input, read_timeout
from gateway.doors.predict.results import provenance, render_many, render_one, render_tensors
from gateway.scheduling.requests import Answer, Provenance
from tests.gateway.fakes import REFUSAL
from tests.gateway.site import NN, NN2, Site, open_site

pytestmark = pytest.mark.usefixtures("virtual_time")


class Exchange:
    """One request as the lane hands it over, and what it was answered."""

    def __init__(self, body: bytes, **headers: str) -> None:
        self.body: bytes | bytearray = body
        self.query = b""
        self.on_gone: Callable[[], None] | None = None
        self.client: Client | None = None
        self.answers: list[tuple[int, bytes, bytes]] = []
        self._headers = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        self._answered = trio.Event()

    def header(self, name: bytes) -> bytes | None:
        return self._headers.get(name)

    def respond(self, status: int, body: bytes, extra: bytes = b"", rest: Sequence[Buffer] = ()) -> None:
        self.answers.append((status, body, extra))
        self._answered.set()

    async def answer(self) -> tuple[int, bytes]:
        await self._answered.wait()
        [(status, body, _)] = self.answers
        return status, body


async def ask(site: Site, body: bytes, **headers: str) -> tuple[int, bytes]:
    exchange = Exchange(body, **headers)
    PredictDoor(site.predictions, site.catalog)(exchange)
    return await exchange.answer()


def floats(*numbers: float) -> str:
    return base64.b64encode(array("f", numbers).tobytes()).decode()


# --- whole requests


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b'{"vector":[1,2]}', b'"result":6.0'),
        (b'{"vector":[0.1]}', b'"result":0.20000000298023224'),  # a float32, written out in full
        (json.dumps({"data": floats(1, 2)}).encode(), b'"result":6.0'),
        (b'{"vectors":[[1,2],[3,4],[5,6]]}', b'"results":[6.0,14.0,22.0]'),
        (b' {"something else": {}, "vector": [1]}\n', b'"result":2.0'),
    ],
)
async def test_a_prediction_is_answered_under_the_name_of_its_weights(body, answer):
    async with open_site() as site:
        await site.ready_worker()
        await site.set_weights(b"2")
        assert await ask(site, body) == (200, b'{"status":true,"message":"%b",%b}' % (NN.encode(), answer))


async def test_the_name_is_the_uploaders_and_the_version_is_in_a_header():
    async with open_site() as site:
        worker = await site.ready_worker("bob")
        await site.set_weights(b"2")
        await site.set_weights(b"3")
        exchange = Exchange(b'{"vector":[1]}')
        PredictDoor(site.predictions, site.catalog)(exchange)
        assert (await exchange.answer())[1] == b'{"status":true,"message":"%b","result":3.0}' % NN.encode()
        [version] = worker.weights
        assert version.startswith(f"{NN}.")
        lines = exchange.answers[0][2].decode().split("\r\n")
        assert lines[0] == "x-cache: miss"
        assert lines[1].startswith("server-timing: queue;dur=0.000, batch;dur=1.000, link;dur=")
        assert lines[2:] == ["x-worker: bob", f"x-model-version: {version}", ""]


async def test_the_name_is_of_the_weights_that_the_request_came_under():
    async with open_site() as site:
        worker = await site.ready_worker()
        await site.set_weights(b"2")
        worker.hold()
        exchange = Exchange(b'{"vector":[1]}')
        PredictDoor(site.predictions, site.catalog)(exchange)
        site.nursery.start_soon(site.set_weights, b"3", NN2)
        await site.until(lambda: site.catalog.active().nn_id == NN2)
        worker.held.set()
        assert (await exchange.answer())[1] == b'{"status":true,"message":"%b","result":2.0}' % NN.encode()


@pytest.mark.parametrize(
    ("body", "empty"), [(b'{"vector":[-2]}', b'"result":0.0'), (b'{"vectors":[[1],[-2]]}', b'"results":[]')]
)
async def test_a_row_that_the_model_refuses_is_answered_with_its_trace(body, empty):
    async with open_site() as site:
        await site.ready_worker()
        await site.set_weights(b"2")
        message = base64.b64encode(REFUSAL.encode())
        assert await ask(site, body) == (200, b'{"status":false,"message":"%b",%b}' % (message, empty))


async def test_a_row_that_the_model_refuses_spoils_no_neighbours_answer():
    async with open_site() as site:
        worker = await site.ready_worker(slots=1)
        await site.set_weights(b"2")
        worker.hold()
        first = site.ask(0)
        await trio.testing.wait_all_tasks_blocked()
        door = PredictDoor(site.predictions, site.catalog)
        exchanges = [Exchange(b'{"vector":[%d]}' % n) for n in (1, -2, 3)]
        for exchange in exchanges:
            door(exchange)
        worker.held.set()
        answers = [json.loads((await exchange.answer())[1]) for exchange in exchanges]
        assert [answer["status"] for answer in answers] == [True, False, True]
        assert [answer["result"] for answer in answers] == [2.0, 0.0, 6.0]
        assert len(worker.batches) == 2
        await first.answer()


async def test_an_answer_that_json_has_no_number_for_is_the_models_fault():
    async with open_site() as site:
        await site.ready_worker()
        await site.set_weights(b"nan")
        message = b"the model's answer holds NaN or infinity, which JSON has no number for"
        answer = json.loads((await ask(site, b'{"vector":[1]}'))[1])
        assert (answer["status"], base64.b64decode(answer["message"])) == (False, message)


async def test_without_weights_the_answer_is_200_and_says_so():
    async with open_site() as site:
        assert await ask(site, b'{"vector":[1]}') == (
            200,
            b'{"status":false,"message":"No weights loaded","result":0.0}',
        )


async def test_without_a_worker_the_answer_is_503_at_the_requests_deadline():
    async with open_site() as site:
        await site.set_weights(b"2")
        assert await ask(site, b'{"vector":[1]}', x_timeout_ms="250") == (
            503,
            b'{"status":false,"message":"No live worker"}',
        )
        assert trio.current_time() == pytest.approx(0.25, abs=0.05)


async def test_a_full_queue_is_503_and_tells_when_to_come_again():
    async with open_site(queue_max=0) as site:
        await site.set_weights(b"2")
        exchange = Exchange(b'{"vector":[1]}')
        PredictDoor(site.predictions, site.catalog)(exchange)
        assert exchange.answers == [
            (503, b'{"status":false,"message":"Server is busy"}', b"retry-after: 1\r\n")
        ]


async def test_a_client_that_goes_takes_its_request_with_it():
    async with open_site() as site:
        await site.set_weights(b"2")
        exchange = Exchange(b'{"vector":[1]}')
        PredictDoor(site.predictions, site.catalog)(exchange)
        assert exchange.on_gone is not None
        assert site.predictions.in_progress == 1
        exchange.on_gone()
        assert site.predictions.in_progress == 0
        await trio.sleep(20)
        assert exchange.answers == []


async def test_a_request_that_is_nonsense_is_answered_at_once_and_leaves_nothing():
    async with open_site() as site:
        await site.set_weights(b"2")
        exchange = Exchange(b'{"vector":[1]', x_timeout_ms="10")
        PredictDoor(site.predictions, site.catalog)(exchange)
        assert exchange.answers == [(400, b'{"status":false,"message":"cannot parse request body"}', b"")]
        assert exchange.on_gone is None
        assert site.predictions.in_progress == 0


# --- over ASGI, for HTTP/2


def asgi(body: bytes, events: list[dict[str, Any]]) -> AsgiRequest:
    """A request whose client sends `body`, then waits, and then says what is in `events`."""
    gone = trio.Event()

    async def receive() -> dict[str, Any]:
        if not gone.is_set():
            gone.set()
            return {"type": "http.request", "body": body, "more_body": False}
        if events:
            await trio.sleep(1)
            return events.pop(0)
        await trio.sleep_forever()
        raise AssertionError("for ever is over")

    headers = [(b"x-timeout-ms", b"3000")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}
    return AsgiRequest(scope, receive)


async def test_over_asgi_the_answer_is_the_same():
    async with open_site() as site:
        await site.ready_worker("bob")
        await site.set_weights(b"2")
        response = await PredictDoor(site.predictions, site.catalog).over_asgi(asgi(b'{"vector":[1]}', []))
        assert response.status_code == 200
        assert response.body == b'{"status":true,"message":"%b","result":2.0}' % NN.encode()
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-worker"] == "bob"
        assert response.headers["x-model-version"] == NN
        assert response.headers["x-cache"] == "miss"


async def test_over_asgi_a_refusal_is_the_same_and_the_timeout_is_heard():
    async with open_site() as site:
        await site.set_weights(b"2")
        door = PredictDoor(site.predictions, site.catalog)
        response = await door.over_asgi(asgi(b"{", []))
        assert (response.status_code, response.body) == (
            400,
            b'{"status":false,"message":"cannot parse request body"}',
        )
        response = await door.over_asgi(asgi(b'{"vector":[1]}', []))
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert trio.current_time() == pytest.approx(3, abs=0.05)


async def test_over_asgi_a_client_that_goes_takes_its_request_with_it():
    async with open_site() as site:
        await site.set_weights(b"2")
        door = PredictDoor(site.predictions, site.catalog)
        response = await door.over_asgi(asgi(b'{"vector":[1]}', [{"type": "http.disconnect"}]))
        assert response.status_code == 499  # nobody reads it
        assert trio.current_time() == 1
        assert site.predictions.in_progress == 0


async def test_over_asgi_a_call_that_is_cancelled_takes_its_request_with_it():
    async with open_site() as site:
        await site.set_weights(b"2")
        with trio.move_on_after(0.5):
            await PredictDoor(site.predictions, site.catalog).over_asgi(asgi(b'{"vector":[1]}', []))
        assert site.predictions.in_progress == 0


# --- what was sent (pure)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), (b"1", 0.001), (b"0.5", 0.0005), (b"1500", 1.5), (b"3600000", 3600.0), (b" 10 ", 0.01)],
)
def test_a_timeout_is_a_number_of_milliseconds(header, seconds):
    assert read_timeout(header) == seconds


@pytest.mark.parametrize("header", [b"", b"0", b"-1", b"nan", b"inf", b"3600001", b"1s", b"\xff", b"1e400"])
def test_a_timeout_that_is_none_is_refused(header):
    with pytest.raises(InvalidRequest, match="X-Timeout-Ms should be a number from 1 to 3600000"):
        read_timeout(header)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "cannot parse request body"),
        (b"{", "cannot parse request body"),
        (b"\xff", "cannot parse request body"),
        (b'{"vector":[1]} x', "cannot parse request body"),
        (b'{"other":' + b"[" * 100_000, "request body is nested too deeply: "),
        (b"[]", "request body has a wrong shape: Expected `object`, got `array`"),
        (
            b'{"vector":1}',
            "request body has a wrong shape: Expected `array | null`, got `int` - at `$.vector`",
        ),
        (
            b'{"vector":["1"]}',
            "request body has a wrong shape: Expected `float`, got `str` - at `$.vector[",
        ),
    ],
)
def test_a_body_that_cannot_be_read_is_told_why(raw, message):
    with pytest.raises(InvalidRequest) as refusal:
        read_body(raw, JsonReader())
    assert str(refusal.value).startswith(message)


@given(st.binary(max_size=100))
def test_whatever_the_body_is_only_the_caller_is_blamed(raw):
    try:
        body = read_body(raw, JsonReader())
    except InvalidRequest:
        return
    with pytest.raises(InvalidRequest):
        read_input(body, 10)  # no random bytes make a row


@pytest.mark.parametrize(
    ("body", "rows", "width", "numbers"),
    [
        (Body(vector=[1.0, 2.5]), 1, 2, [1.0, 2.5]),
        (Body(vectors=[[1.0, 2.0], [3.0, 4.0]]), 2, 2, [1.0, 2.0, 3.0, 4.0]),
        (Body(data=floats(1.0, 2.5)), 1, 2, [1.0, 2.5]),
    ],
)
def test_rows_come_as_a_vector_as_vectors_or_as_base64(body, rows, width, numbers):
    signature, (buffer,), count = read_input(body, 10)
    assert (signature, count) == (vector_spec(width), rows)
    assert memoryview(buffer).cast("B").cast("f").tolist() == numbers


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (Body(), "vector or data is required"),
        (Body(vector=[1.0], data="AAAA"), "give one of vector, vectors, data and inputs, not several"),
        (Body(vectors=[]), "vectors is empty: give at least one row"),
        (Body(data="AAA"), "data has wrong format: it should be base64 of float32 numbers"),
        (Body(data="AAAA\n"), "data has wrong format: it should be base64 of float32 numbers"),
        (Body(data="é"), "data has wrong format: it should be base64 of float32 numbers"),
        (Body(data="AAAA"), "data has 3 bytes: float32 numbers take a multiple of 4"),
        (Body(data=floats(1, math.nan)), "data holds NaN or infinity: only finite numbers are allowed"),
        (Body(data=floats(math.inf)), "data holds NaN or infinity: only finite numbers are allowed"),
    ],
)
def test_rows_that_are_none_are_refused_in_words_about_numbers(body, message):
    with pytest.raises(InvalidRequest) as refusal:
        read_input(body, 10)
    assert str(refusal.value) == message


def test_more_rows_than_are_allowed_are_too_large():
    assert read_input(Body(vectors=[[1.0]] * 10), 10)[2] == 10
    with pytest.raises(TooLarge, match="11 rows in one request: at most 10 are allowed"):
        read_input(Body(vectors=[[1.0]] * 11), 10)


# --- what is answered (pure)


def answer(numbers: list[float], *shape: int, datatype: str = "FP32", code: str = "f") -> Answer:
    by = Provenance("bob", "7", batch=0.0012, link=0.5, infer=0.25)
    buffer = memoryview(array(code, numbers).tobytes())
    return Answer((TensorSpec("result", datatype, shape),), (buffer,), False, 0.01, by)


@pytest.mark.parametrize(
    ("given", "one"),
    [
        (answer([0.5], 1), b"0.5"),
        (answer([0.5]), b"0.5"),  # a row without dimensions
        (answer([1.0, 2.0, 3.0], 3), b"[1.0,2.0,3.0]"),
        (answer([1.0, 2.0, 3.0, 4.0], 2, 2), b"[1.0,2.0,3.0,4.0]"),
        (answer([7], 1, datatype="INT64", code="q"), b"7"),
        (answer([1, 2], 2, datatype="UINT8", code="B"), b"[1,2]"),
    ],
)
def test_the_answer_to_one_row_is_a_number_or_a_list(given, one):
    assert render_one(given, "nn") == b'{"status":true,"message":"nn","result":%b}' % one


def test_the_answer_to_many_rows_keeps_their_order():
    assert render_many(answer([1.0, 2.0, 3.0], 1), "nn") == (
        b'{"status":true,"message":"nn","results":[1.0,2.0,3.0]}'
    )
    assert render_many(answer([1.0, 2.0, 3.0, 4.0], 2), "nn") == (
        b'{"status":true,"message":"nn","results":[[1.0,2.0],[3.0,4.0]]}'
    )


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_number_for_is_no_answer(number):
    with pytest.raises(ModelError, match="NaN or infinity"):
        render_many(answer([1.0, number, 2.0], 1), "nn")


def test_large_numbers_whose_sum_no_float_holds_are_still_numbers():
    big = answer([1.7e308, 1.7e308], 1, datatype="FP64", code="d")
    assert json.loads(render_many(big, "nn"))["results"] == [1.7e308, 1.7e308]


def test_an_answer_without_an_output_is_the_models_fault():
    for empty in (answer([], 0), answer([], 2, 0), answer([1.0], 1)._replace(outputs=(), buffers=())):
        with pytest.raises(ModelError, match="the model's answer is empty"):
            render_one(empty, "nn")


def test_the_header_lines_say_who_answered_and_where_the_time_went():
    given = answer([1.0], 1)
    assert provenance(given) == (
        b"x-cache: miss\r\n"
        b"server-timing: queue;dur=10.000, batch;dur=1.200, link;dur=500.000, infer;dur=250.000\r\n"
        b"x-worker: bob\r\n"
        b"x-model-version: 7\r\n"
    )
    hit = provenance(given._replace(hit=True, queue=0.0))  # another request of the same batch
    assert hit.startswith(b"x-cache: hit\r\nserver-timing: queue;dur=0.000, batch;dur=1.200, ")


@pytest.mark.parametrize(("name", "shown"), [("bob\r\nset-cookie: x", "bob??set-cookie: x"), ("Zoë", "Zo?")])
def test_a_worker_whatever_it_calls_itself_cannot_break_out_of_its_header_line(name, shown):
    given = answer([1.0], 1)
    given.by.worker = name
    assert provenance(given).split(b"\r\n")[2] == f"x-worker: {shown}".encode()


def words(*elements: bytes) -> Answer:
    spec = TensorSpec("t", "BYTES", (len(elements),))
    by = Provenance("w", "1", batch=0, link=0, infer=0)
    return Answer((spec,), (memoryview(pack_elements(elements)),), False, 0.0, by)


def test_text_is_answered_as_text_and_bytes_that_are_none_are_the_models_fault():
    said = words(b"a", "ö".encode())
    assert json.loads(render_tensors(said, NN))["outputs"] == [
        {"name": "t", "datatype": "BYTES", "shape": [1, 2], "data": ["a", "ö"]}
    ]
    assert json.loads(render_many(said, NN))["results"] == [["a", "ö"]]
    with pytest.raises(ModelError, match=r"^the model's answer holds bytes that are no UTF-8 text"):
        render_one(words(b"\xff"), NN)
