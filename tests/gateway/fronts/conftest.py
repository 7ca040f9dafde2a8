"""What these tests share: a lane with a front before it, which runs in a thread of the test's own process."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.x509 import IPAddress

from common.channel import Channel, pair
from common.credentials import Identity, read_identity
from common.sockets import bind
from gateway.certificates import init
from gateway.fronts.desk import Desk
from gateway.fronts.front import Front
from gateway.fronts.hub import Hub
from gateway.fronts.secure import SecureFront
from gateway.http1 import Handler, HttpLimits
from gateway.http1.lane import Lane
from tests.gateway.http1.conftest import Client, Served, ServeLane, echo, no_app


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A front goes by the clock of the machine, which no test turns."""
    here = Path(__file__).parent
    items[:] = [
        item
        for item in items
        if here not in item.path.parents or "autojump_clock" not in getattr(item, "fixturenames", ())
    ]


class Fronted:
    """A lane and its front, which are drained together; to a test of the lane, a lane."""

    def __init__(self, lane: Lane, desk: Desk, front: Front, identity: Identity | None) -> None:
        self.identity = identity
        self.lane = lane
        self.desk = desk
        self.front = front
        lane.feeders = 1

    def drain(self, grace: float) -> None:
        self.desk.drain(grace)
        self.lane.drain(grace)

    @property
    def connections(self) -> dict[int, Any]:
        """Those of both."""
        return {**self.front.connections, **self.lane.connections}

    @property
    def limited(self) -> Any:
        """What the gateway counted; it is told what the front did."""
        return self.lane.limited

    @property
    def _handover(self) -> Any:
        return self.lane._handover

    async def run_desk(self, channel: Channel) -> None:
        hub = Hub()
        hub.join(self.desk)
        if self.identity is not None:
            self.desk.show(self.identity)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hub.run)
                await self.desk.ended.wait()
                nursery.cancel_scope.cancel()
            self.lane.feeder_left()
        finally:
            channel.hang_up()  # as the end of a gateway does
            self.desk.end()


class ServedBehind(Served):
    """The same, and empty only once the gateway has heard who left."""

    lane: Any

    async def emptied(self) -> None:
        await super().emptied()
        with trio.fail_after(20):
            while self.lane.desk.asked:
                await trio.lowlevel.checkpoint()


class SecureStream:
    """A client's, with the socket below it where a plain one has it."""

    def __init__(self, plain: trio.SocketStream, context: ssl.SSLContext) -> None:
        # A server that breaks off without saying so is at fault: hence not `https_compatible`.
        self.tls = trio.SSLStream(plain, context, server_hostname="127.0.0.1")
        self.socket = plain.socket
        self.send_all = self.tls.send_all
        self.receive_some = self.tls.receive_some
        self.send_eof = plain.send_eof
        self.aclose = partial(trio.aclose_forcefully, self.tls)


class ServedOverTls(ServedBehind):
    """The same for clients that speak TLS and trust `authority`; `protocols` are what they offer."""

    authority: Path
    protocols: tuple[str, ...] = ()

    async def connect(self) -> Client:
        context = ssl.create_default_context(cafile=self.authority)
        if self.protocols:
            context.set_alpn_protocols(list(self.protocols))
        plain = await trio.open_tcp_stream("127.0.0.1", self.port)
        client = Client(SecureStream(plain, context))
        self.clients.append(client)
        return client


@pytest.fixture
def serve_lane() -> ServeLane:
    """As the lane's own tests have it; `is_ours` says which requests the front reads, else it is those that
    have a direct handler."""
    return partial(serve, Front, ServedBehind, None)


@pytest.fixture
def serve_securely(tmp_path: Path) -> ServeLane:
    """The same behind a front whose clients speak TLS."""
    init(tmp_path, [IPAddress(ip_address("127.0.0.1"))])
    identity = read_identity(tmp_path / "gateway.pem", tmp_path / "gateway.key")

    def make(lane: Any, port: int) -> Served:
        served = ServedOverTls(lane, port)
        served.authority = tmp_path / "ca.pem"
        return served

    return partial(serve, SecureFront, make, identity)


@asynccontextmanager
async def serve(
    kind: type[Front],
    make: Callable[[Any, int], Served],
    identity: Identity | None,
    routes: dict[tuple[str, str], Handler] | None = None,
    app: Callable[[Any, Any, Any], Awaitable[None]] = no_app,
    is_ours: Callable[[str, str], bool] | None = None,
    **limits: Any,
) -> AsyncIterator[Served]:
    table = {("POST", "/echo"): echo} if routes is None else routes
    ours = is_ours or (lambda method, path: (method, path) in table)
    lane = Lane(app, find_direct=lambda m, p: table.get((m, p)), limits=HttpLimits(**limits))
    sockets = bind("127.0.0.1", 0)
    served = make(lane, sockets[0].getsockname()[1])
    mine, its = map(Channel, pair())
    front = kind(its, sockets, HttpLimits(**limits), ours)
    fronted = Fronted(lane, Desk(mine, lane), front, identity)
    served.lane = fronted
    try:
        async with trio.open_nursery() as served.nursery:
            await served.nursery.start(lane.run, [])
            served.nursery.start_soon(fronted.run_desk, mine)
            served.nursery.start_soon(partial(trio.to_thread.run_sync, run, front, its))
            yield served
            served.nursery.cancel_scope.cancel()
    finally:
        for client in served.clients:
            client.stream.socket.close()
        mine.close()
    assert lane.connections == {}
    assert fronted.desk.asked == {}


def run(front: Front, channel: Channel) -> None:
    """A front until its gateway leaves or it is drained, as its process runs it."""
    try:
        front.run()
    except BrokenPipeError:
        pass
    finally:
        for sock in front._listeners.values():
            sock.close()
        for connection in tuple(front.connections.values()):
            connection.kill()
        channel.close()


async def until(happened: Callable[[], Any]) -> None:
    """Returns as soon as it has."""
    with trio.fail_after(20):
        while not happened():
            await trio.lowlevel.checkpoint()
