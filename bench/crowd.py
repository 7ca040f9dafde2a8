"""Many workers in one process, with real links and no model (`-m bench.crowd COUNT`, and the two addresses).

Each is to the gateway a worker of its own: it says that it loaded whatever it is given, and answers zeros.
Unless they are `--idle` they are busy all the time: a thread holds the interpreter as much as inference does.
Of idle ones only the `--first` come at once. On SIGUSR1 the others do, and hold what the first one was given,
as workers do that were cut off and come back: to give 50 models to 200 of one process takes minutes.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
import uuid

from common import wire
from common.addresses import link_address, parse_address, service_url
from common.link.nng import limit_threads
from common.link.worker import Answerer, answer_requests, answer_surveys
from common.tensor import TensorSpec

BUSY, IDLE = 0.002, 0.002  # seconds
PACE = 0.02  # between two that come late: those that are there have to answer meanwhile
Held = dict[tuple[str, str], wire.VersionKey]
RESULT = (TensorSpec("result", "FP32", (1,)),)


class Worker:
    """Answers surveys as an engine's control plane would, with figures made up once."""

    def __init__(self, number: int, service: str, link: str, holding: Held | None = None) -> None:
        self._id = uuid.uuid4().hex
        self._name = f"crowd-{number}"
        self._base = parse_address(link)
        self._link: Answerer | None = None
        self.versions: Held = dict(holding or {})
        self._said: dict[type, bytes] = {}
        self._surveys = answer_surveys(service_url(parse_address(service)), self._answer, threads=1)

    def _answer(self, frame: memoryview) -> bytes | None:
        message, _ = wire.decode(frame)
        known = self._said.get(
            type(message)
        )  # one process speaks for hundreds: it must not be what is measured
        if known is None:
            answer = self._message(message)
            known = None if answer is None else wire.encode(answer)
            if known is not None and isinstance(message, wire.Hello | wire.Status):
                self._said[type(message)] = known
        return known

    def _message(self, message: object) -> wire.Message | None:
        if isinstance(message, wire.Hello):
            return wire.HelloAnswer(
                self._id, self._name, "host", os.getpid(), self._base.scheme, 2, "cpu", False, True,
                list(self.versions.values()), [],
            )  # fmt: skip
        if isinstance(message, wire.Status):
            return wire.StatusAnswer(
                self._id, ["192.0.2.1"], 9, 9, 1e-3, 1e-3, 1e-3, 2e-3, 3e-3, 9, 10, 7, 8, 2**28,
                list(self.versions.values()),
            )  # fmt: skip
        if isinstance(message, wire.LinkUp) and self._id in message.endpoints:
            if self._link is None:
                address = link_address(self._base, message.endpoints[self._id])
                self._link = answer_requests(str(address), _answer_batch, threads=1)
            return wire.Done(self._id)
        if isinstance(message, wire.Load) and self._id in message.workers:
            self._said.clear()
            self.versions[message.key.model, message.key.version] = message.key
            return wire.LoadAnswer(self._id, True)
        if isinstance(message, wire.Commit) and self._id in message.workers:
            return wire.Done(self._id)
        return None


def _answer_batch(frame: memoryview) -> bytes:
    batch, _ = wire.decode(frame)
    parts, zeros = [], []
    for part in batch.parts:
        rows = sum(part.counts)
        calls = [wire.Call(rows, 1e-6, 1e-6, 1e-6)]
        parts.append(wire.PartAnswer(RESULT, [], bytes(len(part.counts)), calls))
        zeros.append(bytes(4 * rows))
    return wire.encode(wire.BatchAnswer(batch.id, 1e-6, 1e-6, parts), zeros)


def main() -> None:
    """Start the workers, and keep the interpreter busy, or not, until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--addr_service", required=True)
    parser.add_argument("--addr_worker", required=True)
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--first", type=int, help="how many come before SIGUSR1 (default: all)")
    arguments = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    limit_threads()
    first = arguments.count if arguments.first is None else arguments.first
    addresses = arguments.addr_service, arguments.addr_worker
    workers = [Worker(n, *addresses) for n in range(first)]
    threading.current_thread().name = f"{arguments.count} workers"
    while arguments.idle:
        signal.sigwait([signal.SIGUSR1])
        for number in range(len(workers), arguments.count):
            workers.append(Worker(number, *addresses, holding=workers[0].versions))
            time.sleep(PACE)
    while True:
        until = time.monotonic() + BUSY
        while time.monotonic() < until:
            pass
        time.sleep(IDLE)


if __name__ == "__main__":
    main()
