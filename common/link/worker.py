"""The worker's half: a socket that dials, and threads that answer what comes in. No event loop."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

import pynng

from common.errors import LinkClosed, LinkError, WorkerLost
from common.link.nng import RECONNECT_MAX_MS, RECONNECT_MIN_MS, Frame, mapped_errors, prepare

log = logging.getLogger("pipeline.link")

Handler = Callable[[memoryview], bytes | None]


class Answerer:
    """Threads that receive a frame, call `handler` with it and send what it returns (None: no answer).

    NNG dials in the background for as long as the socket is open, so a gateway may come late, go and
    come back. `handler` must not raise; a bug in it costs that one frame.
    """

    def __init__(self, socket: Any, url: str, handler: Handler, *, threads: int, name: str) -> None:
        self._socket = socket
        self._handler = handler
        with mapped_errors():
            socket.reconnect_time_min = RECONNECT_MIN_MS
            socket.reconnect_time_max = RECONNECT_MAX_MS
            socket.dial(url, block=False)
            self._contexts = [socket.new_context() for _ in range(threads)]
        self.url = url
        self._threads = [
            threading.Thread(target=self._run, args=(context,), name=f"{name}-{i}", daemon=True)
            for i, context in enumerate(self._contexts)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_connected(self) -> bool:
        """Whether the other side is there now."""
        return bool(self._socket.pipes)

    def _run(self, context: Any) -> None:
        while True:
            try:
                with mapped_errors():
                    frame = Frame(context.recv_msg())
                answer = self._handler(frame.view)
                if answer is not None:
                    with mapped_errors():
                        context.send(answer)
            except LinkClosed:
                return
            except (LinkError, WorkerLost) as error:
                log.debug("an answer could not be sent: %s", error)  # its gateway has gone: nothing to do
            except Exception:
                log.exception("a frame's handler failed")

    def close(self) -> None:
        """Stop receiving, and wait until frames in hand are answered or given up (at most 1 s each)."""
        for context in self._contexts:
            with_closed_ignored(context.close)
        with_closed_ignored(self._socket.close)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(timeout=1.0)


def with_closed_ignored(close: Callable[[], None]) -> None:
    """Close what may be closed already."""
    with contextlib.suppress(pynng.exceptions.NNGException):
        close()


def answer_surveys(url: str, handler: Handler, *, threads: int = 4) -> Answerer:
    """Answer the gateway's surveys from `threads` threads, so that a long load never delays a heartbeat."""
    return Answerer(prepare(pynng.Respondent0()), url, handler, threads=threads, name="control")


def answer_requests(url: str, handler: Handler, *, threads: int) -> Answerer:
    """Answer the frames of this worker's own link; the gateway keeps fewer in flight than `threads`."""
    return Answerer(prepare(pynng.Rep0()), url, handler, threads=threads, name="data")
