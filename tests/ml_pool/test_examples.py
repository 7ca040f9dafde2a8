"""end to end: the example programs, over HTTP and WebSocket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.sync.client import connect

from tests.ml_pool.conftest import WAIT, until

ROOT = Path(__file__).parents[2]


class Program:
    """A running example."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT)
        self.websocket = f"ws://127.0.0.1:{port}/primes"

    def is_up(self) -> bool:
        assert self.process.poll() is None
        try:
            return self.client.get("/statistics").is_success
        except httpx.TransportError:
            return False

    def statistics(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/statistics").json()
        return found


def open_example(name: str) -> Iterator[Program]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, f"examples/{name}.py", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    program = Program(port, process)
    try:
        until(program.is_up)
        yield program
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.wait(WAIT)
        program.client.close()
        assert psutil.wait_procs(children, timeout=5)[1] == []


@pytest.fixture(scope="module")
def fastapi_program() -> Iterator[Program]:
    yield from open_example("ml_pool_fastapi")


@pytest.fixture(scope="module")
def starlette_program() -> Iterator[Program]:
    yield from open_example("ml_pool_starlette")


@pytest.fixture(params=["fastapi", "starlette"])
def program(request: pytest.FixtureRequest) -> Program:
    found: Program = request.getfixturevalue(f"{request.param}_program")
    return found


def test_many_clients_are_answered(program: Program) -> None:
    def ask(below: int) -> Any:
        return program.client.post("/primes", json={"below": below}).json()

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, [10, 100, 1000] * 10))
    assert answers == [{"primes": 4}, {"primes": 25}, {"primes": 168}] * 10


def test_the_loop_goes_on_while_the_model_computes(program: Program) -> None:
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(program.client.post, "/primes", json={"below": 200_000})
        until(lambda: program.statistics()["running"] == 1)
        assert not slow.done()
        assert slow.result(WAIT).json() == {"primes": 17984}


def test_a_client_that_leaves_takes_its_job_with_it(starlette_program: Program) -> None:
    before = starlette_program.statistics()["cancelled"]
    with pytest.raises(httpx.ReadTimeout):
        starlette_program.client.post("/primes", json={"below": 50_000_000}, timeout=0.5)
    until(lambda: starlette_program.statistics()["cancelled"] == before + 1)
    assert starlette_program.client.post("/primes", json={"below": 10}).json() == {"primes": 4}


def test_an_error_of_the_model_is_the_callers_answer(fastapi_program: Program) -> None:
    answer = fastapi_program.client.post("/primes", json={"below": 10_000_001})
    assert (answer.status_code, answer.json()) == (400, {"detail": "that would take an hour"})
    assert fastapi_program.client.post("/primes", json={"below": -1}).status_code == 422


def test_websocket_clients_are_answered_and_their_jobs_end_with_them(fastapi_program: Program) -> None:
    before = fastapi_program.statistics()["cancelled"]
    with connect(fastapi_program.websocket) as socket_:
        for below, count in ((10, 4), (100, 25)):
            socket_.send(str(below))
            assert socket_.recv(WAIT) == str(count)
        socket_.send("9000000")
        until(lambda: fastapi_program.statistics()["running"] == 1)
    until(lambda: fastapi_program.statistics()["cancelled"] == before + 1)
    assert fastapi_program.statistics()["running"] == 0
