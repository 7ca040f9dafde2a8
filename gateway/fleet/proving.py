"""Where there is a fleet token: surveys and links that only who holds it can use. Edge of `common.proving`,
which decides.

Strangers are counted and let go of: who proves something wrong, at once; who proves nothing, after a while.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple, Protocol

import trio

from common import wire
from common.errors import NotSent, PipelineError, Unproven, WireError
from common.log import OncePer, event
from common.proving import GatewayProver, fleet_key, is_same_address
from common.sealing import ANSWER, QUESTION
from gateway.bell import Bell
from gateway.fleet.fleet import FleetLink, OpenLink
from gateway.fleet.links import Links
from gateway.fleet.surveys import Asker, Frame

log = logging.getLogger("pipeline.fleet")

PATIENCE = 10.0  # seconds that somebody may be connected and prove nothing
LINK_TIME = 2.0  # … and who comes to a link, which waits for one worker


class SurveyFrame(Frame, Protocol):
    """A frame, and which connection it came by."""

    @property
    def pipe(self) -> int: ...


class Surveyor(Protocol):
    """What carries surveys, and knows its connections."""

    @property
    def pipes(self) -> set[int]: ...

    async def ask(self, question: bytes, survey_time: float, take: Callable[[SurveyFrame], bool]) -> None: ...

    def hang_up(self, pipe: int) -> None: ...


class _Opened:
    """A frame that came in another, which was sealed."""

    def __init__(self, view: memoryview) -> None:
        self.view = view


class Proving:
    """Asks the fleet, as `Surveys` wants it, and opens links, as the fleet does. `owns` are the addresses at
    which the gateway listens for surveys, `came` has a survey follow at once."""

    def __init__(
        self, token: str, surveyor: Surveyor, open_link: OpenLink, owns: list[str], came: Bell
    ) -> None:
        def is_own(address: str) -> bool:
            return any(is_same_address(address, own) for own in owns)

        self.strangers = 0
        self.prover = GatewayProver(fleet_key(token), uuid.uuid4().hex, is_own)
        self._surveyor = surveyor
        self._open_link = open_link
        self._came = came
        self._unproven: dict[int, float] = {}  # since when connections are there that proved nothing
        self._proven: set[int] = set()
        self._noted = OncePer(10.0)
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Try who comes to links, for as long as the block takes."""
        async with trio.open_nursery() as self._nursery:
            yield
            self._nursery.cancel_scope.cancel()

    async def ask(self, question: bytes, survey_time: float, take: Callable[[Frame], bool]) -> None:
        """Hand every answer of a worker that has proved itself to `take`; see the surveyor's."""
        self._drop_silent()
        survey = self.prover.ask(question)

        def opened(frame: SurveyFrame) -> bool:
            try:
                answer = self.prover.hear(survey, frame.view)
            except WireError as error:
                self._refuse("survey", error)
                self._surveyor.hang_up(frame.pipe)
                answer = None
            if self.prover.is_awaited:
                self._came.ring()
            if answer is None:
                return False
            self._proven.add(frame.pipe)
            return take(_Opened(answer))

        await self._surveyor.ask(survey.frame, survey_time, opened)

    def open_link(
        self, hello: wire.HelloAnswer, joined: Callable[[], None], left: Callable[[], None]
    ) -> tuple[FleetLink, str]:
        """A link whose worker has joined when it has proved itself over it."""
        proven = ProvenLink(hello.worker, self, joined, left)
        proven.link, endpoint = self._open_link(hello, proven.connected, proven.disconnected)
        return proven, endpoint

    def start(self, prove: Callable[[], Awaitable[None]]) -> None:
        """Have a link's end proved."""
        if self._nursery is not None:
            self._nursery.start_soon(prove)

    def _drop_silent(self) -> None:
        now, pipes = trio.current_time(), self._surveyor.pipes
        self._proven &= pipes
        self._unproven = {pipe: self._unproven.get(pipe, now) for pipe in pipes - self._proven}
        for pipe, since in self._unproven.items():
            if now - since > PATIENCE:
                self._refuse("survey", Unproven("it was silent"))
                self._surveyor.hang_up(pipe)
                self._unproven[pipe] = now

    def _refuse(self, where: str, error: PipelineError) -> None:
        self.strangers += 1
        suppressed = self._noted.allow(str(error), trio.current_time())
        if suppressed is not None:
            event(log, logging.WARNING, "stranger refused", at=where, because=error, more=suppressed)

    def refuse_at_link(self, worker: str, error: PipelineError) -> None:
        """Count somebody who came to a worker's link and is not that worker."""
        self._refuse(f"link of {worker}", error)


