"""One WebSocket connection: Hypercorn's stream, wsproto inside, on a connection of the lane.

Hypercorn speaks the protocol; what is added here is what it leaves out (as of 0.18): a close code and a
sentence for who breaks the protocol, a limit that counts bytes and ends the reading, clients that answer no
pings, and a refused handshake in the shape of every other refusal. Messages are never compressed.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.protocol.events import Body, Data, EndBody, Event, Request, Response, StreamClosed
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import parse_socket_addr
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason

from gateway.http1.exchange import Exchange
from gateway.http1.handover.stream import ReadAheadStream
from gateway.http1.limits import HttpLimits
from gateway.http1.responses import ErrorBody

_RECEIVE = 64 * 1024
_PENDING = 64 * 1024  # bytes that wait for the client before whoever has more waits, too
_REASON = 123  # bytes of the sentence that a close frame has room for (RFC 6455 §5.5)


class WebSocketServer:
    """Serves one connection whose client asked to `upgrade`; `run` returns when it is over.

    The app is told `websocket.disconnect` as soon as nobody will read it, and always at last.
    """

    def __init__(
        self,
        app: Any,
        config: Config,
        context: WorkerContext,
        stream: ReadAheadStream,
        upgrade: Exchange,
        limits: HttpLimits,
        error_body: ErrorBody,
        refused: Counter[str],
    ) -> None:
        self._make: Callable[[TaskGroup, Any], _Stream] = lambda group, ends: _Stream(
            app, config, context, group, ends, self._send, error_body, refused
        )
        self._stream = stream
        self._upgrade = upgrade
        self._limits = limits
        self._reading = trio.CancelScope()
        self._working = trio.CancelScope()  # pings and writes
        self._pending = bytearray()
        self._is_writing = False
        self._news, self._taken = trio.lowlevel.ParkingLot(), trio.lowlevel.ParkingLot()

    async def run(self) -> None:
        """From the handshake to the end of the connection."""
        try:
            ends = _addresses(self._stream.socket)
        except OSError:
            return  # gone already
        async with TaskGroup() as group:
            ws = self._make(group, ends)
            group.spawn(self._work, ws)
            try:
                await ws.handle(_request(self._upgrade))
                with self._reading:
                    await self._read(ws)
                await ws.finish()
            finally:
                self._working.cancel()
                self._pending, self._is_writing = bytearray(), False
                self._taken.unpark_all()

    async def _read(self, ws: _Stream) -> None:
        while True:
            with trio.move_on_after(self._limits.silence_time) as waiting:
                try:
                    data = await self._stream.receive_some(_RECEIVE)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
            if waiting.cancelled_caught or not data:
                return
            if ws.has_failed():
                continue  # read and dropped, so that the close frame arrives
            await ws.handle(Data(1, data))
            if ws.has_failed():
                self._reading.deadline = trio.current_time() + self._limits.linger_time
                await self._written()
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._stream.send_eof()

    async def _work(self, ws: _Stream) -> None:
        with self._working:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._flush)
                while True:
                    await trio.sleep(self._limits.ping_time)
                    await ws.ping()

    async def _send(self, event: Event) -> None:
        """What the stream says, as bytes; a client that takes none of them is gone."""
        if isinstance(event, Response):
            await self._write(_head(event))
        elif isinstance(event, Body | Data):
            await self._write(event.data)
        elif isinstance(event, EndBody | StreamClosed):
            await self._written()
            self._reading.cancel()

    async def _write(self, data: bytes) -> None:
        """Have bytes written with whatever else there is: one call of the kernel for many small messages."""
        self._pending += data
        self._news.unpark()
        while len(self._pending) > _PENDING:
            await self._taken.park()

    async def _written(self) -> None:
        while self._pending or self._is_writing:
            await self._taken.park()

    async def _flush(self) -> None:
        while True:
            while not self._pending:
                await self._news.park()
            data, self._pending, self._is_writing = self._pending, bytearray(), True
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._reading.cancel()
            self._is_writing = False
            self._taken.unpark_all()


class _Stream(WSStream):
    """Hypercorn's, with an end that every client is told the reason of, and every app the fact."""

    def __init__(
        self,
        app: Any,
        config: Config,
        context: WorkerContext,
        group: TaskGroup,
        ends: tuple[Any, Any],
        send: Any,
        error_body: ErrorBody,
        refused: Counter[str],
    ) -> None:
        super().__init__(app, config, context, group, False, *ends, send, 1)
        self._failed = False
        self._refused = refused
        self._app_ended = False
        self._error_body = error_body
        self._left = config.websocket_max_message_size

    def has_failed(self) -> bool:
        """Whether the client broke the protocol, or a limit; its close frame is written."""
        return self._failed

    async def app_send(self, message: Any) -> None:
        """What the app says; None once it has ended."""
        await trio.lowlevel.checkpoint()  # an app that goes on after the end must not keep all others waiting
        self._app_ended = self._app_ended or message is None
        if not self._failed:  # else the close frame is out, and the client has a while to read it
            await super().app_send(message)

    async def finish(self) -> None:
        """The connection is over: tell the app, unless it has ended."""
        self.closed = True
        if self.app_put is not None and not self._app_ended:
            await self.app_put({"type": "websocket.disconnect", "code": CloseReason.ABNORMAL_CLOSURE.value})

    async def ping(self) -> None:
        """Ask the client for a byte, unless the handshake or the closing is under way."""
        if self.handshake.accepted and not self._failed:
            await self._send_wsproto_event(Ping())

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, Message):
                data = event.data
                self._left -= len(data.encode() if isinstance(data, str) else data)
                if self._left < 0:
                    self._refused["ws_message"] += 1
                    limit = self.config.websocket_max_message_size
                    await self._fail(
                        CloseReason.MESSAGE_TOO_BIG, f"A message may have {limit} bytes at most."
                    )
                    return
                self.buffer.extend(event)
                if event.message_finished:
                    self._left = self.config.websocket_max_message_size
                    message = self.buffer.to_message()
                    self.buffer.clear()
                    assert self.app_put is not None
                    await self.app_put(message)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                await self._closed_by(event)

    async def _closed_by(self, event: CloseConnection) -> None:
        state = self.connection.state
        if state is ConnectionState.OPEN:  # this is wsproto's way to say that the client broke the protocol
            await self._fail(event.code, _sentence(event))
            return
        if state is ConnectionState.REMOTE_CLOSING:
            await self._send_wsproto_event(event.response())
        await self.send(StreamClosed(1))

    async def _fail(self, code: int, reason: str) -> None:
        """Close from our side, and tell the app at once."""
        self._failed = True
        await self._send_wsproto_event(CloseConnection(code=code, reason=reason))
        assert self.app_put is not None
        await self.app_put({"type": "websocket.disconnect", "code": int(code)})

    async def _send_error_response(self, status_code: int) -> None:
        message, headers = "The server failed on this request.", []
        if status_code == 400 and self.handshake.version != b"13":
            status_code, message = 426, "A WebSocket handshake needs Sec-WebSocket-Version: 13."
            headers = [(b"sec-websocket-version", b"13"), (b"upgrade", b"websocket")]
        elif status_code == 400:
            message = "This is no WebSocket handshake: it needs a Sec-WebSocket-Key, and nothing behind it."
        elif status_code == 403:
            message = f"There is no WebSocket at {self.scope['path']}"
        body = self._error_body(status_code, message, self.scope["path"])
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self.send(Response(1, headers, status_code))
        await self.send(Body(1, body))
        await self.send(EndBody(1))


def _sentence(event: CloseConnection) -> str:
    if event.code == CloseReason.INVALID_FRAME_PAYLOAD_DATA:
        return "A text message should be UTF-8."
    sentence = f"That is no WebSocket frame: {event.reason}."
    return sentence.encode()[:_REASON].decode(errors="ignore")


def _request(upgrade: Exchange) -> Request:
    """The handshake as Hypercorn wants it. Offers to compress are left out, as they would be taken."""
    headers = [header for header in upgrade.headers if header[0] != b"sec-websocket-extensions"]
    return Request(1, headers, "1.1", upgrade.method, upgrade.target, {})  # type: ignore[arg-type]


def _head(response: Response) -> bytes:
    status = HTTPStatus(response.status_code)
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode())]
    lines += [b"%b: %b\r\n" % header for header in response.headers]
    lines.append(b"\r\n" if status < 200 else b"connection: close\r\n\r\n")
    return b"".join(lines)


def _addresses(sock: Any) -> tuple[Any, Any]:
    """The client's and ours."""
    client, server = sock.getpeername(), sock.getsockname()
    return parse_socket_addr(sock.family, client), parse_socket_addr(sock.family, server)
