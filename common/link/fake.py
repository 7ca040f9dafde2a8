"""A network in memory, for tests: both halves of links and surveys, without sockets and threads, so that it
works in virtual time. It keeps the contract of the real halves: tests/common/link runs the same over each.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import trio

from common.errors import LinkClosed, LinkError, PipelineError, WorkerLost
from common.link import nng

REDIAL = 0.02

Notify = Callable[[], None]
Handler = Callable[[memoryview], Awaitable["bytes | None"]]


class FakeFrame:
    """A received message, and the connection that it came by, where that is told apart."""

    def __init__(self, data: bytes, pipe: int = 0) -> None:
        self.view = memoryview(data)
        self.pipe = pipe


class FakeNetwork:
    """Whoever listens, by url. It stands for a machine's sockets: urls mean nothing more."""

    def __init__(self) -> None:
        self.listening: dict[str, _Listener] = {}
        self.numbers = itertools.count(1)  # of connections

    @contextlib.asynccontextmanager
    async def open_surveyor(
        self, urls: list[str], joined: Notify, left: Notify
    ) -> AsyncIterator[FakeSurveyor]:
        """Listen on every url; `joined` and `left` run between tasks as peers connect and go."""
        surveyor = FakeSurveyor(self, joined, left)
        try:
            for url in urls:
                surveyor.listen(url)
            yield surveyor
        finally:
            await surveyor.aclose()

    def listen_link(self, url: str, joined: Notify, left: Notify) -> FakeLink:
        """A new link, listening; `joined` and `left` run between tasks as its peer connects and goes."""
        link = FakeLink(self, joined, left)
        link.listen(url)
        return link


class _Listener:
    """The gateway's end of some connections, and what was asked over them."""

    def __init__(self, network: FakeNetwork, joined: Notify, left: Notify) -> None:
        self._network = network
        self._hop = trio.lowlevel.current_trio_token().run_sync_soon
        self._joined, self._left = joined, left
        self._urls: list[str] = []
        self._closed = False
        self.peers: list[FakePeer] = []

    def listen(self, url: str) -> None:
        if url in self._network.listening:
            raise LinkError(f"cannot listen on {url}: the address is in use: is another gateway running?")
        self._network.listening[url] = self
        self._urls.append(url)

    def accept(self, peer: FakePeer) -> bool:
        """A peer dials: whether it may stay."""
        self.peers.append(peer)
        self._hop(self._joined)
        return True

    def lose(self, peer: FakePeer) -> None:
        """A peer's connection is over."""
        self.peers.remove(peer)
        self._hop(self._left)

    async def aclose(self) -> None:
        """Stop listening, and end every connection."""
        self._closed = True
        for url in self._urls:
            self._network.listening.pop(url, None)
        for peer in list(self.peers):
            peer.hang_up()
        await trio.lowlevel.checkpoint()


class FakeSurveyor(_Listener):
    """Asks every peer. `broken`: what a survey that cannot be sent raises."""

    broken: PipelineError | None = None

    async def ask(self, question: bytes, survey_time: float, take: Callable[[FakeFrame], bool]) -> None:
        """Hand every answer to `take` until it returns True or `survey_time` seconds are over."""
        await trio.lowlevel.checkpoint()
        if self.broken is not None:
            raise self.broken
        send, receive = trio.open_memory_channel[FakeFrame](math.inf)

        def reply(pipe: int, answer: bytes) -> None:
            with contextlib.suppress(trio.ClosedResourceError, trio.BrokenResourceError):
                send.send_nowait(FakeFrame(answer, pipe))  # unless the survey is over

        with trio.move_on_after(survey_time), send, receive:
            for peer in list(self.peers):
                peer.deliver(question, partial(reply, peer.pipe))
            async for answer in receive:
                if take(answer):
                    return

    @property
    def pipes(self) -> set[int]:
        """Every connection there is now, as `FakeFrame.pipe` calls it."""
        return {peer.pipe for peer in self.peers}

    def hang_up(self, pipe: int) -> None:
        """End a connection, if it is there."""
        for peer in [peer for peer in self.peers if peer.pipe == pipe]:
            peer.hang_up()


