"""The gateway's half: one Surveyor0 for the fleet, one Req0 per worker. Everything here runs on trio.

NNG's callbacks come on NNG's threads; they hop to trio's thread at once and do nothing else there.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pynng
import trio
from pynng._aio import AIOHelper
from pynng._nng import ffi, lib

from common.credentials import Credentials
from common.errors import LinkClosed, LinkError, WorkerLost
from common.link.nng import (
    Frame,
    OfPipe,
    Pipes,
    free_unsent,
    is_sent,
    mapped_errors,
    prepare,
    receive_descriptor,
    set_survey_time,
    tls_config,
)

Notify = Callable[[], None]

# Of a request's number, as SP's protocol has it in each header: the first bit says that it is one.
_REQUEST, _NUMBERS = 1 << 31, (1 << 31) - 1
_RECEIVED = 16  # messages that NNG keeps until they are taken; then its peer has to wait


def _hop(callback: OfPipe) -> OfPipe:
    """A pipe callback that runs `callback` in trio's thread; late ones, at shutdown, are dropped."""
    token = trio.lowlevel.current_trio_token()

    def on_nng_thread(pipe: Any) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(callback, pipe)

    return on_nng_thread


async def _send(context: Any, frame: bytes) -> None:
    """Send at once if NNG will take it, else wait until it does."""
    message = pynng.Message(frame)
    if not is_sent(lib.nng_ctx_sendmsg(context.context, message._nng_msg, lib.NNG_FLAG_NONBLOCK), message):
        await _send_later(context, lambda aio: lib.nng_ctx_send(context.context, aio), message)


async def _send_later(sender: Any, send: Callable[[Any], int], message: Any) -> None:
    """Wait until NNG takes a message. A cancelled send gives its memory back."""
    with AIOHelper(sender, "trio") as helper:
        lib.nng_aio_set_msg(helper.aio, message._nng_msg)
        pynng.exceptions.check_err(send(helper.aio))
        message._mem_freed = True
        try:
            await helper.awaitable
        except BaseException:
            free_unsent(helper.aio)
            raise


async def _receive(context: Any) -> Frame:
    """pynng's own `arecv_msg`, without its look-up under a lock of the pipe that the message came by."""
    with AIOHelper(context, "trio") as helper:
        return Frame(await helper.arecv_msg())


async def _close(socket: Any) -> None:
    """Off trio's thread: NNG takes up to 0.1 s for it."""
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(socket.close)


class Surveyor:
    """Asks the whole fleet. Several surveys at once are fine: each has a context of its own."""

    def __init__(self, socket: Any, joined: Notify, left: Notify) -> None:
        self._socket = socket
        self._pipes = Pipes(socket, _hop(lambda _: joined()), _hop(lambda _: left()))

    async def ask(self, question: bytes, survey_time: float, take: Callable[[Frame], bool]) -> None:
        """Hand every answer to `take` until it returns True or `survey_time` seconds are over.

        An answer that comes later is dropped by NNG and never shows up in another survey.
        """
        with mapped_errors():
            context = self._socket.new_context()
            try:
                set_survey_time(context, survey_time)
                await _send(context, question)
                while True:
                    if take(await _receive(context)):
                        return
            except (pynng.exceptions.Timeout, pynng.exceptions.BadState):
                return  # NNG's two ways to say that the survey's time is over
            finally:
                with contextlib.suppress(pynng.exceptions.Closed):
                    context.close()

    @property
    def pipes(self) -> set[int]:
        """Every connection there is now, as `Frame.pipe` calls it."""
        return {pipe.id for pipe in self._pipes}

    def hang_up(self, pipe: int) -> None:
        """End a connection, if it is there."""
        self._pipes.close(pipe)


@contextlib.asynccontextmanager
async def open_surveyor(
    urls: list[str], joined: Notify, left: Notify, credentials: Credentials | None = None
) -> AsyncIterator[Surveyor]:
    """Listen on every url; `joined` and `left` run in trio's thread as workers connect and go. `credentials`
    are for wss and tls+tcp."""
    with mapped_errors():
        socket = prepare(pynng.Surveyor0(tls_config=credentials and tls_config(credentials, None)))
        surveyor = Surveyor(socket, joined, left)
    try:
        for url in urls:
            _listen(socket, url)
        yield surveyor
    finally:
        await _close(socket)


class _Question:
    """What an exchange waits for: a frame, or the error that it ends with."""

    __slots__ = ("answer", "asked", "over", "sending")

    def __init__(self, asked: Any) -> None:
        self.asked = asked  # the connection
        self.answer: Frame | LinkClosed | WorkerLost | None = None
        self.sending: trio.CancelScope | None = None  # while NNG has not taken it
        self.over = trio.Event()

    def end(self, answer: Frame | LinkClosed | WorkerLost) -> None:
        """It is answered, or never will be; the first word counts."""
        if self.answer is None:
            self.answer = answer
            self.over.set()
            if self.sending is not None:
                self.sending.cancel()


