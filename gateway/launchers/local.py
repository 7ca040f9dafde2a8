"""Workers on the gateway's own machine, forked from a server that has imported what they need.

No orphans: a worker's stdin is a pipe whose other end only the gateway holds, and a worker ends when that
end goes; the fork server kills who does not. Workers that are to outlive the gateway have no such pipe.
Which there are is noted in a file, for the next gateway.

If the fork server dies another one is started, and the workers go on; how these end, nobody can tell then.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec
import trio

from common import children
from common.channel import Channel, pair
from common.errors import LaunchError
from common.launching import Ended, Fork, Forked, Kind
from common.log import event
from common.processes import ending, send_signal, start_time
from gateway.launchers.ids import WorkerId, fresh_ids
from gateway.launchers.launcher import Launched, LaunchState, WorkerSpec
from gateway.launchers.records import Record, Records

log = logging.getLogger("pipeline.launcher")

WORKER = Path(__file__).resolve().parents[2] / "worker.py"
BACKOFF_MIN, BACKOFF_MAX = 0.1, 10.0
STEADY = 10.0  # a fork server that lived so long did not fail at start: the back-off begins anew
CLOSE_TIME = 5.0
GRACE = 10.0  # for a worker that an earlier gateway has kept, and this one does not


class _Worker:
    """A worker that was ordered. `server` is the process that it was, or is to be, forked from."""

    def __init__(self, server: object, lifeline: int | None) -> None:
        self.server = server
        self.pid = self.started = 0  # 0: it has not been forked yet
        self.how: str | None = None  # it has ended, and so
        self.is_unwanted = False
        self._lifeline = lifeline

    @property
    def launched(self) -> Launched:
        """What is known of it."""
        if self.how is not None:
            return Launched(LaunchState.GONE, self.how)
        if not self.pid:
            return Launched(LaunchState.PENDING, "the process that forks it is starting")
        return Launched(LaunchState.RUNNING)

    def ask(self) -> None:
        """Have it end in good order: now, or as soon as it begins."""
        self.is_unwanted = True
        self.signal(signal.SIGTERM)
        self.let_go()

    def signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.pid and self.how is None:
            send_signal(self.pid, self.started, number)

    def let_go(self) -> None:
        """Close the gateway's end of its lifeline."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None


