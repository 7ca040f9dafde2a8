"""Taking clients from listening sockets, one task for each of these; no protocol here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import trio

_EXHAUSTED_PAUSE = 0.1  # without a file descriptor to spare


async def accept_all(
    listeners: Sequence[trio.socket.SocketType],
    take: Callable[[trio.socket.SocketType, Any], None],
    log: logging.Logger,
) -> None:
    """Give `take` every client and its address, until cancelled; then the listeners are closed."""
    try:
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(_accept, listener, take, log)
    finally:
        for listener in listeners:
            listener.close()


async def _accept(
    listener: trio.socket.SocketType, take: Callable[[trio.socket.SocketType, Any], None], log: logging.Logger
) -> None:
    while True:
        try:
            client, peer = await listener.accept()
        except ConnectionAbortedError:
            continue  # this client has gone, the next may be there
        except OSError as error:
            log.error("cannot accept connections for now: %s", error)
            await trio.sleep(_EXHAUSTED_PAUSE)
            continue
        take(client, peer)