class Contact(NamedTuple):
    """By what a gateway speaks to its fleet. `strangers` says how many were refused."""

    asker: Asker
    open_link: OpenLink
    strangers: Callable[[], int] = lambda: 0


@asynccontextmanager
async def open_contact(
    token: str | None, surveyor: Surveyor, links: Links, came: Bell
) -> AsyncIterator[Contact]:
    """Surveys and links as they are, or for those that hold the token."""
    if token is None:
        yield Contact(surveyor, links.open_link)
        return
    proving = Proving(token, surveyor, links.open_link, links.services, came)
    async with proving.run():
        yield Contact(proving, proving.open_link, lambda: proving.strangers)


class ProvenLink:
    """A worker's link, which carries nothing until a frame has been there and back sealed, each time that it
    is connected."""

    def __init__(
        self, worker: str, proving: Proving, joined: Callable[[], None], left: Callable[[], None]
    ) -> None:
        self.link: FleetLink
        self._worker = worker
        self._proving = proving
        self._joined, self._left = joined, left
        self._scope: trio.CancelScope | None = None  # of what uses this connection
        self._is_proven = False

    @property
    def last_frame(self) -> int:
        """Bytes of what was sent last."""
        return self.link.last_frame

    async def exchange(self, frame: bytes) -> Frame:
        """Send one frame and wait for its answer; raises as `Link.exchange`, and `Unproven`."""
        if not self._is_proven:
            raise NotSent("the worker has not proved itself over its link")
        return await self._exchange(frame)

    async def _exchange(self, frame: bytes) -> Frame:
        session = self._proving.prover.session(self._worker)
        if session is None:
            raise NotSent("the worker has no session")
        number, sealed = session.seal(QUESTION, self._worker, frame)
        answer = await self.link.exchange(sealed)
        message, buffers = wire.decode(answer.view)
        if (
            not isinstance(message, wire.Sealed)
            or len(buffers) != 1
            or message.number != number
            or not session.fits(ANSWER, message, buffers[0])
        ):
            raise Unproven("an answer over a link is not sealed by its worker")
        return _Opened(buffers[0])

    def kick(self) -> None:
        """Drop the connection."""
        self.link.kick()

    async def watch(self) -> None:
        """Hand out answers, until the link is closed."""
        await self.link.watch()

    async def aclose(self) -> None:
        """Close the link."""
        self.disconnected()
        await self.link.aclose()

    def connected(self) -> None:
        """Somebody is there: the worker, if it can prove that."""
        self._scope = trio.CancelScope()
        self._proving.start(lambda scope=self._scope: self._prove(scope))  # type: ignore[misc]

    def disconnected(self) -> None:
        """Whoever was there is gone."""
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None
        was_proven, self._is_proven = self._is_proven, False
        if was_proven:
            self._left()

    async def _prove(self, scope: trio.CancelScope) -> None:
        error: PipelineError = Unproven("it was silent")
        with scope, trio.move_on_after(LINK_TIME):
            try:
                await self._exchange(wire.encode(wire.Status()))
                self._is_proven = True
                self._joined()
                return
            except PipelineError as refused:
                error = refused
        if not scope.cancel_called:
            self._proving.refuse_at_link(self._worker, error)
            with suppress(PipelineError):
                self.link.kick()
