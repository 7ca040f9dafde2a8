"""Runs a schedule: processes that carry the load, and what they and the server's own say, as one result."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, NamedTuple

from bench import about
from bench.executor import summary
from bench.executor.child import Part
from bench.executor.child import main as child_main
from bench.executor.doors import Door
from bench.executor.processes import Processes, listeners
from bench.executor.progress import Moment, Progress, Tick
from bench.executor.records import Records
from bench.executor.settings import Settings
from bench.results import Planned, Result
from bench.schedule import Row, Schedule

START_TIME = 120.0  # seconds in which the processes make their requests ready
STOP_TIME = 20.0  # and in which they give back what they have
_LOOK_TIME = 0.5

Pipe = multiprocessing.connection.Connection
Show = Callable[[Moment], None]


class _Run(NamedTuple):
    records: Records
    processes: Processes
    seconds: float
    is_interrupted: bool


def execute(schedule: Schedule, settings: Settings, *, name: str = "", show: Show = lambda _: None) -> Result:
    """Send the schedule's requests, and measure; Ctrl-C ends it early. `ValueError` and `RuntimeError` with a
    sentence where it cannot be done at all."""
    door = settings.open_door()
    host = _address(door)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    rows = [*warm_up(schedule, settings.warm_up), *schedule.rows]
    end = schedule.made.duration
    parts = [Part(settings, n, host, share(rows, settings, n), end) for n in range(settings.processes)]
    processes = Processes(settings.pids or listeners(host, door.port))
    with _children(parts) as pipes:
        run = _follow(pipes, schedule, settings, processes, show)
    return _result(name or settings.door, started, schedule, settings, run)


def warm_up(schedule: Schedule, seconds: float) -> list[Row]:
    """Requests before the start, as many a second as the schedule has on the whole, and no more than it has.
    Made rows are others than the schedule's, so that no cache knows those beforehand."""
    rate, rows = schedule.rate, schedule.rows
    count = min(int(seconds * rate), len(rows))
    inputs = [row.input if ":" in row.input else f"warm {n}" for n, row in enumerate(rows[:count])]
    return [Row((n - count) / rate, rows[n].model, inputs[n]) for n in range(count)]


def share(rows: list[Row], settings: Settings, number: int) -> list[Row]:
    """What process `number` has of them; a closed loop needs some, however few there are."""
    return rows[number :: settings.processes] or (rows if settings.closed else [])


def _address(door: Door) -> str:
    try:
        found = socket.getaddrinfo(door.host, door.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"{door.host} has no address: {error.strerror or error}") from None
    # A name of this machine may have two, and servers mostly listen at that of IPv4.
    return str(min(found, key=lambda each: each[0] != socket.AF_INET)[4][0])


@contextlib.contextmanager
def _children(parts: list[Part]) -> Iterator[list[Pipe]]:
    """A process for each part, ready to start; `ValueError` where one says that it cannot."""
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pipes = []
        for part in parts:
            ours, theirs = context.Pipe()
            stack.callback(ours.close)
            process = context.Process(target=child_main, args=(theirs, part), daemon=True)
            process.start()
            stack.callback(_end, process)
            theirs.close()
            pipes.append(ours)
        end = time.monotonic() + START_TIME
        for pipe in pipes:
            if not pipe.poll(max(0.0, end - time.monotonic())):
                raise RuntimeError(f"the load was not ready within {START_TIME:.0f} s")
            complaint = _receive(pipe)
            if complaint is not None:
                raise ValueError(complaint)
        yield pipes


def _end(process: Any) -> None:
    process.join(1.0)
    if process.is_alive():
        process.kill()
        process.join()
    process.close()


def _follow(
    pipes: list[Pipe], schedule: Schedule, settings: Settings, processes: Processes, show: Show
) -> _Run:
    """Start them all at once, and see to it until each has given its records."""
    start = time.monotonic() + 0.1 + settings.warm_up
    for pipe in pipes:
        pipe.send(start)
    records = Records()
    progress = Progress()
    running, is_counted, is_stopped = set(pipes), False, False
    end = start + schedule.made.duration + settings.timeout + STOP_TIME
    with _interrupts() as is_interrupted:
        while running:
            now = time.monotonic()
            if now > end:
                raise RuntimeError("the load did not end when it should have")
            if is_interrupted() and not is_stopped:
                is_stopped, end = True, now + STOP_TIME
                for pipe in running:
                    with contextlib.suppress(OSError):
                        pipe.send("stop")
            if now >= start and not is_counted:
                is_counted = True
                processes.start()
            pause = _LOOK_TIME if is_counted else min(_LOOK_TIME, start - now)
            ready = multiprocessing.connection.wait(list(running), pause)
            for pipe in [each for each in running if each in ready]:
                said = _receive(pipe)
                if isinstance(said, Records):
                    records.extend(said)
                    running.discard(pipe)
                elif isinstance(said, Tick):
                    progress.add(pipes.index(pipe), said, now - start)
            processes.look()
            show(progress.at(now - start))
        return _Run(records, processes, time.monotonic() - start, is_stopped)


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """What tells whether Ctrl-C was pressed; while this lasts it does nothing else."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread hears of it
        return
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


def _receive(pipe: Pipe) -> Tick | Records | str | None:
    try:
        said: Tick | Records | str | None = pipe.recv()
    except (EOFError, OSError):
        raise RuntimeError("a process of the load ended before its time") from None
    return said


def _result(name: str, started: str, schedule: Schedule, settings: Settings, run: _Run) -> Result:
    records = run.records
    found = summary.columns(records)
    last = float(found.done.max()) if len(records) else 0.0
    # What is answered after the last request was due took its time too, and the rate is of all of it.
    duration = max(last, min(schedule.made.duration, run.seconds), 1e-6)
    latency = summary.times(found.latency)
    edges, heat = summary.heat(found)
    used, made = run.processes.used(), schedule.made
    commit, dirty = about.commit()
    return Result(
        name=name,
        started=started,
        machine=about.machine(),
        versions=about.versions(),
        commit=commit,
        dirty=dirty,
        settings=asdict(settings),
        schedule=Planned(len(schedule.rows), made.duration, schedule.rate, made.seed, made.pattern),
        door=settings.door,
        url=settings.url,
        is_closed=bool(settings.closed),
        is_interrupted=run.is_interrupted,
        kept_schedule=summary.kept(records, settings.connections),
        duration=duration,
        requests=len(records) + records.missed,
        answered=latency.count,
        errors=summary.errors(records),
        deadline=settings.deadline,
        goodput=summary.goodput(found, settings.deadline, duration) if settings.deadline else None,
        latency=latency,
        service=summary.times(found.service),
        timeline=summary.timeline(found),
        heat_edges=edges,
        heat=heat,
        phases=summary.phases(records),
        cache=summary.cache(records),
        workers=summary.workers(records),
        processes=used,
        cpu_per_1000=summary.cpu_per_1000(used, latency.count),
    )
