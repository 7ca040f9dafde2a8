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


def bind(host: str, port: int, *, is_shared: bool = False) -> list[socket.socket]:
    """Listen on every address of `host` ("" is all of them); port 0 picks one free port for all. Others may
    listen there too where it `is_shared`.

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
            if is_shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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


def bind_shares(host: str, port: int, count: int) -> list[list[socket.socket]]:
    """Listen there `count` times over: the kernel deals clients out to all that listen on one address.

    Raises OSError, also where somebody else listens there who would share it.
    """
    shares: list[list[socket.socket]] = []
    alone = bind(host, port)  # which nobody else may be
    port = alone[0].getsockname()[1]
    for sock in alone:
        sock.close()
    try:
        for _ in range(count):
            shares.append(bind(host, port, is_shared=True))
    except BaseException:
        for sock in (sock for share in shares for sock in share):
            sock.close()
        raise
    return shares


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
