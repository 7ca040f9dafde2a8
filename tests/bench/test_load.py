"""collaboration: the executor's loop against a server with known delays, over real sockets."""

from __future__ import annotations

import collections
import socket
import time

import pytest

from bench import schedule
from bench.executor.doors import open_door
from bench.executor.load import Limits, Load
from bench.executor.payloads import Tensor
from bench.executor.records import Records
from bench.schedule import Row
from tests.bench.servers import delayed_server


def constant(rate: float, duration: float) -> list[Row]:
    times = schedule.times("constant", rate, rate, duration, seed=1)
    return [Row(at, "", str(n)) for n, at in enumerate(times)]


def measure(url: str, rows: list[Row], path: str | None = None, end: float = 1.0, **limits: float) -> Records:
    start = time.monotonic()
    door = open_door("starlette", url, Tensor(), path)
    load = Load(door, Limits(**limits), lambda: time.monotonic() - start)
    load.run(rows, end)
    assert not load.waiting
    assert not load.in_flight
    return load.records


def latencies(records: Records) -> list[float]:
    return sorted(done - due for due, done in zip(records.due, records.done, strict=True))


def errors(records: Records) -> dict[str, int]:
    return dict(collections.Counter(records.kinds[each] for each in records.outcome))


def test_every_request_is_answered_after_the_delay():
    with delayed_server("--delay", "0.05") as (url, _):
        records = measure(url, constant(100, 1))
    assert errors(records) == {"": 100}
    assert latencies(records)[0] >= 0.05
    assert records.missed == records.waited == 0


def test_an_open_loop_sees_the_stall_that_a_closed_one_hides():
    rows = constant(100, 2)
    with delayed_server("--delay", "0.005", "--stall", "50:1") as (url, _):
        opened = latencies(measure(url, rows))
    with delayed_server("--delay", "0.005", "--stall", "50:1") as (url, _):
        closed = latencies(measure(url, rows, end=2.0, closed=1))
    # Half of the requests of the open loop were due in the second of silence, and waited half on average.
    assert len(opened) == 200
    assert sum(each > 0.1 for each in opened) >= 80
    assert sum(each > 0.5 for each in opened) >= 40
    # One of the closed loop's saw it, and its one client asked for nothing else in that second.
    assert closed[-1] > 0.9
    assert sum(each > 0.5 for each in closed) < 3


def test_requests_leave_at_their_times_while_nothing_comes_back():
    with delayed_server("--stall", "1:1.5") as (url, _):
        records = measure(url, constant(100, 0.4))
    assert len(records) == 40
    assert max(records.sent) < min(records.done)


def test_a_request_waits_where_every_connection_is_taken_and_that_is_counted():
    with delayed_server("--delay", "0.2") as (url, _):
        records = measure(url, constant(20, 0.5), connections=1)
    assert len(records) == 10
    assert records.waited == 9
    assert latencies(records)[-1] > 1.2  # the tenth has nine before it: due at 0.45 s, done after 2 s


@pytest.mark.parametrize(
    ("path", "kind"), [("/busy", "503"), ("/close", "connection closed"), ("/never", "timeout")]
)
def test_errors_are_counted_by_kind(path: str, kind: str):
    with delayed_server() as (url, _):
        records = measure(url, constant(50, 0.2), path, timeout=0.5)
    assert errors(records) == {kind: 10}


def test_a_server_that_closes_after_each_answer_is_connected_to_again():
    with delayed_server() as (url, _):
        records = measure(url, constant(50, 0.2), "/once", connections=2)
    assert errors(records) == {"": 10}


@pytest.mark.parametrize("closed", [0, 3])
def test_a_server_that_is_not_there_is_said_to_refuse(closed: int):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        found = errors(measure(url, constant(50, 0.2), end=0.2, closed=closed))
    assert set(found) == {"connection refused"}
    assert found["connection refused"] <= 10


def test_what_was_due_before_the_start_is_not_counted():
    rows = [Row(-0.2 + n / 50, "", str(n)) for n in range(20)]
    start = time.monotonic() + 0.2
    with delayed_server() as (url, _):
        load = Load(open_door("starlette", url, Tensor()), Limits(), lambda: time.monotonic() - start)
        load.run(rows, 0.2)
    assert 9 <= len(load.records) <= 10
    assert min(load.records.due) >= 0


def test_what_the_server_says_of_its_answers_is_kept():
    with delayed_server() as (url, _):
        records = measure(url, constant(50, 0.2))
    assert records.workers == {b"w1": 10}
    assert records.cache == {b"hit": 10}
    assert list(records.phases["queue"]) == pytest.approx([0.0015] * 10)
    assert list(records.phases["infer"]) == pytest.approx([0.002] * 10)
    assert not records.phases["link"]


def test_a_loop_that_is_stopped_keeps_what_was_measured():
    with delayed_server() as (url, _):
        start = time.monotonic()
        load = Load(open_door("starlette", url, Tensor()), Limits(), lambda: time.monotonic() - start)

        def look() -> None:
            if len(load.records) >= 10:
                load.stop()

        load.run(constant(50, 60), 60, look)
    assert 10 <= len(load.records) < 20
    assert load.records.missed == 0


def test_two_processes_records_are_one():
    with delayed_server() as (url, _):
        first = measure(url, constant(50, 0.2), "/busy")
        second = measure(url, constant(50, 0.2), "/close")
        first.extend(second)
        first.extend(measure(url, constant(50, 0.2)))
    assert errors(first) == {"503": 10, "connection closed": 10, "": 10}
    assert len(first.due) == len(first.taken) == len(first.sent) == len(first.done) == 30
