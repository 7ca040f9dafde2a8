"""end to end: `/ws` of a real gateway with real workers, spoken to by clients that others wrote."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from tests.e2e.held import start_held
from tests.e2e.processes import Gateway
from tests.e2e.weights import ONE, is_right, stored

connect = pytest.importorskip("websockets.asyncio.client").connect
exceptions = pytest.importorskip("websockets.exceptions")


@pytest.fixture(scope="module")
def gateway(shared_site) -> Gateway:
    """One worker."""
    gateway: Gateway = shared_site.start_gateway()
    shared_site.spawn_worker()
    gateway.wait_ready(1)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    return gateway


def socket(gateway: Gateway, **how: Any) -> Any:
    """A connection of the `websockets` library."""
    return connect(f"ws://127.0.0.1:{gateway.port}/ws", **how)


def row(number: int) -> list[float]:
    return [number / 1000, 0.5]


def wait_in_progress(gateway: Gateway, count: int) -> None:
    """Until the gateway has so many requests in progress."""
    gateway.wait_status(lambda status: status["requests_in_progress"] == count, f"{count} in progress")


async def ask_all(ws: Any, count: int, window: int, answered: Any) -> dict[int, Any]:
    """The answers to so many rows, in the order in which they came; never more than the window in flight."""
    answers: dict[int, Any] = {}
    for number in range(min(window, count)):
        await ws.send(json.dumps({"id": number, "vector": row(number)}))
    asked = min(window, count)
    while len(answers) < count:
        answer = json.loads(await ws.recv())
        assert answer["id"] not in answers
        answers[answer["id"]] = answer
        answered(len(answers))
        if asked < count:
            await ws.send(json.dumps({"id": asked, "vector": row(asked)}))
            asked += 1
    return answers


def test_a_thousand_requests_over_one_socket_and_a_worker_killed_meanwhile(site, tmp_path):
    hold = tmp_path / "HOLD"
    gateway = start_held(site, hold)
    [held] = site.processes[1:]
    site.spawn_worker()
    gateway.wait_ready(2)

    async def main() -> dict[int, Any]:
        many = asyncio.Event()
        async with socket(gateway) as ws:
            greeting = json.loads(await ws.recv())

            async def kill() -> None:
                with suppress(asyncio.TimeoutError):  # should all of the window wait for the held worker
                    await asyncio.wait_for(many.wait(), 3)
                held.kill()

            killing = asyncio.create_task(kill())
            try:
                return await asyncio.wait_for(
                    ask_all(ws, 1000, greeting["window"], lambda n: many.set() if n == 200 else None), 60
                )
            finally:
                await killing

    answers = asyncio.run(main())
    assert len(answers) == 1000
    assert list(answers) != sorted(answers)
    wrong = [each for each in answers.values() if not is_right(each["result"], ONE, *row(each["id"]))]
    assert wrong == []
    wait_in_progress(gateway, 0)


def test_messagepack_and_json_share_a_connection(gateway):
    async def main() -> list[Any]:
        async with socket(gateway) as ws:
            await ws.recv()
            await ws.send(msgspec.msgpack.encode({"id": "packed", "vectors": [row(1), row(2)]}))
            await ws.send(json.dumps({"id": "text", "vector": row(1)}))
            said = [await ws.recv(), await ws.recv()]
            await (await ws.ping())
            return said

    said = asyncio.run(main())
    [text] = [json.loads(each) for each in said if isinstance(each, str)]
    [packed] = [msgspec.msgpack.decode(each) for each in said if isinstance(each, bytes)]
    assert (text["id"], packed["id"]) == ("text", "packed")
    assert is_right(text["result"], ONE, *row(1))
    assert packed["results"][0] == pytest.approx(text["result"])


def test_what_is_cancelled_or_whose_client_goes_is_in_progress_no_more(site, tmp_path):
    gateway = start_held(site, tmp_path / "HOLD")

    async def main() -> Any:
        async with socket(gateway) as ws:
            await ws.recv()
            for number in range(40):
                await ws.send(json.dumps({"id": number, "vector": row(number)}))
            await asyncio.to_thread(wait_in_progress, gateway, 40)
            await ws.send(json.dumps({"cancel": 7}))
            answer = json.loads(await ws.recv())
            await asyncio.to_thread(wait_in_progress, gateway, 39)
            ws.transport.abort()  # without a close frame
            return answer

    answer = asyncio.run(main())
    assert (answer["id"], answer["code"]) == (7, "cancelled")
    wait_in_progress(gateway, 0)
    (tmp_path / "HOLD").unlink()


@pytest.mark.parametrize(
    ("sent", "code", "sentence"),
    [
        (b"\x81\x03abc", 1002, "That is no WebSocket frame: server received unexpected unmasked frame."),
        (b"\x81\x81\0\0\0\0\xff", 1007, "A text message should be UTF-8."),
        (b"\x83\x80\0\0\0\0", 1002, "That is no WebSocket frame: Invalid opcode 0x3."),
        (
            b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(9 << 20),
            1009,
            "A message may have 8388608 bytes at most.",
        ),
    ],
)
def test_a_malformed_frame_costs_its_own_connection_and_no_other(gateway, sent, code, sentence):
    async def main() -> tuple[Any, Any]:
        async with socket(gateway) as good, socket(gateway) as bad:
            await good.recv()
            await bad.recv()
            bad.transport.write(sent)
            with pytest.raises(exceptions.ConnectionClosed) as closed:
                await bad.recv()
            await good.send(json.dumps({"id": 1, "vector": row(1)}))
            return closed.value.rcvd, json.loads(await good.recv())

    close, answer = asyncio.run(main())
    assert (close.code, close.reason) == (code, sentence)
    assert is_right(answer["result"], ONE, *row(1))


def test_a_page_of_another_origin_is_refused_and_a_plain_get_is_told(gateway):
    async def main() -> Any:
        with pytest.raises(exceptions.InvalidStatus) as refusal:
            async with socket(gateway, origin="http://evil.example"):
                pass
        async with socket(gateway, origin=gateway.url) as ws:
            await ws.recv()
        return refusal.value.response

    response = asyncio.run(main())
    assert response.status_code == 403
    sentence = f"A page of http://evil.example may not open a WebSocket to 127.0.0.1:{gateway.port}"
    assert json.loads(response.body) == {"status": False, "message": sentence}
    answer = gateway.ask("GET", "/ws")
    assert answer.status == 426
    assert answer.json["message"] == "There is a WebSocket here: ask for it with Upgrade: websocket"


def test_sigterm_answers_what_is_in_flight_and_closes_1001(site, tmp_path):
    hold = tmp_path / "HOLD"
    gateway = start_held(site, hold)

    async def main() -> tuple[Any, Any]:
        async with socket(gateway) as ws:
            await ws.recv()
            await ws.send(json.dumps({"id": 1, "vector": row(1)}))
            await asyncio.to_thread(wait_in_progress, gateway, 1)
            gateway.send(signal.SIGTERM)
            await asyncio.to_thread(gateway.wait_for_line, "draining")
            hold.unlink()
            answer = json.loads(await ws.recv())
            with pytest.raises(exceptions.ConnectionClosedOK) as closed:
                await ws.recv()
            return answer, closed.value.rcvd

    answer, close = asyncio.run(main())
    assert is_right(answer["result"], ONE, *row(1))
    assert close.code == 1001
    assert close.reason == "The server is shutting down; what was in flight is answered."
    assert gateway.wait() == 0


def test_autobahn_speaks_with_it_too(gateway):
    autobahn = pytest.importorskip("autobahn.asyncio.websocket")
    said: list[Any] = []

    class Client(autobahn.WebSocketClientProtocol):  # type: ignore[misc]
        def onOpen(self) -> None:  # noqa: N802 - autobahn's names
            self.sendMessage(json.dumps({"id": 1, "vector": row(1)}).encode())
            self.sendMessage(msgspec.msgpack.encode({"id": 2, "vector": row(2)}), isBinary=True)

        def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
            said.append((msgspec.msgpack if isBinary else msgspec.json).decode(payload))
            if len(said) == 3:
                self.sendClose(1000, "done")

        def onClose(self, wasClean: bool, code: int, reason: str) -> None:  # noqa: N802, N803
            said.append((wasClean, code, reason))
            ended.set()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        factory = autobahn.WebSocketClientFactory(f"ws://127.0.0.1:{gateway.port}/ws", loop=loop)
        factory.protocol = Client
        await loop.create_connection(factory, "127.0.0.1", gateway.port)
        await asyncio.wait_for(ended.wait(), 30)

    ended = asyncio.Event()
    asyncio.run(main())
    greeting, *answers, end = said
    assert greeting["window"] == 64
    assert {answer["id"] for answer in answers} == {1, 2}
    assert all(is_right(answer["result"], ONE, *row(answer["id"])) for answer in answers)
    assert end == (True, 1000, "done")