class Link:
    """The requester of one worker, whose owner runs `watch`. Invariant: at most one pipe, so a question has
    one possible reader.

    The socket is a raw one, as NNG calls it: it carries messages, and which answer is whose is known here,
    by the number in each one's header. So one descriptor that trio polls tells of all answers, where NNG's
    own requester needs an operation for each, a callback on a thread of NNG's and a wake of trio's loop.
    """

    def __init__(self, socket: Any, joined: Notify, left: Notify) -> None:
        self._socket = socket
        # A stranger that guessed the path, or a half-dead twin, must not share a worker's requests.
        self._pipes = Pipes(socket, _hop(self._came), _hop(self._went), most=1)
        self._joined, self._left = joined, left
        self._descriptor = receive_descriptor(socket)
        self._received = ffi.new("nng_msg **")
        self._numbers = itertools.count()
        self._asked: dict[int, _Question] = {}
        self._pipe: Any = None  # the worker's connection, while there is one
        self._news = trio.lowlevel.ParkingLot()  # of a peer, or the end
        self._closed = False
        self.last_frame = 0  # bytes of what was sent last

    @property
    def port(self) -> int:
        """The TCP port it listens on (0 for other transports)."""
        return getattr(self._socket.listeners[0].local_address, "port", 0) if self._socket.listeners else 0

    async def exchange(self, frame: bytes) -> Frame:
        """Send one frame, as soon as somebody is there, and wait for its answer.

        The caller owns the deadline. Raises `WorkerLost` when the connection breaks (the frame may or
        may not have been worked on) and `LinkClosed` when the link is closed.
        """
        while not (self._closed or self._pipe):
            await self._news.park()
        if self._closed:
            raise LinkClosed("the link is closed")
        number = _REQUEST | next(self._numbers) & _NUMBERS
        question = self._asked[number] = _Question(self._pipe)
        self.last_frame = len(frame)
        try:
            with mapped_errors():
                await self._send(question, number, frame)
            del frame  # which may be large, and NNG has its own copy
            await question.over.wait()
        finally:
            del self._asked[number]
        if isinstance(question.answer, Frame):
            return question.answer
        assert question.answer is not None
        raise question.answer

    async def _send(self, question: _Question, number: int, frame: bytes) -> None:
        message, socket = pynng.Message(frame), self._socket.socket
        pynng.exceptions.check_err(lib.nng_msg_header_append_u32(message._nng_msg, number))
        if not is_sent(lib.nng_sendmsg(socket, message._nng_msg, lib.NNG_FLAG_NONBLOCK), message):
            with trio.CancelScope() as question.sending:  # it is not for whoever comes next
                await _send_later(self._socket, lambda aio: lib.nng_send_aio(socket, aio), message)

    async def watch(self) -> None:
        """Hand every answer to who asked for it, until the link is closed."""
        with contextlib.suppress(trio.ClosedResourceError):
            while not self._closed:
                await trio.lowlevel.wait_readable(self._descriptor)
                self._take()

    def _take(self) -> None:
        """Whatever has come. Answers that nobody waits for any more are dropped."""
        received = self._received
        while lib.nng_recvmsg(self._socket.socket, received, lib.NNG_FLAG_NONBLOCK) == 0:
            frame = Frame(pynng.Message(received[0]))
            question = self._asked.get(frame.number)
            if question is not None:
                question.end(frame)

    def _came(self, pipe: Any) -> None:
        """The worker has connected."""
        self._pipe = pipe
        self._news.unpark_all()
        self._joined()

    def _went(self, pipe: Any) -> None:
        """A connection is over: what was asked over it fails."""
        if self._pipe is pipe:
            self._pipe = None
        if not self._closed:
            self._take()
            for question in self._asked.values():
                if question.asked is pipe:
                    question.end(WorkerLost("the worker's connection broke"))
        self._left()

    def kick(self) -> None:
        """Drop the worker's connection: every exchange raises `WorkerLost`, a live worker dials again."""
        self._pipes.close()

    async def aclose(self) -> None:
        """Close the link; whoever still waits in `exchange` gets `LinkClosed`."""
        if not self._closed:
            self._closed = True
            for question in self._asked.values():
                question.end(LinkClosed("the socket was closed"))
            self._news.unpark_all()
            trio.lowlevel.notify_closing(self._descriptor)
            await _close(self._socket)


def listen_link(url: str, joined: Notify, left: Notify, credentials: Credentials | None = None) -> Link:
    """A new link, listening; `joined` and `left` run in trio's thread as its worker connects and goes.
    `credentials` are for wss and tls+tcp."""
    with mapped_errors():
        tls = credentials and tls_config(credentials, None)
        # It keeps nothing that it cannot send at once: whoever comes next might not be whom it was meant for.
        socket = prepare(pynng.Req0(opener=lib.nng_req0_open_raw, recv_buffer_size=_RECEIVED, tls_config=tls))
        link = Link(socket, joined, left)
    try:
        _listen(socket, url)
    except LinkError:
        socket.close()
        raise
    return link


def _listen(socket: Any, url: str) -> None:
    try:
        with mapped_errors():
            socket.listen(url)
    except LinkError as error:
        raise LinkError(f"cannot listen on {url}: {error}") from error


__all__ = ["Link", "LinkClosed", "Surveyor", "WorkerLost", "listen_link", "open_surveyor"]
