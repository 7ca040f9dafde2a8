"""Collaboration: the WebSocket protocol on the lane, in frames made by hand, well and badly."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

ServeLane = Callable[..., Any]

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
TEXT, BINARY, MORE, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
KEY = b"\x01\x02\x03\x04"


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True, rsv: int = 0) -> bytes:
    """One frame of a client (RFC 6455 §5.2)."""
    size, mask = len(payload), 0x80 if masked else 0
    first = bytes([(0x80 if final else 0) | rsv | opcode])
    if size < 126:
        head = first + bytes([mask | size])
    elif size < 65536:
        head = first + bytes([mask | 126]) + struct.pack("!H", size)
    else:
        head = first + bytes([mask | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    return head + KEY + bytes(byte ^ KEY[at % 4] for at, byte in enumerate(payload))


async def next_frame(client: Any) -> tuple[int, bytes]:
    """(opcode, payload) of the server's next frame."""
    first, size = await client.exactly(2)
    assert first & 0x70 == 0
    if size == 126:
        (size,) = struct.unpack("!H", await client.exactly(2))
    return first & 15, await client.exactly(size)


async def next_close(client: Any) -> tuple[int, str]:
    """(code, sentence) of the server's close frame, which is the next."""
    opcode, payload = await next_frame(client)
    assert opcode == CLOSE
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


class Echo:
    """An app that echoes, and remembers how each of its connections ended."""

    def __init__(self) -> None:
        self.ends: list[int] = []
        self.app = Starlette(routes=[WebSocketRoute("/ws", self.echo), WebSocketRoute("/bad", self.fail)])

    async def echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        while (message := await websocket.receive())["type"] != "websocket.disconnect":
            text = message.get("text")
            await (websocket.send_bytes(message["bytes"]) if text is None else websocket.send_text(text))
        self.ends.append(message["code"])

    async def fail(self, websocket: WebSocket) -> None:
        await websocket.accept()
        raise RuntimeError("on purpose")


async def connect(served: Any, path: bytes = b"/ws", extra: bytes = b"") -> Any:
    client = await served.connect()
    await client.send(HANDSHAKE.replace(b"/ws", path) + extra + b"\r\n")
    head = await client.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head  # RFC 6455 §1.3
    return client


async def emptied(served: Any) -> None:
    """Until no connection is with Hypercorn."""
    with trio.fail_after(20):
        while served.lane._handover.open:  # noqa: ASYNC110 - there is no event for it
            await trio.sleep(0.001)


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        (frame(TEXT, b"one"), (TEXT, b"one")),
        (frame(BINARY, bytes(300)), (BINARY, bytes(300))),
        (frame(TEXT, b""), (TEXT, b"")),
        (frame(TEXT, b"t", final=False) + frame(MORE, b"w", final=False) + frame(MORE, b"o"), (TEXT, b"two")),
        (frame(TEXT, b"\xc3", final=False) + frame(MORE, b"\xa9"), (TEXT, "é".encode())),
        (frame(PING, b"there?"), (PONG, b"there?")),
        (frame(PONG, b"unasked") + frame(TEXT, b"x"), (TEXT, b"x")),
        (frame(TEXT, "é".encode() * 50), (TEXT, "é".encode() * 50)),
    ],
)
async def test_a_message_comes_back_whatever_frames_it_came_in(serve_lane, sent, echoed):
    async with serve_lane(app=Echo().app) as served:
        client = await connect(served)
        for piece in (sent, *(bytes([byte]) for byte in sent)):
            await client.send(piece)
        assert await next_frame(client) == echoed
        assert await next_frame(client) == echoed


NO_FRAME = "That is no WebSocket frame: "


