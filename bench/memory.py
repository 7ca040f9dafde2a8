"""The gateway's memory: idle, after many requests, and whether it goes on growing."""

from __future__ import annotations

from bench.figures import Figure
from bench.programs import Server, gateway
from bench.run import Run, upload_sample
from bench.wrk import drive

FIRST = 200_000
STEP = 100_000
LAST = 600_000
CLIENTS = 32
GROWTH = 2.0  # MiB that one reading may differ from another without anything growing


def memory(run: Run) -> list[Figure]:
    """RSS of the gateway's process, after 200,000 requests and at every further 100,000."""
    scale = 10 if run.is_quick else 1
    with gateway(run.directory) as server:
        upload_sample(server)
        idle = server.rss()
        readings: list[tuple[int, float]] = []
        done, target = 0, FIRST // scale
        while target <= LAST // scale:
            done = _drive_until(run, server, done, target)
            readings.append((done, server.rss()))
            run.say(f"memory: {readings[-1][1]:.1f} MiB after {done:,} requests")
            target = done + STEP // scale
    run.details["memory"] = {"idle": idle, "readings": readings}
    note = ", ".join(f"{rss:.1f} at {requests:,}" for requests, rss in readings)
    return [
        Figure("gateway's memory, idle", idle, "MiB", at_most=80),
        Figure(f"  after {readings[0][0]:,} requests", readings[0][1], "MiB", at_most=150, note=note),
        Figure("  growth after that", readings[-1][1] - readings[0][1], "MiB", at_most=GROWTH),
    ]


def _drive_until(run: Run, server: Server, done: int, target: int) -> int:
    """Requests made so far, when they are at least `target`."""
    rate = 10_000.0
    while done < target:
        seconds = max(1.0, (target - done) / rate)
        load = drive(server, "pairs.lua", clients=CLIENTS, seconds=seconds, seed=run.seed())
        done, rate = done + load.requests, load.rate
    return done