class LocalLauncher:
    """A `Launcher`; made by `open_local`. Invariant: whoever has ended and is unwanted is forgotten."""

    def __init__(self, service: str, records: Records, *, keep: bool, program: Path) -> None:
        self._service = service
        self._records = records
        self._keep = keep
        self._program = program
        self._workers: dict[str, _Worker] = {}
        self._channel: Channel | None = None
        self._needed = trio.Event()
        self._begun = trio.Event()
        self._nursery: trio.Nursery

    # --- what every launcher does

    async def start(self, n: int, spec: WorkerSpec) -> list[str]:
        """Have n workers forked."""
        self._needed.set()
        await self._begun.wait()
        ids = fresh_ids(n, self._service, await self.alive(), time.time())
        for each in ids:
            self._order(each, spec)
        return [str(each) for each in ids]

    async def stop(self, id: str, grace: float) -> None:
        """Ask a worker to end, and kill it after a while."""
        worker = self._workers.get(id)
        if worker is None or worker.is_unwanted:
            return
        worker.ask()
        if worker.how is not None:
            self._forget(id)
        else:
            self._nursery.start_soon(self._kill_after, worker, grace)

    async def alive(self) -> dict[str, Launched]:
        """Every worker, looked up in the system where no fork server will tell."""
        await trio.lowlevel.checkpoint()
        for id, worker in list(self._workers.items()):
            is_told = worker.server is self._channel or not worker.pid
            if worker.how is None and not is_told and start_time(worker.pid) != worker.started:
                self._ended(id, _reap(worker.pid) or "nobody knows how")
        return {id: worker.launched for id, worker in self._workers.items()}

    async def capacity(self, spec: WorkerSpec) -> int | None:
        """Nobody counts what a machine has room for."""
        await trio.lowlevel.checkpoint()
        return None

    # --- workers

    def _order(self, id: WorkerId, spec: WorkerSpec) -> None:
        """Tell the fork server; `LaunchError` where it does not listen."""
        arguments = ["--name", id.name, "--incarnation", str(id.incarnation), *spec.arguments]
        read, write = (None, None) if self._keep else os.pipe()
        if read is not None:
            arguments.append("--exit_with_parent")
        body = msgspec.msgpack.encode(Fork(str(id), arguments, dict(spec.environment)))
        worker = _Worker(self._channel, write)
        try:
            if self._channel is None:
                raise BrokenPipeError("it has just ended")
            self._channel.send_at_once(Kind.FORK, body, [] if read is None else [read])
        except OSError as error:
            worker.let_go()
            raise LaunchError(f"the process that forks workers cannot be told: {error}") from error
        finally:
            if read is not None:
                os.close(read)
        self._workers[str(id)] = worker

    def _ended(self, id: str, how: str) -> None:
        worker = self._workers[id]
        worker.how = how
        worker.let_go()
        if worker.is_unwanted:
            self._forget(id)
        self._note()

    def _forget(self, id: str) -> None:
        self._workers.pop(id).let_go()
        self._note()

    def _note(self) -> None:
        """Write down who is to be found by the next gateway."""
        if self._keep:
            kept = {id: worker for id, worker in self._workers.items() if worker.pid and worker.how is None}
            self._records.write([Record(id, each.pid, each.started) for id, each in kept.items()])

    async def _kill_after(self, worker: _Worker, grace: float) -> None:
        await trio.sleep(grace)
        worker.signal(signal.SIGKILL)

    def adopt(self, records: list[Record]) -> None:
        """Workers of the gateway before this one; where they are not to be kept any more, they end."""
        for each in records:
            worker = self._workers[each.id] = _Worker(object(), None)
            worker.pid, worker.started = each.pid, each.started
            if not self._keep:
                worker.ask()
                self._nursery.start_soon(self._kill_after, worker, GRACE)

    def close(self) -> None:
        """Kill whoever is left, and must not be."""
        for worker in self._workers.values():
            if not self._keep:
                worker.signal(signal.SIGKILL)
            worker.let_go()

    # --- the fork server

    async def run(
        self, *, preload: bool, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep a fork server, from when one is needed, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            if not preload:
                await self._needed.wait()
            backoff = BACKOFF_MIN
            while True:
                began = trio.current_time()
                try:
                    how = await self._run_server()
                except OSError as error:  # no memory or no process number left: there may be one later
                    how = f"could not start: {error}"
                if trio.current_time() - began > STEADY:
                    backoff = BACKOFF_MIN
                event(log, logging.WARNING, "fork server ended", how=how, again_in=backoff)
                await trio.sleep(backoff)
                backoff = min(2 * backoff, BACKOFF_MAX)

    async def _run_server(self) -> str:
        """Run a fork server until it ends; how it did."""
        ours, theirs = pair()
        self._channel = channel = Channel(ours)
        process = None
        how = "it could not start"
        try:
            with theirs:
                fd = theirs.fileno()
                process = await children.start([str(self._program), "--fork_server", str(fd)], [fd])
            self._begun.set()
            await self._listen(channel)
        finally:
            self._channel = None
            channel.close()
            if process is not None:
                how = await children.finish(process, CLOSE_TIME)
            for id, worker in list(self._workers.items()):
                if worker.server is channel and not worker.pid:
                    self._ended(id, f"the process that forks workers ended first: {how}")
        return how

    async def _listen(self, channel: Channel) -> None:
        is_open = True
        while is_open:
            await trio.lowlevel.wait_readable(channel.socket)
            frames, is_open = channel.receive_ready()
            for frame in frames:
                if frame.kind == Kind.FORKED:
                    self._forked(msgspec.msgpack.decode(frame.body, type=Forked))
                elif frame.kind == Kind.ENDED:
                    ended = msgspec.msgpack.decode(frame.body, type=Ended)
                    self._ended(ended.id, ended.how)

    def _forked(self, forked: Forked) -> None:
        worker = self._workers[forked.id]
        worker.pid, worker.started = forked.pid, forked.started
        event(log, logging.INFO, "worker started", worker=forked.id.partition(".")[0], pid=forked.pid)
        if worker.is_unwanted:
            worker.signal(signal.SIGTERM)
        self._note()


@asynccontextmanager
async def open_local(
    service: str,
    *,
    records: Path | None = None,
    keep: bool = False,
    preload: bool = False,
    program: Path = WORKER,
) -> AsyncIterator[LocalLauncher]:
    """A launcher of this service's workers. `keep` has them outlive it, noted in the file `records`; those
    that an earlier one has kept are its own. `preload` starts the fork server at once. Whoever must not
    outlive it is killed at the end."""
    found = Records(records)
    launcher = LocalLauncher(service, found, keep=keep, program=program)
    failure: Exception | None = None  # of the block: raised as it is, not as one of a group
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(launcher.run, preload=preload))
        try:
            launcher.adopt(found.read())
            yield launcher
        except Exception as error:
            failure = error
        finally:
            launcher.close()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _reap(pid: int) -> str | None:
    """How an orphan ended that has become a child of the gateway, as where that is a container's first
    process."""
    with suppress(ChildProcessError):
        found, status = os.waitpid(pid, os.WNOHANG)
        return ending(status) if found else None
    return None