class FakeLink(_Listener):
    """One peer at most. What is sent waits for it; its end fails what it was asked."""

    def __init__(self, network: FakeNetwork, joined: Notify, left: Notify) -> None:
        super().__init__(network, joined, left)
        self._news = trio.lowlevel.ParkingLot()
        self._calls: set[_Call] = set()
        self._over = trio.Event()
        self.last_frame = 0

    async def exchange(self, frame: bytes) -> FakeFrame:
        """Send one frame and wait for its answer: `WorkerLost`, `LinkClosed` as the real link."""
        while not self.peers and not self._closed:
            await self._news.park()
        if self._closed:
            raise LinkClosed("the link is closed")
        call = _Call()
        self.last_frame = len(frame)
        self._calls.add(call)
        self.peers[0].deliver(frame, call.end)
        try:
            return await call.outcome()
        finally:
            self._calls.discard(call)

    async def watch(self) -> None:
        """Nothing, until the link is closed: a peer answers who asked."""
        await self._over.wait()

    def kick(self) -> None:
        """Drop the peer's connection; it dials again."""
        for peer in list(self.peers):
            peer.hang_up()

    def accept(self, peer: FakePeer) -> bool:
        if self.peers:
            return False
        self._news.unpark_all()
        return super().accept(peer)

    def lose(self, peer: FakePeer) -> None:
        super().lose(peer)
        for call in self._calls:
            call.end(WorkerLost("the worker's connection broke"))

    async def aclose(self) -> None:
        for call in self._calls:
            call.end(LinkClosed("the socket was closed"))
        self._news.unpark_all()
        self._over.set()
        await super().aclose()


class _Call:
    """An exchange's outcome: the first one counts."""

    def __init__(self) -> None:
        self._over = trio.Event()
        self._outcome: bytes | PipelineError = b""

    def end(self, outcome: bytes | PipelineError) -> None:
        if not self._over.is_set():
            self._outcome = outcome
            self._over.set()

    async def outcome(self) -> FakeFrame:
        await self._over.wait()
        if isinstance(self._outcome, PipelineError):
            raise self._outcome
        return FakeFrame(self._outcome)


class FakePeer:
    """The worker's half: dials `url` for as long as `run` does, and answers frames with what `handler`
    returns (None: no answer), any number at once. What `handler` raises is a test's mistake: `run` raises it.
    """

    def __init__(self, network: FakeNetwork, url: str, handler: Handler) -> None:
        self.url = url
        self.pipe = 0  # its connection's number, another one each time
        self._network = network
        self._handler = handler
        self._listener: _Listener | None = None
        self._nursery: trio.Nursery
        self._scope = trio.CancelScope()
        self._unconnected = trio.Event()
        self._running = trio.Event()
        self._dialling = trio.Event()
        self.go_on()

    async def run(self) -> None:
        """Be there, until cancelled or closed."""
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                try:
                    while True:
                        await self._dialling.wait()
                        self._dial()
                        if self._listener is not None:
                            await self._unconnected.wait()
                        await trio.sleep(REDIAL)
                finally:
                    self.hang_up()

    def close(self) -> None:
        """Go at once, with whatever is in hand, as a process does that is killed."""
        self._scope.cancel()
        self.hang_up()

    def stop(self, *, dials: bool = False) -> None:
        """Be there and say nothing, as a process that is stopped. One whose own threads are stuck `dials`,
        as NNG's are not."""
        self._running = trio.Event()
        if not dials:
            self._dialling = trio.Event()

    def go_on(self) -> None:
        """Run again after a `stop`."""
        self._running.set()
        self._dialling.set()

    def hang_up(self) -> None:
        """End the connection, from whichever side; it is dialled again soon."""
        if self._listener is not None:
            listener, self._listener = self._listener, None
            listener.lose(self)
            self._unconnected.set()

    def deliver(self, frame: bytes, reply: Callable[[bytes], None]) -> None:
        """Take a frame from the other side; `reply` is called with the answer, if there is one."""
        if len(frame) > nng.MAX_FRAME:
            self.hang_up()
        else:
            self._nursery.start_soon(self._answer, frame, reply, self._unconnected)

    def _dial(self) -> None:
        listener = self._network.listening.get(self.url)
        self.pipe = next(self._network.numbers)
        if listener is not None and not self._scope.cancel_called and listener.accept(self):
            self._listener = listener
            self._unconnected = trio.Event()

    async def _answer(self, frame: bytes, reply: Callable[[bytes], None], unconnected: trio.Event) -> None:
        await self._running.wait()
        answer = await self._handler(memoryview(frame))
        await self._running.wait()
        if answer is None or unconnected.is_set():
            return
        if len(answer) > nng.MAX_FRAME:
            self.hang_up()
        else:
            reply(answer)
