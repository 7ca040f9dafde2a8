"""Many workers in one process, with real links and no model (`-m bench.crowd COUNT`, and the two addresses).

Each is to the gateway a worker of its own. All of them are busy all the time: a thread holds the interpreter
as much as inference does.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
import uuid

from common import wire
from common.addresses import link_address, parse_address, service_url
from common.link.nng import limit_threads
from common.link.worker import Answerer, answer_requests, answer_surveys

BUSY, IDLE = 0.002, 0.002  # seconds


class Worker:
    """Answers surveys as an engine's control plane would, with figures made up once."""

    def __init__(self, number: int, service: str, link: str) -> None:
        self._id = uuid.uuid4().hex
        self._name = f"crowd-{number}"
        self._base = parse_address(link)
        self._link: Answerer | None = None
        self._surveys = answer_surveys(service_url(parse_address(service)), self._answer, threads=1)

    def _answer(self, frame: memoryview) -> bytes | None:
        message, _ = wire.decode(frame)
        answer = self._message(message)
        return None if answer is None else wire.encode(answer)

    def _message(self, message: object) -> wire.Message | None:
        if isinstance(message, wire.Hello):
            return wire.HelloAnswer(
                self._id, self._name, "host", os.getpid(), self._base.scheme, 2, "cpu", False, True, []
            )
        if isinstance(message, wire.Status):
            return wire.StatusAnswer(
                self._id, ["192.0.2.1"], 9, 9, 1e-3, 1e-3, 1e-3, 2e-3, 3e-3, 9, 10, 7, 8, 2**28, []
            )
        if isinstance(message, wire.LinkUp) and self._id in message.endpoints:
            if self._link is None:
                address = link_address(self._base, message.endpoints[self._id])
                self._link = answer_requests(str(address), lambda frame: None, threads=1)
            return wire.Done(self._id)
        return None


def main() -> None:
    """Start the workers, and keep the interpreter busy until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--addr_service", required=True)
    parser.add_argument("--addr_worker", required=True)
    arguments = parser.parse_args()
    limit_threads()
    workers = [Worker(n, arguments.addr_service, arguments.addr_worker) for n in range(arguments.count)]
    threading.current_thread().name = f"{len(workers)} workers"
    while True:
        until = time.monotonic() + BUSY
        while time.monotonic() < until:
            pass
        time.sleep(IDLE)


if __name__ == "__main__":
    main()
