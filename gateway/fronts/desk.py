"""Where the gateway meets one front: its requests go to the doors, and their answers back.

Synchronous; `hub` says when. Answers that come to be in one turn of trio's loop travel in one frame.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import trio

from common.channel import Channel, Frame, packed
from common.credentials import Identity
from gateway.doors.predict.predict import PredictDoor
from gateway.fronts.messages import Handed, Kind
from gateway.http1.request import Refused
from gateway.http1.transport import Buffer
from gateway.scheduling.requests import Answer

log = logging.getLogger("pipeline.http")

_encode = msgspec.msgpack.Encoder().encode


class Carried(msgspec.Struct, array_like=True, eq=False):
    """A request that a front has read, with the interface that doors know of `Exchange`.

    Invariant: it is answered once, or its client has gone, of which `on_gone` is told.
    """

    id: int
    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    vector: bytes = b""  # its one row, packed, where it is that and nothing else
    address: str = ""  # the client's
    client: Any = None  # a Client, where tokens say who asks
    desk: Any = None  # a Desk; None once the client has gone
    began: float = 0.0
    answered: bool = False
    on_gone: Any = None

    @property
    def gone(self) -> bool:
        """Whether its client has left."""
        return self.desk is None

    def header(self, name: bytes) -> bytes | None:
        """The first value of the header `name` (lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def respond(self, status: int, body: bytes, extra: bytes = b"", rest: Sequence[Buffer] = ()) -> None:
        """As `Exchange.respond`; the buffers of `rest` are copied."""
        if self.answered:
            raise RuntimeError(f"{self.method} {self.path} was answered twice.")
        self.answered = True
        self.on_gone = None
        if self.desk is not None:
            self.desk.answer(self, status, b"".join((body, *rest)) if rest else body, extra)

    def reply(self, answer: Answer, nn_id: str) -> None:
        """Answer a request of one `vector`; the front puts it into words."""
        self.answered = True
        self.on_gone = None
        if self.desk is not None:
            self.desk.answer_row(self, answer, nn_id)


class Lane(Protocol):
    """What a desk needs of the gateway's lane."""

    error_body: Callable[[int, str, str], bytes]
    observer: Any
    limited: Counter[str]

    def handler_of(self, exchange: Any) -> Callable[[Any], None] | None: ...

    def adopt(self, sock: socket.socket, peer: Any, read: bytes) -> None: ...


class Desk:
    """One front's requests and answers. Invariant: `asked` has every request of this front that is neither
    answered nor abandoned.

    `on_news` is called when there is something to `flush` and there was nothing before.
    """

    def __init__(self, channel: Channel, lane: Lane, *, with_rows: bool = True) -> None:
        """`with_rows`: answers of rows may go as rows."""
        self.asked: dict[int, Carried] = {}
        self.ended = trio.Event()
        self.heard = 0  # how often the front has said something
        self.is_full = False  # the channel took no more
        self.on_news: Callable[[Desk], None] = lambda desk: None
        self._channel = channel
        self._lane = lane
        self._with_rows = with_rows
        self._answers: list[tuple[int, int, bytes, bytes]] = []
        self._rows: list[tuple[Any, ...]] = []  # fields of `Rows`, and `_batch` has the last of their rows
        self._batch: list[tuple[Any, ...]] = []
        self._by: object = None  # whom these are from
        self._out: deque[memoryview] = deque()
        self._decode = msgspec.msgpack.Decoder(list[Carried]).decode

    def fileno(self) -> int:
        """The channel's."""
        return self._channel.fileno()

    def answer(self, carried: Carried, status: int, body: bytes, extra: bytes) -> None:
        """A whole answer (see `Carried.respond`)."""
        del self.asked[carried.id]
        if self._lane.observer is not None:
            extra += self._lane.observer.answering(carried, status, len(body))
        if not (self._answers or self._rows):
            self.on_news(self)
        self._answers.append((carried.id, status, extra, body))

    def answer_row(self, carried: Carried, answer: Answer, nn_id: str) -> None:
        """The same of a row."""
        del self.asked[carried.id]
        extra = b"" if self._lane.observer is None else self._lane.observer.answering(carried, 200, 0)
        by = answer.by
        if by is not self._by:
            if not (self._answers or self._rows):
                self.on_news(self)
            self._by, self._batch = by, []
            self._rows.append(
                (nn_id, by.worker, by.version, by.batch, by.link, by.infer, answer.outputs, self._batch)
            )
        self._batch.append((carried.id, extra, answer.hit, answer.queue, answer.buffers))

    def drain(self, grace: float) -> None:
        """Have the front accept no more, and end once what it has in hand is over, or `grace` seconds are."""
        self._out.append(memoryview(packed(Kind.DRAIN, _encode(grace))))
        self.on_news(self)

    def show(self, identity: Identity) -> None:
        """Have the front show its next clients this certificate; it takes none before it has one."""
        self._out.append(memoryview(packed(Kind.CERTIFICATE, _encode(identity))))
        self.on_news(self)

    def listen(self) -> bool:
        """Take what the front has sent; whether there may be more."""
        frames, is_open = self._channel.receive_ready()
        self.heard += 1
        for frame in frames:
            self._hear(frame)
        return is_open

    def flush(self) -> bool:
        """Send what there is to say; whether the channel took it all."""
        if self._answers:
            answers, self._answers = self._answers, []
            self._out.append(memoryview(packed(Kind.ANSWERS, _encode(answers))))
        if self._rows:
            rows, self._rows, self._by = self._rows, [], None
            self._out.append(memoryview(packed(Kind.ROWS, _encode(rows))))
        while self._out:
            data = self._out[0]
            try:
                sent = self._channel.socket.send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                self._out.clear()  # it has gone, as whoever reads will find
                return True
            if sent < len(data):
                self._out[0] = data[sent:]
            else:
                self._out.popleft()
        return True

    def end(self) -> None:
        """The front has gone, and its clients with it."""
        self.ended.set()
        for id in list(self.asked):
            self._abandon(id)

    # What the front says.

    def _hear(self, frame: Frame) -> None:
        if frame.kind == Kind.REQUESTS:
            now = trio.current_time()
            for carried in self._decode(frame.body):
                carried.desk, carried.began = self, now
                self.asked[carried.id] = carried
                self._handle(carried)
        elif frame.kind == Kind.GONE:
            for id in msgspec.msgpack.decode(frame.body, type=list[int]):
                self._abandon(id)
        elif frame.kind == Kind.LIMITED:
            self._lane.limited.update(msgspec.msgpack.decode(frame.body, type=dict[str, int]))
        elif frame.kind == Kind.HANDED and frame.fd is not None:
            handed = msgspec.msgpack.decode(frame.body, type=Handed)
            sock = socket.socket(fileno=frame.fd)
            sock.setblocking(False)
            self._lane.adopt(sock, handed.peer, handed.read)

    def _handle(self, carried: Carried) -> None:
        extra = b""
        try:
            handler = self._lane.handler_of(carried)
            if carried.vector and self._with_rows and type(handler) is PredictDoor:
                handler.take_row(carried)
                return
            if handler is not None:
                handler(carried)
                return
            status, message = 404, f"There is nothing at {carried.path}"
        except Refused as refusal:
            status, message, extra = refusal.status, refusal.message, refusal.extra
        except Exception:
            log.exception("the handler of %s %s failed", carried.method, carried.path)
            status, message = 500, "The server failed on this request."
        if not carried.answered:
            carried.respond(status, self._lane.error_body(status, message, carried.path), extra)

    def _abandon(self, id: int) -> None:
        carried = self.asked.pop(id, None)
        if carried is None:
            return  # answered, and the answer on its way to nobody
        carried.desk, called, carried.on_gone = None, carried.on_gone, None
        if called is not None:
            try:
                called()
            except Exception:
                log.exception("on_gone of %s %s failed", carried.method, carried.path)
