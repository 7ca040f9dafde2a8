"""Many workers in one process, with real links and no model (`-m bench.crowd COUNT`, and the two addresses).

Each is to the gateway a worker of its own: it says that it loaded whatever it is given, and answers zeros.
Unless they are `--idle` they are busy all the time: a thread holds the interpreter as much as inference does.
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
from common.tensor import TensorSpec

BUSY, IDLE = 0.002, 0.002  # seconds
RESULT = (TensorSpec("result", "FP32", (1,)),)


class Worker:
    """Answers surveys as an engine's control plane would, with figures made up once."""

    def __init__(self, number: int, service: str, link: str, *, holds: bool) -> None:
        self._id = uuid.uuid4().hex
        self._name = f"crowd-{number}"
        self._base = parse_address(link)
        self._holds = holds
        self._link: Answerer | None = None
        self._versions: dict[tuple[str, str], wire.VersionKey] = {}
        self._surveys = answer_surveys(service_url(parse_address(service)), self._answer, threads=1)

    def _answer(self, frame: memoryview) -> bytes | None:
        message, _ = wire.decode(frame)
        answer = self._message(message)
        return None if answer is None else wire.encode(answer)

    def _message(self, message: object) -> wire.Message | None:
        if isinstance(message, wire.Hello):
            return wire.HelloAnswer(
                self._id, self._name, "host", os.getpid(), self._base.scheme, 2, "cpu", False, True,
                list(self._versions.values()), [] if self._holds else ["nothing"],
            )  # fmt: skip
        if isinstance(message, wire.Status):
            return wire.StatusAnswer(
                self._id, ["192.0.2.1"], 9, 9, 1e-3, 1e-3, 1e-3, 2e-3, 3e-3, 9, 10, 7, 8, 2**28, []
            )
        if isinstance(message, wire.LinkUp) and self._id in message.endpoints:
            if self._link is None:
                address = link_address(self._base, message.endpoints[self._id])
                self._link = answer_requests(str(address), _answer_batch, threads=1)
            return wire.Done(self._id)
        if isinstance(message, wire.Load) and self._id in message.workers:
            self._versions[message.key.model, message.key.version] = message.key
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
    parser.add_argument("--holders", type=int, help="how many of them take models (default: all)")
    arguments = parser.parse_args()
    limit_threads()
    holders = arguments.count if arguments.holders is None else arguments.holders
    addresses = arguments.addr_service, arguments.addr_worker
    workers = [Worker(n, *addresses, holds=n < holders) for n in range(arguments.count)]
    threading.current_thread().name = f"{len(workers)} workers"
    while arguments.idle:
        time.sleep(60)
    while True:
        until = time.monotonic() + BUSY
        while time.monotonic() < until:
            pass
        time.sleep(IDLE)


if __name__ == "__main__":
    main()
