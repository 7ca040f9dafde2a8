"""What servers do when something goes wrong: bad clients, a killed worker, too many clients. And repeats."""

from __future__ import annotations

import contextlib
import http.client
import threading

from bench import schedule
from bench.executor.doors import open_door
from bench.executor.progress import Moment
from bench.peers.answers import numbers
from bench.peers.load import closed
from bench.peers.measure import CLIENTS, Bench, Figures, loaded
from bench.peers.served import Served, connect, exchange
from bench.peers.workloads import POOL, REFERENCES, WORKLOADS, inputs

GOOD_CLIENTS = 12
BAD_PAUSE = 0.01  # seconds between two requests of the bad one
CROWD = 256
TORCH = "libtorch_cpu"
LOST_TIME = 10.0  # seconds until a request whose worker died counts as failed
ROWS, EXPONENT, DRAWN = 20_000, 1.1, 300_000


def neighbours(bench: Bench, server: Served) -> Figures:
    """One client whose rows have three elements, beside twelve good ones: how many of
    theirs are spoiled."""
    over = threading.Event()
    answered: list[bool] = []
    bad = threading.Thread(target=_misbehave, args=(server, over, answered))
    bad.start()
    try:
        result = closed(server, inputs(POOL), clients=GOOD_CLIENTS, seconds=bench.times.neighbours)
    finally:
        over.set()
        bad.join()
    return {
        "good": result.requests,
        "spoiled": sum(result.errors.values()),
        "bad": len(answered),
        "bad_answered": sum(answered),
    }


def kill(bench: Bench, server: Served) -> Figures:
    """The busiest process that runs the model is killed under load: what fails, and what is left."""
    times, killed = bench.times, threading.Event()

    def show(moment: Moment) -> None:
        if moment.at >= times.killed_after and not killed.is_set():
            victim = server.tree.busiest(0.3, TORCH)
            if victim is not None:
                victim.kill()
                killed.set()

    result = closed(
        server, inputs(POOL), clients=CLIENTS, seconds=times.kill, timeout=LOST_TIME, show=show
    )  # fmt: skip
    if not killed.is_set():
        raise RuntimeError("none of its processes has the model's library: nothing could be killed")
    before = [each.answered for each in result.timeline if 1 <= each.t < int(times.killed_after)]
    last = [each.answered for each in result.timeline if times.kill - 2 <= each.t < times.kill]
    return {
        "failed": sum(result.errors.values()),
        "requests": result.requests,
        "rate_before": sum(before) / max(1, len(before)),
        "rate_after": sum(last) / max(1, len(last)),
        "longest": result.latency.max,
    }


def overload(bench: Bench, server: Served) -> Figures:
    """32 clients, then 256: answers a second and how late they are."""
    rows, times = inputs(POOL), bench.times
    closed(server, rows, clients=8, seconds=times.warm_up)
    calm = closed(server, rows, clients=CLIENTS, seconds=times.calm)
    crowd = closed(server, rows, clients=CROWD, seconds=times.crowd)
    return {
        "calm_rate": calm.rate,
        "calm_p99": calm.latency.p99,
        "crowd_rate": crowd.rate,
        "crowd_p50": crowd.latency.p50,
        "crowd_p99": crowd.latency.p99,
        "refused": sum(count for kind, count in crowd.errors.items() if kind in ("503", "429")),
        "errors": sum(crowd.errors.values()),
    }


def zipf(bench: Bench, server: Served) -> Figures:
    """Rows that repeat by Zipf's law, once the server has been asked for them for a while."""
    draw = schedule.inputs(f"zipf({EXPONENT},{ROWS})", 1, lambda _: 0)
    rows = [str(REFERENCES + int(draw())) for _ in range(DRAWN)]
    # A cache is to be as it is where it has served for a day: the rows that come most are in it. So they are
    # asked for in that order. Who remembers none is only warmed up, as that is all it would be.
    seconds = bench.times.filling if server.remembers else bench.times.warm_up
    bench.generator.run(server, inputs(ROWS), clients=CLIENTS, seconds=seconds)
    many, figures = loaded(bench, server, rows, seconds=bench.times.load, first=DRAWN // 2)
    return figures | {"errors": many.errors}


def _misbehave(server: Served, over: threading.Event, answered: list[bool]) -> None:
    """Ask for rows of a wrong size until it is over; whether each was answered as if it were right."""
    tensor = WORKLOADS[server.workload].tensor._replace(shape=(3,))
    door = open_door(server.door_name, server.url, tensor, server.path)
    while not over.is_set():
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            contextlib.closing(connect(door)) as connection,
        ):
            while not over.wait(BAD_PAUSE):
                reply = exchange(connection, door.payloads.get("", "0"))
                answered.append(reply.status == 200 and bool(numbers(reply)))
