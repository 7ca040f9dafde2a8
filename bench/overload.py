"""What becomes of a server that is asked for more than it can: `python -m bench overload`.

A closed loop finds what one worker can do. Then requests come at half of that, at four times as much, and at
half again, each row another one; and beside them some whose rows come again and again, which a cache can
answer. The model takes its time asleep, so that the cores are left for whoever asks.

Exit codes: 0 every bound reached, 1 one missed, 2 it could not be run.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

from bench import about
from bench.client import Client
from bench.executor.codecs.codec import Answer
from bench.executor.connection import Request
from bench.executor.doors import Door, open_door
from bench.executor.load import Limits, Load
from bench.executor.payloads import Tensor
from bench.executor.records import Records
from bench.figures import Figure, exit_code, table
from bench.overloading import Asked, Plan, figures
from bench.programs import Server, gateway
from bench.run import run_into_page
from bench.schedule import Row

MODEL, TENSOR = "paced", Tensor("x", "FP32", (2,))
ROW_TIME = 0.004  # seconds of the model: 250 rows a second
MAX_BATCH = 16
CLIENTS = 48  # of the closed loop: three batches
CLOSED_TIME = 6.0  # seconds, of which the second half is counted
HOT = "hot"
PLACE = "overload"
HOT_ROWS = 20
LOOK = 0.5  # seconds between two looks at the memory


class Memory(NamedTuple):
    """What the gateway had resident then, in MiB."""

    at: float
    rss: float


class _Seen(Records):
    """Records that also know who asked for a hot row."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []

    def add(self, request: Request, sent: float, done: float, answer: Answer) -> None:
        super().add(request, sent, done, answer)
        is_hot = request.input.startswith(HOT)
        self.asked.append(Asked(request.due, sent, done, answer.error, is_hot, answer.cache == b"hit"))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; an exit code."""
    arguments = _parser().parse_args(argv)

    def measured(directory: Path) -> tuple[str, int]:
        found = measure(directory, arguments.seconds, arguments.times, arguments.deadline)
        commit, is_dirty = about.commit()
        text = f"```text\n{table(found)}\n```\n\n{arguments.seconds:g} s at {arguments.times:g} times, "
        text += f"deadline {arguments.deadline:g} s; {date.today():%Y-%m-%d}, commit {commit or 'unknown'}"
        return f"{text}{' and changes' * is_dirty}.\n", exit_code(found)

    return run_into_page("bench overload", PLACE, arguments.write, measured)


def measure(directory: Path, seconds: float, times: float, deadline: float) -> list[Figure]:
    """The figures of one overload, so many times what is found to be the capacity."""
    flags = ["--allow_code", "bench.paced", "--timeout", str(deadline)]
    with gateway(directory, flags=flags) as server:
        _deploy(server)
        door = open_door("v1", server.url, TENSOR)
        capacity = _capacity(door)
        plan = Plan(capacity, times, seconds, deadline)
        print(f"  {capacity:,.0f} rows a second can be answered", file=sys.stderr, flush=True)
        records = _Seen()
        with _weighed(server) as memory:
            _send(door, plan.rows(MODEL, HOT, HOT_ROWS), records, plan)
        return figures(plan, records.asked, [(look.at, look.rss) for look in memory])


def _deploy(server: Server) -> None:
    settings = {
        "runtime": "python", "max_batch": MAX_BATCH, "arguments": {"seconds": ROW_TIME},
        "inputs": [{"name": TENSOR.name, "datatype": TENSOR.datatype, "shape": list(TENSOR.shape)}],
    }  # fmt: skip
    with Client(server.port) as client:
        for path, body in (
            ("", json.dumps(settings).encode()),
            ("/versions/1?file=model.py", b"bench.paced:paced\n"),
        ):
            answer = client.ask("PUT", f"/models/{MODEL}{path}", body)
            if not answer["status"]:
                raise RuntimeError(f"the model was refused: {answer}")


def _capacity(door: Door) -> float:
    """Answers a second to a closed loop whose clients wait for each other."""
    start = time.monotonic()
    load = Load(door, Limits(CLIENTS, 30.0, CLIENTS), lambda: time.monotonic() - start)
    load.run([Row(0.0, MODEL, f"closed {n}") for n in range(100_000)], CLOSED_TIME)
    done = sorted(load.records.done)
    half = [each for each in done if CLOSED_TIME / 2 <= each <= CLOSED_TIME]
    if not half or len(load.records.kinds) > 1:
        raise RuntimeError(f"the server does not answer as it should: {', '.join(load.records.kinds[1:])}")
    return len(half) / (CLOSED_TIME / 2)


def _send(door: Door, rows: list[Row], records: Records, plan: Plan) -> None:
    for row in rows:
        door.payloads.prepare(row.model, row.input)
    start = time.monotonic()
    load = Load(door, Limits(plan.connections, plan.patience), lambda: time.monotonic() - start)
    load.records = records
    load.run(rows, plan.end)
    if load.records.missed:
        raise RuntimeError(f"{load.records.missed:,} requests were never sent: this side was too busy")


@contextmanager
def _weighed(server: Server) -> Iterator[list[Memory]]:
    looks: list[Memory] = []
    over = threading.Event()
    start = time.monotonic()

    def look() -> None:
        while not over.wait(LOOK):
            looks.append(Memory(time.monotonic() - start, server.rss()))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield looks
    finally:
        over.set()
        thread.join()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench overload", description="Ask for more than the server can do."
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of the overload")
    parser.add_argument("--times", type=float, default=4.0, help="what is found to be the capacity")
    parser.add_argument("--deadline", type=float, default=0.5, help="seconds, of every request")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the markers there")
    return parser
