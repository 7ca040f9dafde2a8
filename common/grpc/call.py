"""One gRPC call: what came of it, and what is answered. The connection carries it."""

from __future__ import annotations

import enum
import logging
import math
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

import trio

from common.errors import Draining, PipelineError
from common.grpc.framing import Unframer, frame, parse_timeout
from common.grpc.statuses import Refused, Status, status_of

log = logging.getLogger("pipeline.grpc")

FAILED = "The server failed on this request."

Metadata = Sequence[tuple[bytes, bytes]]
"""Lower-case names and printable values."""


class Kind(enum.Enum):
    """What a method takes: one message, or a stream of them."""

    UNARY = "unary"
    STREAM = "stream"


class Method(NamedTuple):
    """One method of a service; messages of at most `short_size` bytes have a direct handler of their own."""

    kind: Kind
    handler: Callable[..., Any]
    short: Callable[[Call, bytes], None] | None = None
    short_size: int = 0
    max_message: int = sys.maxsize  # where it is less than the server's

    def direct_for(self, message: bytes) -> Callable[[Call, bytes], None] | None:
        """What answers this message without a task."""
        return self.short if len(message) <= self.short_size else None


def direct(handler: Callable[[Call, bytes], None]) -> Method:
    """A method that answers through the call, sooner or later."""
    return Method(Kind.UNARY, handler, handler, sys.maxsize)


def unary(
    handler: Callable[[Call, bytes], Awaitable[bytes]],
    *,
    short: Callable[[Call, bytes], None] | None = None,
    short_size: int = 0,
) -> Method:
    """A method that returns its answer; `short`, if there is one, answers messages of up to `short_size`."""
    return Method(Kind.UNARY, handler, short, short_size)


def stream(handler: Callable[[Call], Awaitable[None]]) -> Method:
    """A method that receives and sends as it likes; the call ends well when it returns."""
    return Method(Kind.STREAM, handler)


Admission = Callable[[], Awaitable[Any]]
"""Finds out who calls, where that takes a while; raises `PipelineError` for who may not."""


class Carrier(Protocol):
    """What a call needs of its connection."""

    draining: bool

    def acknowledge(self, call: Call, size: int) -> None: ...
    def pump(self, call: Call) -> None: ...
    def start(self, call: Call, message: bytes | None) -> None: ...