@pytest.mark.parametrize(
    ("sent", "code", "sentence"),
    [
        (frame(TEXT, b"\xff"), 1007, "A text message should be UTF-8."),
        (frame(TEXT, b"\xc3"), 1007, "A text message should be UTF-8."),
        (frame(TEXT, b"x", masked=False), 1002, NO_FRAME + "server received unexpected unmasked frame."),
        (frame(TEXT, b"x", rsv=0x40), 1002, NO_FRAME + "Reserved bit set unexpectedly."),
        (frame(3, b"x"), 1002, NO_FRAME + "Invalid opcode 0x3."),
        (frame(MORE, b"x"), 1002, NO_FRAME + "unexpected CONTINUATION."),
        (frame(PING, bytes(126)), 1002, NO_FRAME + "Control frame with payload len > 125."),
        (frame(PING, b"", final=False), 1002, NO_FRAME + "Invalid attempt to fragment control frame."),
        (frame(BINARY, bytes(1001)), 1009, "A message may have 1000 bytes at most."),
        (frame(TEXT, "é".encode() * 501), 1009, "A message may have 1000 bytes at most."),
        (
            frame(BINARY, bytes(600), final=False) + frame(MORE, bytes(600), final=False),
            1009,
            "A message may have 1000 bytes at most.",
        ),
        (frame(BINARY, bytes(1_000_000)), 1009, "A message may have 1000 bytes at most."),
    ],
)
async def test_who_breaks_the_protocol_or_a_limit_is_told_how_and_the_app_that_he_left(
    serve_lane, sent, code, sentence
):
    echo = Echo()
    async with serve_lane(app=echo.app, max_body=1000) as served:
        client = await connect(served)
        await client.send(frame(TEXT, b"x"))
        assert await next_frame(client) == (TEXT, b"x")
        await client.send(sent)
        assert await next_close(client) == (code, sentence)
        await client.stream.send_eof()
        assert await client.rest() == b""
        await emptied(served)
    assert echo.ends == [code]


async def test_who_goes_on_after_that_is_cut(serve_lane):
    async with serve_lane(app=Echo().app, linger_time=0.05) as served:
        client = await connect(served)
        await client.send(frame(3, b""))
        await next_close(client)
        await client.send(frame(TEXT, b"never mind"))
        assert await client.rest() == b""
        await emptied(served)


async def test_both_sides_close_politely(serve_lane):
    echo = Echo()
    async with serve_lane(app=echo.app) as served:
        client = await connect(served)
        await client.send(frame(CLOSE, struct.pack("!H", 1000) + b"done"))
        assert await next_close(client) == (1000, "done")
        assert await client.rest() == b""
        await emptied(served)
    assert len(echo.ends) == 1


@pytest.mark.parametrize("half", [True, False])
async def test_an_app_is_told_of_a_client_that_left_without_a_word(serve_lane, half):
    echo = Echo()
    async with serve_lane(app=echo.app) as served:
        client = await connect(served)
        await (client.stream.send_eof() if half else client.aclose())
        await emptied(served)
    assert echo.ends == [1006]


async def test_a_client_that_takes_no_byte_is_cut(serve_lane):
    async def flood(websocket: WebSocket) -> None:
        await websocket.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pour, websocket)
            assert (await websocket.receive())["type"] == "websocket.disconnect"
            nursery.cancel_scope.cancel()
        ended.set()

    async def pour(websocket: WebSocket) -> None:
        while True:
            await websocket.send_bytes(bytes(1 << 20))
            sent.append(1)

    ended, sent = trio.Event(), []
    async with serve_lane(app=Starlette(routes=[WebSocketRoute("/ws", flood)]), write_time=0.1) as served:
        await connect(served)
        with trio.fail_after(20):
            await ended.wait()
        await emptied(served)
    assert len(sent) < 20  # what the kernel takes, and no more than one beside it


async def test_an_app_that_fails_is_closed_1011(serve_lane, caplog):
    async with serve_lane(app=Echo().app) as served:
        client = await connect(served, b"/bad")
        assert await next_close(client) == (1011, "")
        await emptied(served)
    assert "RuntimeError: on purpose" in caplog.text


