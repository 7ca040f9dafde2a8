"""The fleet: every worker's life, from its first hello to its last. Edge of `roster`, which decides.

The survey socket says that somebody came or went, hello says who is there, a worker's own link says that
it lives. Whatever happens becomes an event in the roster's table, and the state it leads to says what is
done about it. Believed are only hello answers and the links themselves.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import trio

from common import wire
from common.errors import PipelineError
from common.log import event
from gateway.bell import Bell
from gateway.fleet.incarnations import Incarnations
from gateway.fleet.roster import Event, Roster, State, Worker
from gateway.fleet.surveys import Surveys
from gateway.observing.events import FLEET, Publish, nobody
from gateway.scheduling.dispatch import Dispatcher, Exchanger

log = logging.getLogger("pipeline.fleet")

HEARTBEAT = 0.5
HELLO_GAP = 0.02  # between two hellos at least, however often somebody comes and goes
SILENCE = 2.0  # seconds without an answer that make a worker suspect, …
# … and a second more for so many bytes in its hands: libraries keep the interpreter to themselves while they
# convert text, and memory that is touched for the first time may take longer than a copy of it.
PACE = 8 << 20
HELLO_TIME = 1.5  # longer than a heartbeat, so that a line that takes a second there and back is no silence
LINK_TIME = 2.0
MAX_SLOTS = 64  # batches at one worker at once, whatever it says
RETRY_MIN, RETRY_MAX = 0.5, 30.0  # pauses of a worker that cannot be synced, or is lost whenever it is ready
STEADY = 10.0  # a worker that was ready for so long is taken back at once
CLOSE_TIME = 5.0
REMEMBERED = 256  # workers that are gone


class FleetLink(Exchanger, Protocol):
    """A link whose connection can be dropped, and that can be closed; it knows the size of what went last.
    Nobody is answered unless somebody runs `watch`."""

    @property
    def last_frame(self) -> int: ...

    def kick(self) -> None: ...

    async def watch(self) -> None: ...

    async def aclose(self) -> None: ...


A = TypeVar("A", bound=wire.Message)
OpenLink = Callable[[wire.HelloAnswer, Callable[[], None], Callable[[], None]], tuple[FleetLink, str]]
Sync = Callable[[Worker, FleetLink], Awaitable[None]]


class _Member:
    """What the gateway holds for one worker beside what it knows of it."""

    def __init__(self, worker: Worker, link: FleetLink, endpoint: str) -> None:
        self.worker = worker
        self.link = link
        self.endpoint = endpoint
        self.told = 0.0  # when it was told the endpoint last
        self.scope: trio.CancelScope | None = None  # of its sync, then of its batch loops
        self.heard = trio.Event()  # it answered a hello since its link came up
        self.ready_since = 0.0
        self.pause = 0.0  # before it is taken back


class Fleet:
    """Owns the links. A worker is given to the dispatcher exactly while its state is ready (or draining).

    `open_link` makes a worker's link and says which endpoint to tell it; `came` is rung when the survey
    socket sees somebody come or go; `sync`, set before `run`, gives a worker every active version and raises
    when it cannot; `left` is told who takes nothing new any more, `changed` is told of everything
    that happens to somebody. Whatever goes wrong with one worker costs
    that worker and nobody else.
    """

    sync: Sync
    left: Callable[[str], None] = staticmethod(lambda worker: None)
    changed: Callable[[Worker, Event], None] = staticmethod(lambda worker, what: None)
    publish: Publish = staticmethod(nobody)
    strangers: Callable[[], int] = staticmethod(lambda: 0)  # that came, and had no token

    def __init__(self, surveys: Surveys, dispatcher: Dispatcher, *, open_link: OpenLink, came: Bell) -> None:
        self.roster = Roster(silence=SILENCE)
        self._incarnations = Incarnations()
        self._dismissing: set[str] = set()
        self.surveys = surveys
        self._dispatcher = dispatcher
        self._id = uuid.uuid4().hex
        self._open_link = open_link
        self._came = came
        self._last_frames: dict[tuple[str, int], int] = {}  # of who is gone, the last of them at the end
        self.lost = 0  # times that a worker died, broke off or fell silent without having said that it leaves
        self._members: dict[str, _Member] = {}
        self._nursery: trio.Nursery | None = None  # while `run` does
        dispatcher.on_leaving = self._leaving
        dispatcher.on_lost = self._lost

    # --- what others ask

    def ids(self, *states: State) -> set[str]:
        """The workers in any of these states (all, without any)."""
        return {w.id for w in self.roster if not states or w.state in states}

    def patterns(self, *states: State) -> dict[str, list[str]]:
        """The patterns of the models that each worker in any of these states may hold."""
        return {w.id: w.hello.models for w in self.roster if w.state in states}

    def link(self, worker: str) -> FleetLink | None:
        """A worker's link, while it is known."""
        member = self._members.get(worker)
        return member.link if member else None

    def last_frame(self, name: str, incarnation: int) -> int | None:
        """Bytes of what a worker was sent last; None where nobody remembers."""
        for member in self._members.values():
            if (member.worker.name, member.worker.hello.incarnation) == (name, incarnation):
                return member.link.last_frame
        return self._last_frames.get((name, incarnation))

    @property
    def bad_frames(self) -> int:
        """Frames from workers that could not be used."""
        return self.surveys.bad_frames + self._dispatcher.bad_frames

    # --- tasks

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Heartbeats until cancelled; closes every link at the end."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                try:
                    await self._beat(self._nursery)
                finally:
                    self._nursery = None  # now, while it still takes tasks: it is closed before we are back
        finally:
            with trio.move_on_after(CLOSE_TIME) as closing:
                closing.shield = True
                async with trio.open_nursery() as nursery:
                    for member in self._members.values():
                        nursery.start_soon(self._close, member)

    async def _beat(self, nursery: trio.Nursery) -> None:
        while True:
            began = trio.current_time()
            nursery.start_soon(self._hello)
            with trio.move_on_after(HEARTBEAT):
                await self._came.wait()
                await trio.sleep_until(began + HELLO_GAP)
            self._look_after(stalled=max(0.0, trio.current_time() - began - HEARTBEAT))

    async def _hello(self) -> None:
        """One heartbeat. It never ends early: somebody new may be about to answer."""
        await self._ask(wire.Hello(self._id), wire.HelloAnswer, HELLO_TIME, {"somebody new"}, self._hear)

    async def _tell_links(self, members: list[_Member]) -> None:
        now = trio.current_time()
        for member in members:
            member.told = now
        endpoints = {member.worker.id: member.endpoint for member in members}
        await self._ask(wire.LinkUp(endpoints), wire.Done, LINK_TIME, set(endpoints))

    async def _ask(
        self,
        question: wire.Message,
        kind: type[A],
        survey_time: float,
        expected: set[str],
        on_answer: Callable[[A], None] = lambda answer: None,
    ) -> None:
        """A survey of the fleet's own, which is asked again soon whatever became of this one."""
        try:
            await self.surveys.ask(
                question, kind, survey_time, expected=lambda: expected, on_answer=on_answer
            )
        except Exception:
            log.exception("a survey failed")

    def _hear(self, answer: wire.HelloAnswer) -> None:
        if self._nursery is None or (answer.draining and self.roster.get(answer.worker) is None):
            return  # it is over; or the worker has left already, or never was ours
        if not self._incarnations.hear(answer.name, answer.incarnation):
            if not answer.draining:
                self.dismiss(answer.worker)
            if self.roster.get(answer.worker) is None:
                return
        worker, is_new = self.roster.hear(answer, trio.current_time())
        if is_new:
            event(log, logging.INFO, "worker joining", worker=worker.name, host=answer.host, pid=answer.pid)
            fields = {"host": answer.host, "pid": answer.pid}
            self.publish(FLEET, "worker joining", worker=worker.name, id=worker.id, **fields)
            self._dismiss_outdated(worker.name)
        member = self._members.get(worker.id)
        if member is not None:
            member.heard.set()
        else:
            self._join(worker)
        if answer.draining and worker.state is not State.DRAINING:
            self._happen(worker, Event.DRAIN)

    def _dismiss_outdated(self, name: str) -> None:
        for worker in self.roster:
            if worker.name == name and not self._incarnations.counts(name, worker.hello.incarnation):
                self.dismiss(worker.id)

    def retire(self, name: str, incarnation: int) -> None:
        """A worker that a launcher started is not wanted any more: it is sent nothing new, and told to finish
        what it has and leave, now and whenever it comes back."""
        self._incarnations.retire(name, incarnation)
        self._dismiss_outdated(name)

    def dismiss(self, worker_id: str) -> None:
        """Tell a worker to leave, known or not: once, so whoever wants to be sure does it again."""
        worker = self.roster.get(worker_id)
        if worker is not None and worker.state is not State.DRAINING:
            self._happen(worker, Event.DRAIN)
        if self._nursery is not None and worker_id not in self._dismissing:
            self._dismissing.add(worker_id)
            self._nursery.start_soon(self._tell_to_leave, worker_id)

    async def _tell_to_leave(self, worker_id: str) -> None:
        event(log, logging.INFO, "worker told to leave", id=worker_id)
        await self._ask(wire.Drain([worker_id]), wire.Done, LINK_TIME, {worker_id})
        self._dismissing.discard(worker_id)

    def _look_after(self, *, stalled: float) -> None:
        """Notice who fell silent, and tell its link again to who did not find it.

        `stalled`: seconds in which the gateway itself heard nobody, because its process did not run.
        """
        now = trio.current_time()
        for worker in self.roster:
            worker.heard = min(now, worker.heard + stalled)
            in_hand = self._dispatcher.scheduler.bytes_in_flight(worker.id)
            worker.patience = max(worker.patience, in_hand / PACE)
        for worker in self.roster.silent(now):
            event(log, logging.WARNING, "worker silent", worker=worker.name, state=worker.state.value)
            worker.heard, worker.patience = now, 0.0  # one more silence, and it is gone
            self._happen(worker, Event.SILENT)
        unlinked = [m for m in self._members.values() if m.worker.state in (State.JOINING, State.SUSPECT)]
        late = [member for member in unlinked if now - member.told > LINK_TIME]
        if late:
            for member in late:
                member.worker.trouble = f"it has not connected to its link, {member.endpoint}"
                member.link.kick()  # should there be a connection after all, its end is what we missed
            assert self._nursery is not None
            self._nursery.start_soon(self._tell_links, late)

    def _join(self, worker: Worker) -> None:
        """Listen for a new worker and tell it where."""
        try:
            link, endpoint = self._open_link(
                worker.hello, lambda: self._linked(worker), lambda: self._unlinked(worker)
            )
        except Exception as error:  # also for an id, say, of which no address can be made
            if worker.trouble != str(error):
                event(log, logging.ERROR, "no link for a worker", worker=worker.name, error=error)
            worker.trouble = str(error)
            return
        worker.trouble = ""
        member = self._members[worker.id] = _Member(worker, link, endpoint)
        member.heard.set()
        assert self._nursery is not None
        self._nursery.start_soon(link.watch)
        self._nursery.start_soon(self._tell_links, [member])

    # --- events, on trio's thread: between tasks, where an exception would be the end of the process

    def _linked(self, worker: Worker) -> None:
        if worker.state is not State.GONE:
            self._happen(worker, Event.LINKED)

    def _unlinked(self, worker: Worker) -> None:
        if worker.state is not State.GONE:
            self._happen(worker, Event.UNLINKED)
            self._came.ring()

    def _lost(self, worker_id: str, strike: bool) -> None:
        member = self._members.get(worker_id)
        if member is not None:
            member.pause = min(max(2 * member.pause, RETRY_MIN), RETRY_MAX)
            member.link.kick()
            self._happen(member.worker, Event.UNLINKED, strike=strike)

    def _leaving(self, worker_id: str) -> None:
        worker = self.roster.get(worker_id)
        if worker is not None and worker.state is not State.DRAINING:
            self._happen(worker, Event.DRAIN)

    def _happen(self, worker: Worker, what: Event, *, strike: bool = True) -> None:
        if self._nursery is None:
            return  # it is over; only links are still being closed
        try:
            before, now = worker.state, self.roster.happen(worker, what)
            if before is not now:
                level = logging.WARNING if now is State.SUSPECT else logging.INFO
                last = {"last_frame": self._last_frame_of(worker)} if now is State.SUSPECT else {}
                event(log, level, f"worker {now.value}", worker=worker.name, because=what.value, **last)
                told = {"worker": worker.name, "id": worker.id, "because": what.value}
                self.publish(FLEET, f"worker {now.value}", **told)
            self._act(worker, before, now, what, strike=strike)
        except Exception:
            log.exception("%s could not be dealt with: worker %s", what.value, worker.name)
        self.surveys.membership_changed()
        self.changed(worker, what)

    def _last_frame_of(self, worker: Worker) -> int:
        member = self._members.get(worker.id)
        return 0 if member is None else member.link.last_frame

    def _act(self, worker: Worker, before: State, now: State, what: Event, *, strike: bool) -> None:
        """What a new state asks for."""
        member = self._members.get(worker.id)
        if member is None or self._nursery is None:
            return
        if now is State.SYNCING and what is Event.LINKED:
            if before is not State.JOINING:
                # What it said it holds may have been before; and NNG's threads connect even a worker whose
                # own are stuck. So it has to be heard again first.
                member.heard = trio.Event()
                self._came.ring()
            self._restart(member)
        elif now in (State.SUSPECT, State.GONE) and before is not now:
            if before is State.READY and trio.current_time() - member.ready_since > STEADY:
                member.pause = 0.0
            self.lost += before in (State.READY, State.SYNCING)
            self._let_go(member, strike=strike and before is not State.DRAINING)
        elif now is State.DRAINING and before is not now:
            self.left(worker.id)
            self._dispatcher.wake_all(
                self._dispatcher.scheduler.retire_worker(worker.id, trio.current_time())
            )
        if what is Event.SILENT:
            member.link.kick()
        if now is State.SUSPECT and before is not now:
            member.told = trio.current_time()  # it dials again by itself
        if now is State.GONE:
            del self._members[worker.id]
            self._last_frames[worker.name, worker.hello.incarnation] = member.link.last_frame
            if len(self._last_frames) > REMEMBERED:
                del self._last_frames[next(iter(self._last_frames))]
            self._nursery.start_soon(self._close, member)

    def _restart(self, member: _Member) -> None:
        if member.scope is not None:
            member.scope.cancel()
        member.scope = trio.CancelScope()
        assert self._nursery is not None
        self._nursery.start_soon(self._bring_in, member, member.scope)

    def _let_go(self, member: _Member, *, strike: bool) -> None:
        """Its requests go elsewhere, and its loops end."""
        if member.scope is not None:
            member.scope.cancel()
            member.scope = None
        self.left(member.worker.id)
        self._dispatcher.lose(member.worker.id, strike=strike)

    async def _close(self, member: _Member) -> None:
        try:
            await member.link.aclose()
        except Exception:
            log.exception("the link of worker %s could not be closed", member.worker.name)

    async def _bring_in(self, member: _Member, scope: trio.CancelScope) -> None:
        """Sync a linked worker; when it holds every active version, serve requests with it."""
        worker = member.worker
        with scope:
            await member.heard.wait()  # or silence, which cancels
            await trio.sleep(member.pause)  # one that answers nonsense would be back ten times a second
            pause = RETRY_MIN
            while not await self._is_synced(member):
                await trio.sleep(pause)
                pause = min(2 * pause, RETRY_MAX)
            # There was no checkpoint since the sync, so no rollout that it would not know of.
            if worker.state is not State.SYNCING or scope.cancel_called:
                return
            worker.trouble = ""
            member.ready_since = trio.current_time()
            slots = min(max(1, worker.hello.slots), MAX_SLOTS)
            self._dispatcher.wake_all(self._dispatcher.scheduler.add_worker(worker.id, slots=slots))
            self._happen(worker, Event.SYNCED)
            await self._dispatcher.serve(worker.id, worker.name, member.link, slots)

    async def _is_synced(self, member: _Member) -> bool:
        """Sync a worker once; if that fails, it is known why."""
        worker = member.worker
        try:
            await self.sync(worker, member.link)
        except Exception as error:
            worker.trouble = str(error) or type(error).__name__
            ours = None if isinstance(error, PipelineError) else error
            log.error("worker cannot be synced worker=%s error=%s", worker.name, error, exc_info=ours)
            return False
        return True
