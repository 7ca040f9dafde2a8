"""What the tests of links share: one way to speak of the network in memory and of NNG's transports."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol

import pytest
import trio
from cryptography.x509 import IPAddress

from common.credentials import Credentials, read_credentials
from common.link.fake import FakeNetwork, FakePeer
from common.link.gateway import Notify, listen_link, open_surveyor
from common.link.worker import answer_requests, answer_surveys
from gateway.certificates import init

Handler = Callable[[memoryview], Awaitable["bytes | None"]]

THREADS = 4


class Heard:
    """How often something happened, and a way to wait for it."""

    def __init__(self) -> None:
        self.times = 0
        self._news = trio.Event()

    def __call__(self) -> None:
        self.times += 1
        self._news.set()
        self._news = trio.Event()

    async def until(self, times: int) -> None:
        with trio.fail_after(10):
            while self.times < times:
                await self._news.wait()
        assert self.times == times


class Peer(Protocol):
    """The worker's end of one connection. Handlers run on trio, whatever they are called from."""

    async def go(self) -> None:
        """Be gone with whatever is in hand."""

    def hang_up(self) -> None:
        """End the connection, if there is one; it dials anew."""


class MemoryPeer:
    def __init__(self, peer: FakePeer) -> None:
        self._peer = peer

    async def go(self) -> None:
        self._peer.close()

    def hang_up(self) -> None:
        self._peer.hang_up()


class ThreadedPeer:
    """The real worker's half, whose threads hop to trio for the handler's answer."""

    def __init__(self, make: Callable[..., Any], url: str, handler: Handler) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._handler = handler
        self._in_hand: set[trio.CancelScope] = set()
        self._gone = False
        self._answerer = make(url, self._on_thread, threads=THREADS)

    def _on_thread(self, frame: memoryview) -> bytes | None:
        return trio.from_thread.run(self._answer, frame, trio_token=self._token)

    async def _answer(self, frame: memoryview) -> bytes | None:
        with trio.CancelScope() as scope:
            if not self._gone:
                self._in_hand.add(scope)
                return await self._handler(frame)
        return None

    async def go(self) -> None:
        self._gone = True
        for scope in self._in_hand:
            scope.cancel()
        await trio.to_thread.run_sync(self._answerer.close)

    def hang_up(self) -> None:
        self._answerer.hang_up()


class MemoryTransport:
    def __init__(self, nursery: trio.Nursery) -> None:
        network = FakeNetwork()
        self.open_surveyor = network.open_surveyor
        self._network = network
        self._nursery = nursery
        self._urls = 0

    def url(self) -> str:
        self._urls += 1
        return f"mem://{self._urls}"

    def answer_requests(self, url: str, handler: Handler) -> Peer:
        peer = FakePeer(self._network, url, handler)
        self._nursery.start_soon(peer.run)
        return MemoryPeer(peer)

    answer_surveys = answer_requests

    def listen_link(self, *how: Any) -> Any:
        return watched(self._network.listen_link(*how), self._nursery)

    async def aclose(self) -> None:
        self._nursery.cancel_scope.cancel()


class NngTransport:
    open_surveyor: Any = staticmethod(open_surveyor)
    _gateway: Credentials | None = None
    _worker: Credentials | None = None

    def __init__(self, nursery: trio.Nursery, scheme: str, folder: str) -> None:
        self._nursery = nursery
        self._scheme = scheme
        if scheme == "tls+tcp":
            self._secure(Path(folder))
        self._folder = folder
        self._urls = 0
        self._peers: list[ThreadedPeer] = []

    def _secure(self, folder: Path) -> None:
        init(folder, [IPAddress(ip_address("127.0.0.1"))])
        gateway, worker = (credentials(folder, end) for end in ("gateway", "worker"))
        self.open_surveyor = partial(open_surveyor, credentials=gateway)
        self._gateway = gateway
        self._worker = worker

    def url(self) -> str:
        self._urls += 1
        if self._scheme == "ipc":
            return f"ipc://{self._folder}/{self._urls}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        return f"{self._scheme}://127.0.0.1:{port}"

    def listen_link(self, url: str, joined: Notify, left: Notify, own: Credentials | None = None) -> Any:
        return watched(listen_link(url, joined, left, own or self._gateway), self._nursery)

    def answer_requests(self, url: str, handler: Handler) -> Peer:
        return self._start(answer_requests, url, handler)

    def answer_surveys(self, url: str, handler: Handler) -> Peer:
        return self._start(answer_surveys, url, handler)

    def _start(self, make: Callable[..., Any], url: str, handler: Handler) -> Peer:
        peer = ThreadedPeer(partial(make, credentials=self._worker), url, handler)
        self._peers.append(peer)
        return peer

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            for peer in self._peers:
                await peer.go()


def credentials(folder: Path, end: str) -> Credentials:
    """What one end of the fleet proves itself by, of the files that `gw.py certs` made."""
    return read_credentials(
        folder / "ca.pem", folder / f"{end}.pem", folder / f"{end}.key", listens=end == "gateway"
    )


def watched(link: Any, nursery: trio.Nursery) -> Any:
    """The link, whose answers are handed out from now on."""
    nursery.start_soon(link.watch)
    return link


Transport = MemoryTransport | NngTransport
OpenTransport = Callable[[], AbstractAsyncContextManager[Transport]]


@pytest.fixture
def folder() -> Iterator[str]:
    # Not tmp_path: the path of a Unix socket has room for about a hundred bytes.
    folder = tempfile.mkdtemp(prefix="link-")
    yield folder
    shutil.rmtree(folder)


# Not ws and wss: where one process has both ends and closes one, NNG 1.11 panics now and then
# (docs/decisions.md). Workers dial ws in tests/e2e, where each end has a process of its own.
@pytest.fixture(params=["memory", "ipc", "tcp", "tls+tcp"])
def open_transport(request: pytest.FixtureRequest, folder: str) -> OpenTransport:
    """`async with open_transport() as transport:`, and at its end every peer is gone."""

    @asynccontextmanager
    async def open_it() -> AsyncIterator[Transport]:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                transport: Transport = MemoryTransport(nursery)
                if request.param != "memory":
                    transport = NngTransport(nursery, request.param, folder)
                try:
                    yield transport
                finally:
                    await transport.aclose()

    return open_it
