"""The fleet: every worker's life, from its first hello to its last. Edge of `roster`, which decides.

The survey socket says that somebody came or went, hello says who is there, a worker's own link says that
it lives. Whatever happens becomes an event in the roster's table, and the state it leads to says what is
done about it. Believed are only hello answers and the links themselves.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from common import wire
from common.errors import PipelineError
from common.log import event
from gateway.dispatch import Dispatcher, Exchanger
from gateway.roster import Event, Roster, State, Worker
from gateway.surveys import Surveys

log = logging.getLogger("pipeline.fleet")

HEARTBEAT = 0.5
SILENCE = 2.0  # seconds without an answer that make a worker suspect
HELLO_TIME = 0.45  # a hello is over before the next heartbeat
LINK_TIME = 2.0


class FleetLink(Exchanger, Protocol):
    """A link that can be closed."""

    async def aclose(self) -> None: ...


OpenLink = Callable[[wire.HelloAnswer, Callable[[], None], Callable[[], None]], tuple[FleetLink, str]]
Sync = Callable[[Worker, FleetLink], Awaitable[None]]


class _Member:
    """What the gateway holds for one worker beside what it knows of it."""

    def __init__(self, worker: Worker, link: FleetLink) -> None:
        self.worker = worker
        self.link = link
        self.scope: trio.CancelScope | None = None  # of its sync, then of its batch loops


class Fleet:
    """Owns the links. A worker is given to the dispatcher exactly while its state is ready (or draining).

    `open_link` makes a worker's link and says which endpoint to tell it; `came` is unparked when the survey
    socket sees somebody come or go; `sync`, set before `run`, gives a worker every active version and raises
    when it cannot.
    """

    sync: Sync

    def __init__(
        self, surveys: Surveys, dispatcher: Dispatcher, *, open_link: OpenLink, came: trio.lowlevel.ParkingLot
    ) -> None:
        self.roster = Roster(silence=SILENCE)
        self.surveys = surveys
        self._dispatcher = dispatcher
        self._id = uuid.uuid4().hex
        self._open_link = open_link
        self._came = came
        self._members: dict[str, _Member] = {}
        self._joining: set[str] = set()
        self._nursery: trio.Nursery | None = None
        dispatcher.on_leaving = self._leaving

    # --- what others ask

    def ids(self, *states: State) -> set[str]:
        """The workers in any of these states (all, without any)."""
        return {w.id for w in self.roster if not states or w.state in states}

    def link(self, worker: str) -> FleetLink | None:
        """A worker's link, while it is known."""
        member = self._members.get(worker)
        return member.link if member else None

    # --- tasks

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Heartbeats until cancelled; closes every link at the end."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                while True:
                    self._nursery.start_soon(self._hello)
                    with trio.move_on_after(HEARTBEAT):
                        await self._came.park()
                    self._notice_silence()
        finally:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as closing:
                    for member in self._members.values():
                        closing.start_soon(member.link.aclose)

    async def _hello(self) -> None:
        """One heartbeat. It never ends early: somebody new may be about to answer."""
        await self.surveys.ask(
            wire.Hello(self._id),
            wire.HelloAnswer,
            HELLO_TIME,
            expected=lambda: {"somebody new"},
            on_answer=self._hear,
        )

    def _hear(self, answer: wire.HelloAnswer) -> None:
        worker, is_new = self.roster.hear(answer, trio.current_time())
        if is_new:
            event(log, logging.INFO, "worker joining", worker=worker.name, host=answer.host, pid=answer.pid)
        if worker.id not in self._members and worker.id not in self._joining:
            assert self._nursery is not None
            self._joining.add(worker.id)
            self._nursery.start_soon(self._join, worker)
        if answer.draining and worker.state is not State.DRAINING:
            self._happen(worker, Event.DRAIN)

    def _notice_silence(self) -> None:
        now = trio.current_time()
        for worker in self.roster.silent(now):
            event(log, logging.WARNING, "worker silent", worker=worker.name, state=worker.state.value)
            worker.heard = now  # one more silence, and it is gone
            self._happen(worker, Event.SILENT)

    async def _join(self, worker: Worker) -> None:
        """Listen for a new worker and tell it where."""
        try:
            link, endpoint = self._open_link(
                worker.hello, lambda: self._linked(worker), lambda: self._unlinked(worker)
            )
        except PipelineError as error:
            event(log, logging.ERROR, "no link for a worker", worker=worker.name, error=error)
            worker.trouble = str(error)
            return
        finally:
            self._joining.discard(worker.id)
        self._members[worker.id] = _Member(worker, link)
        await self.surveys.ask(
            wire.LinkUp({worker.id: endpoint}), wire.Done, LINK_TIME, expected=lambda: {worker.id}
        )

    # --- events, on trio's thread

    def _linked(self, worker: Worker) -> None:
        if worker.state is not State.GONE:
            self._happen(worker, Event.LINKED)

    def _unlinked(self, worker: Worker) -> None:
        if worker.state is not State.GONE:
            self._happen(worker, Event.UNLINKED)
            self._came.unpark_all()

    def _leaving(self, worker_id: str) -> None:
        worker = self.roster.get(worker_id)
        if worker is not None and worker.state is not State.DRAINING:
            self._happen(worker, Event.DRAIN)

    def _happen(self, worker: Worker, what: Event) -> None:
        before, now = worker.state, self.roster.happen(worker, what)
        if before is not now:
            level = logging.WARNING if now is State.SUSPECT else logging.INFO
            event(log, level, f"worker {now.value}", worker=worker.name, because=what.value)
        self._act(worker, before, now, what)
        self.surveys.membership_changed()

    def _act(self, worker: Worker, before: State, now: State, what: Event) -> None:
        """What a new state asks for."""
        member = self._members.get(worker.id)
        if member is None:
            return
        if now is State.SYNCING and what is Event.LINKED:
            assert self._nursery is not None
            self._restart(member, self._bring_in)
        elif now in (State.SUSPECT, State.GONE) and before is not now:
            self._let_go(member, strike=before is not State.DRAINING)
        elif now is State.DRAINING and before is not now:
            self._dispatcher.wake_all(
                self._dispatcher.scheduler.retire_worker(worker.id, trio.current_time())
            )
        if what is Event.SILENT:
            member.link.kick()
        if now is State.GONE:
            del self._members[worker.id]
            assert self._nursery is not None
            self._nursery.start_soon(member.link.aclose)

    def _restart(self, member: _Member, task: Callable[[_Member], Awaitable[None]]) -> None:
        if member.scope is not None:
            member.scope.cancel()
        member.scope = trio.CancelScope()
        assert self._nursery is not None
        self._nursery.start_soon(_within, member.scope, task, member)

    def _let_go(self, member: _Member, *, strike: bool) -> None:
        """Its requests go elsewhere, and its loops end."""
        if member.scope is not None:
            member.scope.cancel()
            member.scope = None
        self._dispatcher.lose(member.worker.id, strike=strike)

    async def _bring_in(self, member: _Member) -> None:
        """Sync a linked worker; when it holds every active version, serve requests with it."""
        worker = member.worker
        try:
            await self.sync(worker, member.link)
        except PipelineError as error:
            worker.trouble = str(error)
            event(log, logging.ERROR, "worker cannot be synced", worker=worker.name, error=error)
            return
        if worker.state is not State.SYNCING:
            return
        worker.trouble = ""
        self._dispatcher.wake_all(self._dispatcher.scheduler.add_worker(worker.id, slots=worker.hello.slots))
        self._happen(worker, Event.SYNCED)
        await self._dispatcher.serve(worker.id, worker.name, member.link, worker.hello.slots)


async def _within(
    scope: trio.CancelScope, task: Callable[[_Member], Awaitable[None]], member: _Member
) -> None:
    with scope:
        await task(member)
