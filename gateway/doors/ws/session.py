"""One WebSocket's session: predictions under ids of the client's, answered as they are ready.

The server says first how much may be in flight; what is beyond that is refused, message by message. Every
id gets one answer: a result, a refusal, or that it was cancelled.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from common.errors import InvalidRequest, PipelineError, RequestCancelled, WindowFull
from common.tracing import HEADER as TRACEPARENT
from gateway.auth.clients import Client, Rate
from gateway.bell import Bell
from gateway.doors.json import JsonReader
from gateway.doors.predict.predict import check_timeout, read_input
from gateway.doors.ws.messages import (
    Id,
    Message,
    Raw,
    answered,
    read_id,
    read_message,
    refused,
    shower,
    write,
)
from gateway.models.catalog import Catalog, Version
from gateway.observing.access import HEADER, Access
from gateway.scheduling.predictions import Header, Predictions
from gateway.scheduling.requests import Answer, Request

GOING_AWAY, TRY_AGAIN_LATER = 1001, 1013
DOOR = "ws"  # as figures call it

Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, kw_only=True)
class SocketLimits:
    """What one connection may have in flight, and how long it may take over an answer; bytes and seconds."""

    window: int = 64
    max_bytes: int = 8 << 20
    """Of one message; the lane closes 1009 above."""
    max_bytes_in_flight: int = 32 << 20
    messages_per_second: float = 20_000.0
    """What comes faster waits to be read."""
    slow_time: float = 10.0
    """Without taking an answer: closed 1013, should it still read that. The lane's `write_time` cuts it."""
    close_time: float = 5.0
    """To answer our close frame."""


class _Flight:
    """One id that has no answer yet, or one that is not on its way yet."""

    __slots__ = ("began", "request", "request_id", "size")

    def __init__(self, size: int, request_id: str | None = None) -> None:
        self.size = size
        self.request_id = request_id
        self.began = trio.current_time()
        self.request: Request | None = None  # while an answer can still come