class Call:
    """Invariant: it is answered exactly once, unless it is `over` first because the client has gone; then
    `on_gone` is called, or the task of its handler cancelled.

    `unsent` is what the client's windows have no room for yet, and `trailers` metadata that follows it.
    """

    __slots__ = (
        "_carrier",
        "_limit",
        "_messages",
        "_news",
        "_queued",
        "_unframer",
        "admission",
        "began",
        "client",
        "deadline",
        "ended",
        "headers",
        "id",
        "method",
        "on_gone",
        "opened",
        "over",
        "scope",
        "started",
        "status",
        "stuck_since",
        "text",
        "trailers",
        "unacknowledged",
        "unsent",
        "weighed",
    )  # fmt: skip

    def __init__(
        self,
        carrier: Carrier,
        stream_id: int,
        method: Method,
        headers: dict[bytes, bytes],
        *,
        now: float,
        max_message: int,
        max_queued: int,
    ) -> None:
        self.id = stream_id
        self.method = method
        self.headers = headers
        self.began = now
        timeout = parse_timeout(headers.get(b"grpc-timeout"))
        self.deadline = math.inf if timeout is None else now + timeout
        self.client: Any = None  # who calls, where somebody guards the methods
        self.admission: Admission | None = None  # is to be waited for before the handler is called
        self.on_gone: Callable[[], None] | None = None
        self.scope: trio.CancelScope | None = None
        self.started = False  # its handler was called
        self.ended = False  # the client sends no more
        self.over = False
        self.opened = False  # its answer has begun
        self.status: Status | None = None  # set once nothing more is added to what is unsent
        self.text = ""
        self.trailers: Metadata = ()
        self.unsent: deque[memoryview] = deque()
        self.stuck_since = math.inf  # it has something unsent, and the client no room
        self.unacknowledged = 0
        self.weighed = 0  # what it held when the connection last asked
        self._carrier = carrier
        self._limit = max_queued
        self._messages: deque[bytes] = deque()
        self._queued = 0  # bytes of them
        self._news = trio.Event()
        self._unframer = Unframer(min(max_message, method.max_message), headers.get(b"grpc-encoding"))

    # --- what handlers use

    def header(self, name: bytes) -> bytes | None:
        """A metadata entry by its lower-case name; the last of several."""
        return self.headers.get(name)

    def time_left(self) -> float | None:
        """Seconds until the deadline that the client named; None for none. Never below 0."""
        if self.deadline == math.inf:
            return None
        return max(0.0, self.deadline - trio.current_time())

    def respond(self, message: bytes, trailers: Metadata = ()) -> None:
        """Answer, and end."""
        if not self.over and self.status is None:
            self.unsent.append(memoryview(frame(message)))
            self.trailers = trailers
            self.finish(Status.OK)

    def fail(self, error: PipelineError) -> None:
        """End with what an error is called in gRPC."""
        self.finish(status_of(error), str(error))

    def finish(self, status: Status, text: str = "") -> None:
        """End; the first end counts."""
        if not self.over and self.status is None:
            self.status, self.text = status, text
            self._carrier.pump(self)

    def stop(self, status: Status, text: str) -> None:
        """End, and the handler of a stream with it, which would wait for more."""
        self.finish(status, text)
        if self.scope is not None:
            self.scope.cancel()

    async def receive(self) -> bytes | None:
        """The next message of a stream; None after the last. `Draining` when the server wants to stop."""
        if self.status is not None:
            return None
        while not self._messages:
            if self.ended:
                return None
            if self._carrier.draining:
                raise Draining("Server is shutting down")
            self._news = trio.Event()
            await self._news.wait()
        message = self._messages.popleft()
        self._queued -= len(message)
        if len(self._messages) < self._limit and self.unacknowledged:
            self._carrier.acknowledge(self, self.unacknowledged)
        return message

    def send(self, message: bytes) -> None:
        """One more message of a stream. See `sent`."""
        if not self.over and self.status is None:
            self.unsent.append(memoryview(frame(message)))
            self._carrier.pump(self)

    async def sent(self, most: int) -> None:
        """Until no more than `most` bytes wait for the client to take them."""
        while sum(map(len, self.unsent)) > most:
            self._news = trio.Event()
            await self._news.wait()

    # --- what the connection tells

    @property
    def held(self) -> int:
        """Bytes that came and that no handler has."""
        return self._unframer.held + self._queued

    def received(self, data: bytes, size: int) -> None:
        """Bytes came, `size` of them for flow control. `Refused` if they cannot be taken."""
        messages = self._unframer.feed(data)
        self._messages += messages
        self._queued += sum(map(len, messages))
        self.unacknowledged += size
        if len(self._messages) < self._limit:
            self._carrier.acknowledge(self, self.unacknowledged)
        self.wake()

    def received_all(self) -> None:
        """The client sends no more. `Refused` if that is not what the method takes."""
        self.ended = True
        if self._unframer.held:
            raise Refused(Status.INTERNAL, "the call ends within a message")
        self.wake()
        if self.method.kind is Kind.STREAM:
            return
        if len(self._messages) != 1:
            raise Refused(
                Status.UNIMPLEMENTED, f"the method takes one message, and {len(self._messages)} came"
            )
        self.started = True
        self._queued = 0
        self._carrier.start(self, self._messages.popleft())

    def wake(self) -> None:
        """Something changed that a handler may wait for."""
        self._news.set()

    def gone(self) -> None:
        """Nobody waits for the answer any more."""
        if self.over:
            return
        self.over = True
        self.unsent.clear()
        self._messages.clear()
        if self.scope is not None:
            self.scope.cancel()
        if self.on_gone is not None and self.status is None:
            self.on_gone()

    # --- running the handler

    def run_direct(self, handler: Callable[[Call, bytes], None], message: bytes) -> None:
        """Call a direct handler."""
        try:
            handler(self, message)
        except Exception as error:
            self._failed(error)

    async def admit(self) -> bool:
        """Wait until it is known who calls; whether that one may."""
        if self.admission is not None:
            with trio.CancelScope(deadline=self.deadline) as self.scope:
                try:
                    self.client = await self.admission()
                except Exception as error:
                    self._failed(error)
            if self.scope.cancelled_caught:
                self.finish(Status.DEADLINE_EXCEEDED, "Deadline exceeded")
            self.admission = None
        return not self.over and self.status is None

    async def run(self, message: bytes | None) -> None:
        """Call another handler, until its deadline or until the client goes."""
        with trio.CancelScope(deadline=self.deadline) as self.scope:
            if self.over or self.status is not None:
                return
            try:
                if message is None:
                    await self.method.handler(self)
                    self.finish(Status.OK)
                else:
                    self.respond(await self.method.handler(self, message))
            except Exception as error:
                self._failed(error)
        if self.scope.cancelled_caught:
            self.finish(Status.DEADLINE_EXCEEDED, "Deadline exceeded")

    def _failed(self, error: Exception) -> None:
        if isinstance(error, Refused):
            self.finish(error.status, str(error))
        elif isinstance(error, PipelineError):
            self.fail(error)
        else:
            log.error("a call failed", exc_info=error)
            self.finish(Status.INTERNAL, FAILED)
