"""The worker's half: a socket that dials, and threads that answer what comes in. No event loop."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pynng
from pynng._nng import ffi, lib

from common.addresses import parse_address
from common.credentials import Credentials
from common.errors import LinkClosed, LinkError, WorkerLost
from common.link.nng import (
    RECONNECT_MAX_MS,
    RECONNECT_MIN_MS,
    Frame,
    Pipes,
    mapped_errors,
    prepare,
    tls_config,
)

log = logging.getLogger("pipeline.link")

Handler = Callable[[memoryview], bytes | None]

CLOSE_TIME = 1.0
# NNG 1.11 now and then aborts the process that closes a WebSocket right after it wrote to it.
QUIET_TIME = 0.05


class _Port:
    """A context for one thread, which alone may use it; `call_off` is for the others.

    pynng's own blocking receive ends only when its context is closed, and NNG 1.11 panics when a context is
    closed while its thread begins to send or receive.
    """

    def __init__(self, socket: Any) -> None:
        with mapped_errors():
            self._context = socket.new_context()
            aio = ffi.new("nng_aio **")
            pynng.exceptions.check_err(lib.nng_aio_alloc(aio, ffi.NULL, ffi.NULL))
            self._aio = aio[0]

    def receive(self) -> Frame:
        """Wait for a frame; `LinkError` when called off."""
        with mapped_errors():
            lib.nng_ctx_recv(self._context.context, self._aio)
            lib.nng_aio_wait(self._aio)
            pynng.exceptions.check_err(lib.nng_aio_result(self._aio))
            return Frame(pynng.Message(lib.nng_aio_get_msg(self._aio)))

    def call_off(self) -> None:
        """End a `receive` that waits now."""
        lib.nng_aio_cancel(self._aio)

    def send(self, answer: bytes) -> None:
        """Answer the frame received last."""
        with mapped_errors():
            self._context.send(answer)

    def close(self) -> None:
        """Give the context back. The aio stays: somebody may be about to call off."""
        with_closed_ignored(self._context.close)


class Answerer:
    """Threads that receive a frame, call `handler` with it and send what it returns (None: no answer).

    NNG dials in the background for as long as the socket is open, so a gateway may come late, go and
    come back. `handler` must not raise; a bug in it costs that one frame.
    """

    def __init__(self, socket: Any, url: str, handler: Handler, *, threads: int, name: str) -> None:
        self._socket = socket
        self._handler = handler
        self._closed = False
        self.url = url
        self._pipes = Pipes(socket)
        with mapped_errors():
            socket.reconnect_time_min = RECONNECT_MIN_MS
            socket.reconnect_time_max = RECONNECT_MAX_MS
            socket.dial(url, block=False)
        ports = [_Port(socket) for _ in range(threads)]
        self._threads = {
            threading.Thread(target=self._run, args=(port,), name=f"{name}-{i}", daemon=True): port
            for i, port in enumerate(ports)
        }
        for thread in self._threads:
            thread.start()

    @property
    def is_connected(self) -> bool:
        """Whether the other side is there now."""
        return self.connection is not None

    @property
    def connection(self) -> object:
        """The connection that there is now, the same object as long as it lasts; None for none."""
        return next(iter(self._pipes), None)

    def hang_up(self) -> None:
        """Let go of the connection, if there is one; NNG dials anew.

        Its dialer is left alone: NNG 1.11 panics at times when one is closed as it gets through.
        """
        self._pipes.close()

    def _run(self, port: _Port) -> None:
        while not self._closed:
            try:
                frame = port.receive()  # by name: its view does not keep it alive
                answer = self._handler(frame.view)
                if answer is not None:
                    port.send(answer)
            except LinkClosed:
                break
            except (LinkError, WorkerLost) as error:
                log.debug("nothing to answer, or nobody: %s", error)  # called off, or its gateway has gone
            except Exception:
                log.exception("a frame's handler failed")
        port.close()

    def close(self) -> None:
        """Stop receiving, wait until frames in hand are answered (at most 1 s in all), and close."""
        self._closed = True
        deadline = time.monotonic() + CLOSE_TIME
        waiting = [(t, p) for t, p in self._threads.items() if t is not threading.current_thread()]
        while any(thread.is_alive() for thread, _ in waiting) and time.monotonic() < deadline:
            for thread, port in waiting:
                port.call_off()  # again and again: it may have been about to receive
                thread.join(timeout=0.01)
        if self.url.startswith("ws"):
            time.sleep(QUIET_TIME)
        with_closed_ignored(self._socket.close)


def with_closed_ignored(close: Callable[[], None]) -> None:
    """Close what may be closed already."""
    with contextlib.suppress(pynng.exceptions.NNGException):
        close()


def answer_surveys(
    url: str, handler: Handler, *, threads: int = 4, credentials: Credentials | None = None
) -> Answerer:
    """Answer the gateway's surveys from `threads` threads, so that a long load never delays a heartbeat.
    `credentials` are for wss and tls+tcp."""
    socket = prepare(pynng.Respondent0(tls_config=_tls(url, credentials)))
    return Answerer(socket, url, handler, threads=threads, name="control")


def answer_requests(
    url: str, handler: Handler, *, threads: int, credentials: Credentials | None = None
) -> Answerer:
    """Answer the frames of this worker's own link; the gateway keeps fewer in flight than `threads`.
    `credentials` are for wss and tls+tcp."""
    socket = prepare(pynng.Rep0(tls_config=_tls(url, credentials)))
    return Answerer(socket, url, handler, threads=threads, name="data")


def _tls(url: str, credentials: Credentials | None) -> Any:
    """The gateway has to be the host that is dialled."""
    return credentials and tls_config(credentials, parse_address(url).host)
