"""End to end: a fleet that grows and shrinks with the traffic, and goes to zero and back."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.processes import Gateway, Site
from tests.e2e.rest import Answer
from tests.services import paced_model

TAKES = 0.1
HOLDS = 1 / TAKES  # rows a second, of a worker that takes one at a time
QUICK = "--stable_window", "3", "--scale_down_delay", "1", "--zero_grace", "1"
LONG = "30000"


def start(site: Site, *flags: str, ephemeral: bool = True) -> Gateway:
    """A gateway with a model whose worker takes one row at a time, and a tenth of a second for it."""
    code = paced_model.__name__
    gateway = site.start_gateway("--allow_code", code, "--threads", "1", *QUICK, *flags, ephemeral=ephemeral)
    settings = (
        b'{"runtime":"python","max_batch":1,"cache_size":0,"arguments":{"seconds":%g},'
        b'"inputs":[{"name":"x","datatype":"FP32","shape":[2]}]}' % TAKES
    )
    assert gateway.ask("PUT", "/models/paced", settings).json["status"] is True
    answer = gateway.ask("PUT", "/models/paced/versions/1?file=model.py", f"{code}:paced\n".encode())
    assert answer.json["status"] is True, answer
    return gateway


def ask(gateway: Gateway, *row: float) -> Answer:
    with gateway.client(timeout=60) as client:
        body = b'{"vector":[%g,%g]}' % row
        return client.ask("POST", "/models/paced/predict", body, x_timeout_ms=LONG)


class Traffic:
    """Requests that come at a rate, whatever becomes of them."""

    def __init__(self, gateway: Gateway, pool: ThreadPoolExecutor, rate: float) -> None:
        self.answers: list[Future[Answer]] = []
        self.rate = rate
        self._gateway, self._pool = gateway, pool
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due = max(due, time.monotonic() - 1.0) + 1 / self.rate
            self.answers.append(self._pool.submit(ask, self._gateway, len(self.answers), 0.5))

    def check(self) -> None:
        """Every request that came was answered rightly."""
        for n, answer in enumerate(self.answers):
            answered = answer.result(60)
            assert (answered.status, answered.json.get("result")) == (200, n + 0.5), answered


def autoscaler(gateway: Gateway) -> dict[str, Any]:
    shown: dict[str, Any] = gateway.ask("GET", "/autoscaler").json
    return shown


@pytest.mark.apart  # it goes down as slowly as its policy says
def test_a_step_to_eight_times_what_a_worker_holds_is_followed_up_and_down_and_loses_nothing(site):
    gateway = start(site, "--min_workers", "1", "--max_workers", "12")
    gateway.wait_ready(1)
    with ThreadPoolExecutor(400) as pool:
        with Traffic(gateway, pool, 0.6 * HOLDS) as traffic:
            gateway.wait_status(lambda _: autoscaler(gateway)["capacity"], "it is known what a worker holds")
            stepped = time.monotonic()
            traffic.rate = 8 * HOLDS
            gateway.wait_status(
                lambda status: sum(each["state"] == "ready" for each in status["workers"]) >= 8, "8 workers"
            )
            print(f"8 workers were ready after {time.monotonic() - stepped:.2f} s")
        traffic.check()
    gateway.wait_ready(1, timeout=60)
    events = gateway.ask("GET", "/autoscaler/events").json["events"]
    assert max(each["n"] for each in events) >= 8
    assert {"cool-down", "bounds"} <= {each["rule"] for each in events}
    assert autoscaler(gateway)["workers"]["wanted"] == 1


def test_a_fleet_goes_to_zero_and_the_first_request_brings_a_worker(site):
    gateway = start(site, "--max_workers", "2")
    for n in range(3):
        gateway.wait_ready(0, timeout=60)
        assert autoscaler(gateway)["workers"]["wanted"] == 0
        began = time.monotonic()
        answer = ask(gateway, n, 1)
        print(f"the first request after nothing was answered after {time.monotonic() - began:.2f} s")
        assert (answer.status, answer.json["result"]) == (200, n + 1), answer


def test_bounds_that_were_changed_hold_after_a_restart(site):
    gateway = start(site, "--min_workers", "1", "--max_workers", "3", ephemeral=False)
    answer = gateway.ask("PUT", "/autoscaler", b'{"min_workers":2,"policy":{"zero_grace":9}}')
    assert answer.json["min_workers"] == 2
    gateway.wait_ready(2)
    gateway.kill()
    again = site.start_gateway(
        "--min_workers", "1", "--max_workers", "3", "--allow_code", "tests.*", ephemeral=False
    )
    again.wait_ready(2)
    assert autoscaler(again)["policy"]["zero_grace"] == 9
    assert again.ask("PUT", "/autoscaler", b'{"max_workers":4}').status == 400