class Session:
    """One connection.

    Invariant: an id is in `_flights` from when it was taken until its one answer leaves `_out` for the
    connection; so whoever does not read its answers has no room for more.
    """

    def __init__(
        self,
        predictions: Predictions,
        catalog: Catalog,
        limits: SocketLimits,
        access: Access,
        request_id: bytes,
        headers: dict[bytes, bytes],
        receive: Receive,
        send: Send,
        *,
        json: JsonReader,
        client: Client | None = None,
        protocol: str | None = None,
    ) -> None:
        self._predictions = predictions
        self._catalog = catalog
        self._limits = limits
        self._access = access
        self._request_id = request_id.decode()
        self._headers = headers
        self._receive = receive
        self._send = send
        self._json = json
        self._client = client
        self._protocol = protocol
        self._rate = Rate(limits.messages_per_second)
        self._flights: dict[Id, _Flight] = {}
        self._bytes = 0
        self._out: deque[tuple[Raw, Id | None]] = deque()
        self._close: tuple[int, str] | None = None  # once nothing more is taken
        self._draining = False
        self._news, self._room = Bell(), Bell()  # for the writer, and for the reader
        self._patience = trio.CancelScope()
        self._life = trio.CancelScope()

    async def run(self) -> None:
        """From the greeting until the client has gone; then nothing of it is left in the queue."""
        limits = self._limits
        told: dict[str, Any] = {} if self._protocol is None else {"subprotocol": self._protocol}
        told["headers"] = [(HEADER, self._request_id.encode())]
        await self._send({"type": "websocket.accept", **told})
        greeting = {
            "window": limits.window,
            "max_bytes": limits.max_bytes,
            "max_bytes_in_flight": limits.max_bytes_in_flight,
        }
        self._out.append((write(greeting, like=""), None))
        try:
            with self._life:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._watch)
                    await self._read()
                    nursery.cancel_scope.cancel()
        finally:
            self._abandon()

    def drain(self) -> None:
        """Close when what is in flight is answered."""
        self._draining = True
        self._news.ring()

    # --- tasks

    async def _read(self) -> None:
        while True:
            received = await self._receive()
            if received["type"] == "websocket.disconnect":
                return
            now = trio.current_time()
            if pause := self._rate.wait(now):
                await trio.sleep(pause)
            self._rate.take(1, now + pause)
            text = received.get("text")
            self._take(received["bytes"] if text is None else text)
            while len(self._out) > self._limits.window:
                await self._room.wait()

    async def _write(self) -> None:
        while self._close is None:
            if self._out:
                raw, name = self._out.popleft()
                if name is not None:
                    self._bytes -= self._flights.pop(name).size
                self._patience.deadline = trio.current_time() + self._limits.slow_time
                await self._send({"type": "websocket.send", "text" if isinstance(raw, str) else "bytes": raw})
                self._patience.deadline = math.inf
                self._room.ring()
            elif self._draining and not self._flights:
                self._end(GOING_AWAY, "The server is shutting down; what was in flight is answered.")
            else:
                await self._news.wait()
        code, reason = self._close
        await self._send({"type": "websocket.close", "code": code, "reason": reason})
        self._life.deadline = trio.current_time() + self._limits.close_time

    async def _watch(self) -> None:
        """End the session of a client that does not read."""
        with self._patience:
            await trio.sleep_forever()
        seconds = self._limits.slow_time
        self._end(TRY_AGAIN_LATER, f"No answer was read for {seconds:g} s; what was asked is cancelled.")

    def _end(self, code: int, reason: str) -> None:
        self._close = (code, reason)
        self._abandon()
        self._news.ring()
        self._room.ring()

    def _abandon(self) -> None:
        """Cancel whatever is in flight."""
        for name, flight in self._flights.items():
            if flight.request is not None:
                self._predictions.cancel(flight.request)
                self._note(name, flight, b"", RequestCancelled.code)
        self._flights.clear()
        self._out.clear()
        self._bytes = 0

    # --- messages, between two checkpoints

    def _take(self, raw: Raw) -> None:
        if self._close is not None:
            return
        try:
            message = read_message(raw, self._json)
            if message.cancel is not None:
                self._cancel(message.cancel, raw)
                return
        except InvalidRequest as error:
            self._predictions.refused(DOOR, "", error)
            name = read_id(raw)
            self._say(refused(name, error), name, _Flight(len(raw)), like=raw)
            return
        assert message.id is not None
        flight = _Flight(len(raw), message.request_id)
        try:
            self._check_room(message.id, flight.size)
        except PipelineError as error:
            self._predictions.refused(DOOR, message.model, error)
            self._say(refused(message.id, error), message.id, flight, like=raw)
        else:
            self._ask(message.id, flight, message, raw)

    def _check_room(self, name: Id, size: int) -> None:
        limits = self._limits
        if name in self._flights:
            raise InvalidRequest(f"id {name} is in flight already: use another until it is answered")
        if len(self._flights) >= limits.window:
            raise WindowFull(f"{limits.window} requests are in flight, and no more may be")
        if self._bytes + size > limits.max_bytes_in_flight:
            most = limits.max_bytes_in_flight
            raise WindowFull(f"requests in flight may have {most} bytes together")

    def _ask(self, name: Id, flight: _Flight, message: Message, raw: Raw) -> None:
        self._flights[name] = flight
        self._bytes += flight.size
        many, kind = message.vectors is not None, raw[:0]
        try:
            if self._client is not None:
                self._client.check(time.time())
                self._client.ask(trio.current_time())
            timeout = message.timeout_ms
            seconds = None if timeout is None else check_timeout(timeout, "timeout_ms")
            found = self._find(message)
            signature, buffers, rows = read_input(message, self._predictions.max_rows, found.inputs)
            show, nn_id = shower(message), found.nn_id

            def reply(answer: Answer | PipelineError) -> None:
                flight.request = None
                shown = _shown(name, answer, lambda good: show(good, nn_id), many=many)
                self._say(shown, name, flight, like=kind)

            flight.request = self._predictions.start(
                found, signature, buffers, rows, seconds, reply,
                door=DOOR, header=self._header(message), client=self._client,
            )  # fmt: skip
        except PipelineError as error:
            self._predictions.refused(DOOR, message.model, error)
            self._say(refused(name, error, many=many), name, flight, like=raw)

    def _header(self, message: Message) -> Header:
        """What came beside a message: what the request that opened the connection had, but for its trace."""
        if message.traceparent is None:
            return self._headers.get
        own = {**self._headers, TRACEPARENT: message.traceparent.encode()}
        return own.get

    def _find(self, message: Message) -> Version:
        if message.version is not None:
            return self._catalog.find(message.model, message.version)
        user = message.user

        def header(name: bytes) -> bytes | None:
            return self._headers.get(name) if user is None else user.encode()

        return self._catalog.choose(message.model, header)

    def _cancel(self, name: Id, raw: Raw) -> None:
        """Take a request back; nothing if it is not in flight: its answer may have crossed this message."""
        flight = self._flights.get(name)
        if flight is not None and flight.request is not None:
            self._predictions.cancel(flight.request)
            flight.request = None
            self._say(refused(name, RequestCancelled("the request was cancelled")), name, flight, like=raw)

    def _say(self, value: dict[str, Any], name: Id | None, flight: _Flight, *, like: Raw) -> None:
        """Answer a message, which counts as in flight until that has left, if it did so far."""
        if flight.request_id is not None:
            value["request_id"] = flight.request_id
        raw = write(value, like=like)
        is_taken = name is not None and self._flights.get(name) is flight
        self._out.append((raw, name if is_taken else None))
        self._note(name, flight, raw, value.get("code", "ok"))
        self._news.ring()

    def _note(self, name: Id | None, flight: _Flight, answer: Raw, code: str) -> None:
        """The line of a message that has no id of its own begins with the connection's."""

        def shown() -> str:
            of_message = "" if name is None else f"/{name}"
            return flight.request_id or f"{self._request_id}{of_message}"

        self._access.told(flight.began, answer, code, shown)


def _shown(
    name: Id, answer: Answer | PipelineError, show: Callable[[Answer], dict[str, Any]], *, many: bool
) -> dict[str, Any]:
    if isinstance(answer, PipelineError):
        return refused(name, answer, many=many)
    try:
        return answered(name, show(answer), answer)
    except PipelineError as error:
        return refused(name, error, many=many)