async def test_a_client_that_answers_pings_stays_and_one_that_does_not_is_cut(serve_lane):
    echo = Echo()
    async with serve_lane(app=echo.app, ping_time=0.02, silence_time=0.5) as served:
        client, silent = await connect(served), await connect(served)
        while not echo.ends:
            assert await next_frame(client) == (PING, b"")
            await client.send(frame(PONG, b""))
        await client.send(frame(TEXT, b"still here"))
        while (said := await next_frame(client)) == (PING, b""):
            pass
        assert said == (TEXT, b"still here")
        pings = await silent.rest()
        assert set(zip(pings[::2], pings[1::2], strict=True)) == {(0x89, 0)}
    assert echo.ends[0] == 1006


async def test_compression_is_not_agreed_to(serve_lane):
    async with serve_lane(app=Echo().app) as served:
        client = await served.connect()
        await client.send(HANDSHAKE + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"extensions" not in head


@pytest.mark.parametrize(
    ("old", "new", "status", "message"),
    [
        (b": 13", b": 12", 426, "A WebSocket handshake needs Sec-WebSocket-Version: 13."),
        (
            b"Sec-WebSocket-Key",
            b"X-Key",
            400,
            "This is no WebSocket handshake: it needs a Sec-WebSocket-Key, and nothing behind it.",
        ),
        (b"/ws", b"/nothing", 403, "There is no WebSocket at /nothing"),
    ],
)
async def test_a_handshake_that_is_none_is_refused_in_the_usual_shape(serve_lane, old, new, status, message):
    async with serve_lane(app=Echo().app) as served:
        client = await served.connect()
        await client.send(HANDSHAKE.replace(old, new) + b"\r\n")
        answered, head, body = await client.answer()
        assert answered == status
        assert body == b'{"status":false,"message":"%b"}' % message.encode()
        assert (b"sec-websocket-version: 13\r\n" in head) is (status == 426)
        assert await client.rest() == b""
        await emptied(served)


def a_conversation(rng: random.Random) -> bytes:
    """Frames as a client sends them, of which some break a rule, and of some of which a byte is wrong."""
    frames = [
        frame(
            rng.choice([TEXT, BINARY, BINARY, MORE, PING, PONG, CLOSE, 3]),
            rng.choice([b"", b"x", b"\x03\xe8", b"\xff\xfe", "é".encode(), bytes(130), bytes(1200)]),
            final=rng.random() < 0.8,
            masked=rng.random() < 0.95,
            rsv=rng.choice([0] * 20 + [0x40]),
        )
        for _ in range(rng.randrange(1, 8))
    ]
    said = bytearray(b"".join(frames))
    for _ in range(rng.choice([0, 0, 1, 3])):
        said[rng.randrange(len(said))] = rng.randrange(256)
    return bytes(said)


async def test_whatever_frames_come_the_connection_ends_in_good_order_and_others_go_on(serve_lane, caplog):
    echo, rng = Echo(), random.Random(11)
    async with serve_lane(app=echo.app, max_body=1000) as served:
        other = await connect(served)
        for number in range(1, 81):
            client = await connect(served)
            said = a_conversation(rng)
            cut = rng.randrange(len(said) + 1)
            with suppress(trio.BrokenResourceError):  # who broke a rule before may be gone
                await client.send(said[:cut])
                await client.send(said[cut:])
                await client.stream.send_eof()
            with suppress(trio.BrokenResourceError):
                await client.rest()
            await client.aclose()
            with trio.fail_after(20):
                while len(echo.ends) < number:  # noqa: ASYNC110 - the app is told in its own time
                    await trio.sleep(0.001)
        await other.send(frame(TEXT, b"still here"))
        assert await next_frame(other) == (TEXT, b"still here")
        assert {code for code in echo.ends if code < 3000} <= {1000, 1002, 1005, 1006, 1007, 1009}
        await other.aclose()
        await emptied(served)
    assert len(echo.ends) == 81
    assert caplog.records == []
