"""The gateway's half: one Surveyor0 for the fleet, one Req0 per worker. Everything here runs on trio.

NNG's callbacks come on NNG's threads; they hop to trio's thread at once and do nothing else there.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pynng
import trio
from pynng._aio import AIOHelper
from pynng._nng import lib

from common.credentials import Credentials
from common.errors import LinkClosed, LinkError, WorkerLost
from common.link.nng import (
    Frame,
    free_unsent,
    mapped_errors,
    on_pipes,
    prepare,
    send_nowait,
    set_survey_time,
    tls_config,
)

Notify = Callable[[], None]


def _hop(callback: Notify) -> Callable[[Any], None]:
    """A pipe callback that runs `callback` in trio's thread; late ones, at shutdown, are dropped."""
    token = trio.lowlevel.current_trio_token()

    def on_nng_thread(_pipe: Any) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(callback)

    return on_nng_thread


async def _send(context: Any, frame: bytes) -> None:
    """Send at once if NNG will take it, else wait until it does. A cancelled send gives its memory back."""
    message = send_nowait(context, frame)
    if message is None:
        return
    with AIOHelper(context, "trio") as helper:
        lib.nng_aio_set_msg(helper.aio, message._nng_msg)
        pynng.exceptions.check_err(lib.nng_ctx_send(context.context, helper.aio))
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


async def _close(socket: Any, contexts: list[Any]) -> None:
    """Contexts first, then the socket, off trio's thread: NNG takes up to 0.1 s for it."""

    def close() -> None:
        for context in contexts:
            with contextlib.suppress(pynng.exceptions.Closed):
                context.close()
        socket.close()

    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(close)


class Surveyor:
    """Asks the whole fleet. Several surveys at once are fine: each has a context of its own."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

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
        return set(self._socket._pipes)

    def hang_up(self, pipe: int) -> None:
        """End a connection, if it is there."""
        found = self._socket._pipes.get(pipe)
        if found is not None:
            with contextlib.suppress(pynng.exceptions.NNGException):
                found.close()


@contextlib.asynccontextmanager
async def open_surveyor(
    urls: list[str], joined: Notify, left: Notify, credentials: Credentials | None = None
) -> AsyncIterator[Surveyor]:
    """Listen on every url; `joined` and `left` run in trio's thread as workers connect and go. `credentials`
    are for wss and tls+tcp."""
    with mapped_errors():
        socket = prepare(pynng.Surveyor0(tls_config=credentials and tls_config(credentials, None)))
        on_pipes(socket, _hop(joined), _hop(left))
    try:
        for url in urls:
            _listen(socket, url)
        yield Surveyor(socket)
    finally:
        await _close(socket, [])


class Link:
    """The Req0 socket of one worker. Invariant: at most one pipe, so a request has one possible reader."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._idle: list[Any] = []
        self._contexts: list[Any] = []
        self._closed = False
        self.last_frame = 0  # bytes of what was sent last

    @property
    def port(self) -> int:
        """The TCP port it listens on (0 for other transports)."""
        return getattr(self._socket.listeners[0].local_address, "port", 0) if self._socket.listeners else 0

    async def exchange(self, frame: bytes) -> Frame:
        """Send one frame and wait for its answer.

        The caller owns the deadline. Raises `WorkerLost` when the connection breaks (the frame may or
        may not have been worked on) and `LinkClosed` when the link is closed.
        """
        if self._closed:
            raise LinkClosed("the link is closed")
        context = self._idle.pop() if self._idle else self._new_context()
        self.last_frame = len(frame)
        try:
            with mapped_errors():
                await _send(context, frame)
                del frame  # which may be large, and NNG has its own copy
                return await _receive(context)
        finally:
            self._idle.append(context)

    def kick(self) -> None:
        """Drop the worker's connection: every exchange raises `WorkerLost`, a live worker dials again."""
        for pipe in self._socket.pipes:
            with contextlib.suppress(pynng.exceptions.NNGException):
                pipe.close()

    def _new_context(self) -> Any:
        with mapped_errors():
            context = self._socket.new_context()
        self._contexts.append(context)
        return context

    async def aclose(self) -> None:
        """Close the link; whoever still waits in `exchange` gets `LinkClosed`."""
        if not self._closed:
            self._closed = True
            await _close(self._socket, self._contexts)


def _refuse_second_pipe(pipe: Any) -> None:
    """A stranger that guessed the path, or a half-dead twin, must not share a worker's requests."""
    if len(pipe.socket.pipes) > 1:
        pipe.close()


def listen_link(url: str, joined: Notify, left: Notify, credentials: Credentials | None = None) -> Link:
    """A new link, listening; `joined` and `left` run in trio's thread as its worker connects and goes.
    `credentials` are for wss and tls+tcp."""
    with mapped_errors():
        tls = credentials and tls_config(credentials, None)
        socket = prepare(pynng.Req0(resend_time=-1, tls_config=tls))
        socket.add_pre_pipe_connect_cb(_refuse_second_pipe)
        on_pipes(socket, _hop(joined), _hop(left))
    try:
        _listen(socket, url)
    except LinkError:
        socket.close()
        raise
    return Link(socket)


def _listen(socket: Any, url: str) -> None:
    try:
        with mapped_errors():
            socket.listen(url)
    except LinkError as error:
        raise LinkError(f"cannot listen on {url}: {error}") from error


__all__ = ["Link", "LinkClosed", "Surveyor", "WorkerLost", "listen_link", "open_surveyor"]
