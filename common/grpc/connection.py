"""One connection of a gRPC client: `Http2` knows the protocol, this moves the bytes and the calls.

One task reads, one writes; unary and stream handlers have tasks of their own, in the connection's nursery. A
direct handler has none: it answers from wherever its answer comes.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import trio

from common.errors import Draining, PipelineError
from common.grpc.call import Admission, Call, Kind, Metadata, Method
from common.grpc.events import Data, Ended, Event, Headers, ProtocolError, Reset, Room
from common.grpc.frames import STATUS_200, Code, literal
from common.grpc.framing import ENCODINGS, encode_text
from common.grpc.http2 import MAX_WINDOW, Http2
from common.grpc.limits import GrpcLimits
from common.grpc.statuses import Refused, Status, status_of

log = logging.getLogger("pipeline.grpc")

_HEADERS = b"".join(
    (
        STATUS_200,
        literal(b"content-type", b"application/grpc"),
        literal(b"grpc-accept-encoding", b",".join(ENCODINGS)),
    )
)
_OK = literal(b"grpc-status", b"0")
_NOT_GRPC = literal(b":status", b"415")
_RECEIVE = 256 << 10
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)

Methods = Mapping[bytes, Method]
Guard = Callable[[bytes, Mapping[bytes, bytes], str], tuple[Any, Admission | None]]
"""Asked of each call once its headers are read, with its path and the client's address: who calls, or what
finds that out. Raises `PipelineError` for who may not."""
REQUEST_ID = b"x-request-id"


class Observer(Protocol):
    """Is told of every call as it ends, by its metadata and the name of its status; says what id it has."""

    def called(self, headers: Mapping[bytes, bytes], began: float, status: str) -> bytes: ...


class Connection:
    """Invariant: every call that is not over is in `calls`."""

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        methods: Methods,
        limits: GrpcLimits,
        *,
        guard: Guard | None = None,
        peer: str = "",
        limited: Counter[str] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.draining = False
        self.peer = peer
        self._guard = guard
        self._limited: Counter[str] = Counter() if limited is None else limited
        self.calls: dict[int, Call] = {}
        self._stream = stream
        self._methods = methods
        self._observer = observer
        self._limits = limits
        self._heard = now = trio.current_time()
        self._http = Http2(
            max_streams=limits.max_calls, window=limits.window, max_frame=limits.max_frame, now=now
        )
        self._blocked: dict[int, Call] = {}  # have something unsent when the connection's window is full
        self._work = trio.Event()
        self._taken = trio.Event()
        self._pinged = False
        self._broken = False  # the client breaks the protocol: it is told why, and that is all
        self._nursery: trio.Nursery

    async def run(self) -> None:
        """Serve until the client goes, or until drained and idle."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._read)
                await self._write()
                self._nursery.cancel_scope.cancel()
        finally:
            for call in list(self.calls.values()):
                self._forget(call)
            await trio.aclose_forcefully(self._stream)

    def drain(self) -> None:
        """Take no new calls; end when those in progress are answered."""
        if not self.draining:
            self.draining = True
            self._http.go_away(MAX_WINDOW)
            self._work.set()
            for call in list(self.calls.values()):
                call.wake()

    def sweep(self, now: float) -> None:
        """End what takes too long to arrive or to leave, and find out whether a silent client is there."""
        limits = self._limits
        for call in list(self.calls.values()):
            if now > call.stuck_since + limits.stall_time:
                self._limited["stall_time"] += 1
                self._http.reset(call.id, Code.CANCEL)
                self._forget(call)
                self._work.set()
            elif not call.started and now > min(call.deadline, call.began + limits.receive_time):
                self._limited["receive_time"] += 1
                call.finish(Status.DEADLINE_EXCEEDED, "Deadline exceeded")
        silent = now - self._heard
        is_slow = now > self._http.waits_since + limits.handshake_time
        if is_slow or silent > limits.silence + limits.ping_time:
            self._limited["handshake_time"] += is_slow
            self._nursery.cancel_scope.cancel()
        elif silent > limits.silence and not self._pinged:
            self._pinged = True
            self._http.ping()
            self._work.set()

    # --- what calls ask for

    def acknowledge(self, call: Call, size: int) -> None:
        """Let the client send so much more."""
        call.unacknowledged = 0
        self._http.acknowledge(call.id, size)
        self._work.set()

    def start(self, call: Call, message: bytes | None) -> None:
        """Call the handler."""
        if call.admission is not None:
            self._nursery.start_soon(self._start_admitted, call, message)
        elif message is not None and (handler := call.method.direct_for(message)) is not None:
            call.run_direct(handler, message)
        else:
            self._nursery.start_soon(call.run, message)

    async def _start_admitted(self, call: Call, message: bytes | None) -> None:
        if await call.admit():
            self.start(call, message)

    def pump(self, call: Call) -> None:
        """Send as much of a call's answer as the client's windows have room for."""
        if call.id not in self.calls:
            return
        self._work.set()
        http = self._http
        if call.unsent and not call.opened:
            call.opened = True
            http.send_headers(call.id, _HEADERS, end=False)
        while call.unsent:
            room = min(http.room(call.id), http.max_send_frame)
            if room <= 0:
                if call.stuck_since == math.inf:
                    call.stuck_since = trio.current_time()
                if http.is_full:
                    self._blocked[call.id] = call
                else:  # its own window is, and has an event of its own
                    self._blocked.pop(call.id, None)
                return
            piece = call.unsent.popleft()
            if len(piece) > room:
                call.unsent.appendleft(piece[room:])
                piece = piece[:room]
            http.send_data(call.id, piece)
        self._blocked.pop(call.id, None)
        call.stuck_since = math.inf
        call.wake()
        if call.status is not None:
            # Without an answer before it the status travels alone, as the answer's only headers.
            block = _status(call.status, call.text, call.trailers)
            block += self._ended(call.headers, call.began, call.status)
            http.send_headers(call.id, block if call.opened else _HEADERS + block, end=True)
            del self.calls[call.id]
            call.over = True

    # --- inside

    async def _write(self) -> None:
        while True:
            self._work = trio.Event()
            if data := self._http.out.take():
                self._taken.set()
                try:
                    with trio.fail_after(self._limits.send_time):
                        await self._stream.send_all(data)
                except trio.TooSlowError:
                    self._limited["send_time"] += 1
                    return
                except _GONE:
                    return
            elif self._broken:
                return
            elif self.draining and not self.calls:
                self._http.go_away(self._http.last)
                await self._linger()
                return
            else:
                await self._work.wait()

    async def _linger(self) -> None:
        """The last words, and the client's end: closed at once, TCP might lose them."""
        with trio.move_on_after(self._limits.linger_time):
            try:
                await self._stream.send_all(self._http.out.take())
                await self._stream.send_eof()
            except _GONE:
                return
            await trio.sleep_forever()  # until `_read` sees the end

    async def _read(self) -> None:
        try:
            while data := await self._stream.receive_some(_RECEIVE):
                self._heard, self._pinged = trio.current_time(), False
                for event in self._http.receive(bytes(data), self._heard):
                    self._on(event)
                self._work.set()
                while self._http.out.unsent > self._limits.max_unsent:
                    self._taken = trio.Event()
                    await self._taken.wait()
        except _GONE:
            pass
        except ProtocolError as error:
            log.debug("a connection breaks the protocol: %s", error)
            self._limited["protocol"] += 1
            self._broken = True
            self._work.set()
            await trio.sleep(self._limits.linger_time)  # `_write` says why, and ends sooner if it can
        self._nursery.cancel_scope.cancel()

    def _on(self, event: Event) -> None:
        call = self.calls.get(event.stream)
        if isinstance(event, Headers):
            self._on_request(event.stream, event.headers)
        elif isinstance(event, Room):
            self._unblock(event.stream)
        elif isinstance(event, Data):
            if call is None or call.status is not None:
                self._http.acknowledge(event.stream, event.size)
            else:
                self._feed(call, lambda: call.received(event.data, event.size))
        elif call is not None and isinstance(event, Ended):
            self._feed(call, call.received_all)
        elif call is not None and isinstance(event, Reset):
            self._forget(call)

    def _forget(self, call: Call) -> None:
        """Nobody will take its answer."""
        del self.calls[call.id]
        self._blocked.pop(call.id, None)
        self._ended(call.headers, call.began, Status.CANCELLED)
        call.gone()

    def _ended(self, headers: dict[bytes, bytes], began: float, status: Status) -> bytes:
        """Tell the observer; the metadata that the client gets for it."""
        if self._observer is None:
            return b""
        return literal(REQUEST_ID, self._observer.called(headers, began, status.name))

    def _unblock(self, stream_id: int) -> None:
        """There is room again: for one call, or for all (0) that have room of their own."""
        if stream_id:
            call = self.calls.get(stream_id)
            if call is not None and call.unsent:
                call.stuck_since = math.inf
                self.pump(call)
            return
        for call in list(self._blocked.values()):
            if self._http.is_full:
                return
            call.stuck_since = math.inf
            self.pump(call)

    def _feed(self, call: Call, feed: Callable[[], None]) -> None:
        if call.status is not None:
            return
        try:
            feed()
            call.weighed = min(call.weighed, call.held)
            if call.held > call.weighed + self._limits.window:  # then only, as all have to be looked at
                call.weighed = call.held
                if sum(each.held for each in self.calls.values()) > self._limits.max_held:
                    raise Refused(Status.RESOURCE_EXHAUSTED, "the connection has sent too much at once")
        except Refused as error:
            self._limited["message"] += 1
            call.stop(error.status, str(error))

    def _on_request(self, stream_id: int, headers: dict[bytes, bytes]) -> None:
        content_type = headers.get(b"content-type", b"")
        if headers.get(b":method") != b"POST" or not content_type.startswith(b"application/grpc"):
            self._http.send_headers(stream_id, _NOT_GRPC, end=True)
            return
        path = headers.get(b":path", b"")
        method = self._methods.get(path)
        try:
            if method is None:
                raise Refused(Status.UNIMPLEMENTED, f"there is no method {path.decode('latin-1')[:200]}")
            if self.draining:
                raise Refused(status_of(Draining()), "Server is shutting down")
            client, admission = None, None
            if self._guard is not None:
                client, admission = self._guard(path, headers, self.peer)
            limits = self._limits
            call = self.calls[stream_id] = Call(
                self, stream_id, method, headers,
                now=trio.current_time(), max_message=limits.max_message, max_queued=limits.max_queued,
            )  # fmt: skip
            call.client, call.admission = client, admission
        except (Refused, PipelineError) as error:
            status = error.status if isinstance(error, Refused) else status_of(error)
            block = _status(status, str(error)) + self._ended(headers, self._heard, status)
            self._http.send_headers(stream_id, _HEADERS + block, end=True)
            return
        if method.kind is Kind.STREAM:
            call.started = True
            self.start(call, None)


def _status(status: Status, text: str, trailers: Metadata = ()) -> bytes:
    if status is Status.OK:
        return b"".join([_OK, *[literal(name, value) for name, value in trailers]])
    return literal(b"grpc-status", b"%d" % status) + literal(b"grpc-message", encode_text(text))
