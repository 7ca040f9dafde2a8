"""Listening sockets: how they are opened and how clients are taken from them; no protocol here."""

from __future__ import annotations

import errno
import logging
import socket
from typing import Any

log = logging.getLogger("pipeline.http")

BACKLOG = 4096
_AT_ONCE = 256
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


def bind(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of `host` ("" is all of them); port 0 picks one free port for all.

    The sockets do not block. Raises OSError; then none of them is left open.
    """
    found = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, kind, proto, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, proto)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Linux hands this on to every accepted socket.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], port, *address[2:]))
            port = port or sock.getsockname()[1]
            sock.listen(BACKLOG)
            sock.setblocking(False)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def accept_waiting(listener: socket.socket) -> tuple[list[tuple[socket.socket, Any]], bool]:
    """The clients that wait to be accepted, and whether the process has room for more of them."""
    accepted: list[tuple[socket.socket, Any]] = []
    while len(accepted) < _AT_ONCE:
        try:
            sock, peer = listener.accept()
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno in _EXHAUSTED:
                log.error("cannot accept connections for now: %s", error)
                return accepted, False
            continue  # ECONNABORTED and its like: this client has gone, the next may be there
        sock.setblocking(False)
        accepted.append((sock, peer))
    return accepted, True
