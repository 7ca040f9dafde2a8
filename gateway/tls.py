"""TLS before the doors: clients' connections are decrypted here, and go on as plain ones to who serves them.

So HTTP/1.1, HTTP/2, WebSockets and gRPC are each served by what serves them without TLS, and a door that is
not encrypted pays nothing.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from common.accepting import accept_all
from common.credentials import read_identity, server_context
from common.errors import CertificateError
from common.log import event

log = logging.getLogger("pipeline.http")

HANDSHAKE_TIME = 10.0
WRITE_TIME = 30.0  # how long a client may take no byte
MOST = 10_000  # connections
_PIECE = 64 << 10

Adopt = Callable[[socket.socket, Any], None]


class Certificate:
    """What the doors show. Connections that are there keep what they were made with when it changes."""

    def __init__(self, certfile: Path, keyfile: Path) -> None:
        """`CertificateError` where the files cannot be used."""
        self.identity = read_identity(certfile, keyfile)
        self.on_change: Callable[[], None] = lambda: None
        self._files = certfile, keyfile
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}

    def context(self, protocols: Sequence[str]) -> ssl.SSLContext:
        """For the next connection to a door that speaks these protocols, as ALPN calls them."""
        wanted = tuple(protocols)
        if wanted not in self._contexts:
            self._contexts[wanted] = server_context(self.identity, wanted)
        return self._contexts[wanted]

    def reload(self) -> None:
        """Read the files again; those that cannot be used change nothing."""
        try:
            self.identity = read_identity(*self._files)
        except CertificateError as error:
            event(log, logging.ERROR, "the certificate stays as it is", because=error)
        else:
            self._contexts.clear()
            self.on_change()
            event(log, logging.INFO, "certificate read again", certfile=self._files[0])


class TlsListener:
    """Takes TLS connections and gives `adopt` a plain socket for each, with its client's address."""

    def __init__(self, certificate: Certificate, protocols: Sequence[str], adopt: Adopt) -> None:
        self._certificate = certificate
        self._protocols = protocols
        self._adopt = adopt
        self._accepting = trio.CancelScope()
        self._work: trio.Nursery | None = None
        self.open = 0

    async def run(
        self, sockets: list[socket.socket], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve on the listening `sockets`, which are closed at the end, until drained or cancelled."""
        listeners = [trio.socket.from_stdlib_socket(each) for each in sockets]
        async with trio.open_nursery() as self._work:
            task_status.started()
            with self._accepting:
                await accept_all(listeners, self._take, log)

    def drain(self, grace: float) -> None:
        """Stop accepting; connections end as who serves them closes them, or after `grace` seconds."""
        if self._work is not None:
            scope = self._work.cancel_scope
            scope.deadline = min(scope.deadline, trio.current_time() + grace)
        self._accepting.cancel()

    def _take(self, client: trio.socket.SocketType, peer: Any) -> None:
        assert self._work is not None
        if self.open >= MOST:
            client.close()
        else:
            self._work.start_soon(self._serve, trio.SocketStream(client), peer)

    async def _serve(self, client: trio.SocketStream, peer: Any) -> None:
        self.open += 1
        stream = trio.SSLStream(
            client, self._certificate.context(self._protocols), server_side=True, https_compatible=True
        )
        try:
            if await self._shakes_hands(stream):
                await self._carry(stream, peer)
        except OSError as error:
            log.error("a connection cannot be served: %s", error)
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)

    async def _shakes_hands(self, stream: trio.SSLStream[trio.SocketStream]) -> bool:
        with trio.move_on_after(HANDSHAKE_TIME):
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError as error:
                log.debug("no TLS connection: %s", error.__cause__)
                return False
            return True
        return False

    async def _carry(self, stream: trio.SSLStream[trio.SocketStream], peer: Any) -> None:
        """Bytes both ways, until either end has closed."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as plain:
            self._adopt(theirs, peer)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_carry_in, stream, plain)
                await _carry_out(plain, stream)
                nursery.cancel_scope.cancel()


async def _carry_in(stream: trio.abc.ReceiveStream, plain: trio.SocketStream) -> None:
    """What the client says; who serves it may still answer when it has said all."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await stream.receive_some(_PIECE):
            await plain.send_all(data)
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await plain.send_eof()


async def _carry_out(plain: trio.SocketStream, stream: trio.SSLStream[trio.SocketStream]) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
        while data := await plain.receive_some(_PIECE):
            with trio.fail_after(WRITE_TIME):
                await stream.send_all(data)
        with trio.fail_after(WRITE_TIME):
            await stream.aclose()
