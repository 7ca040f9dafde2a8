"""end to end: somebody at a gateway's sockets who is no worker. `stranger.py ROLE SERVICE LINKS DETAIL` plays
one of the functions below that take these arguments, until killed.

No socket is ever closed here: NNG 1.11 now and then crashes a process that closes one as a peer does.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pynng

from common import wire
from common.link.nng import MAX_FRAME
from common.tensor import TensorSpec
from tests.e2e.garbage import is_frame, mutated, nonsense

NOBODY = "0" * 32


def answer(socket: Any, url: str, reply: Callable[[bytes], bytes | None]) -> None:
    """Dial, and answer whatever comes, until `reply` raises `StopIteration`."""
    socket.reconnect_time_min, socket.reconnect_time_max = 20, 250
    socket.dial(url, block=False)
    with suppress(StopIteration):
        while True:
            with suppress(pynng.exceptions.NNGException):
                said = reply(socket.recv())
                if said is not None:
                    socket.send(said)
                    print("answered", flush=True)


def hello_answer(**changes: Any) -> wire.HelloAnswer:
    """What an honest new worker answers to hello, with changes."""
    honest: dict[str, Any] = {
        "worker": uuid.uuid4().hex, "name": "stranger", "host": "nowhere", "pid": 1, "scheme": "ws",
        "slots": 2, "device": "cpu", "draining": False, "caches": True, "versions": [],
    }  # fmt: skip
    return wire.HelloAnswer(**(honest | changes))


def garbage(service: str, links: str, detail: str) -> None:
    """Answer surveys with random bytes and damaged answers."""
    chance = random.Random(detail)
    status = wire.StatusAnswer(NOBODY, ["127.0.0.1"], 1, 2, 0.1, 0.1, 1.0, 2.0, 3.0, 4, 5, 6, 7, 8, [])
    real = {wire.Status: status, wire.Load: wire.LoadAnswer(NOBODY, True), wire.LinkUp: wire.Done(NOBODY)}

    def reply(question: bytes) -> bytes:
        kind = type(wire.decode(question)[0])
        frame = wire.encode(real.get(kind, hello_answer()))
        return nonsense(chance) if chance.random() < 0.5 else mutated(chance, frame)

    answer(pynng.Respondent0(), service, reply)


def boast(service: str, links: str, detail: str) -> None:
    """Join as a worker that says of itself what the JSON in `detail` says, and never comes to a link."""
    said = json.loads(detail)
    said["versions"] = [wire.VersionKey(*each) for each in said.get("versions", [])]
    me = wire.encode(hello_answer(**said))

    def reply(question: bytes) -> bytes | None:
        return me if isinstance(wire.decode(question)[0], wire.Hello) else None

    answer(pynng.Respondent0(), service, reply)


def shout(service: str, links: str, detail: str) -> None:
    """Answer surveys with more bytes than any frame may have."""
    answer(pynng.Respondent0(), service, lambda question: bytes(MAX_FRAME + 1))


def eavesdrop(service: str, links: str, detail: str) -> None:
    """Come to the link of the worker `detail`, and say so if anything is to be heard there."""
    answer(pynng.Rep0(), f"{links}/link/{detail}", lambda question: b"heard")


def deceive(service: str, links: str, detail: str) -> None:
    """Join as a worker does, be given requests and answer them with garbage; `detail` times, each time as
    somebody new. Of one life only: for as long as it lasts."""
    lives = int(detail)
    for i in range(lives):
        Deceiver(f"deceiver-{i}", lives > 1).live(service, links)


class Deceiver:
    """One worker that is none."""

    def __init__(self, name: str, is_mortal: bool) -> None:
        self._me = hello_answer(name=name)
        self._chance = random.Random(name)
        self._is_mortal = is_mortal
        self._found_out = threading.Event()

    def live(self, service: str, links: str) -> None:
        """Until it has answered a batch and lost its link for that."""
        for socket, url, reply in (
            (pynng.Respondent0(), service, self._agree),
            (pynng.Rep0(), f"{links}/link/{self._me.worker}", self._lie),
        ):
            threading.Thread(target=answer, args=(socket, url, reply), daemon=True).start()
        self._found_out.wait()

    def _agree(self, question: bytes) -> bytes | None:
        if self._found_out.is_set():
            raise StopIteration
        message, _ = wire.decode(question)
        if isinstance(message, wire.Hello):
            return wire.encode(self._me)
        if isinstance(message, wire.Load):
            return wire.encode(wire.LoadAnswer(self._me.worker, True))
        return None if isinstance(message, wire.Status) else wire.encode(wire.Done(self._me.worker))

    def _lie(self, question: bytes) -> bytes:
        if self._found_out.is_set():
            raise StopIteration
        if self._is_mortal:
            self._found_out.set()
        batch, _ = wire.decode(question)
        kinds = (
            lambda: nonsense(self._chance),
            lambda: mutated(self._chance, answer_to(batch)),
            lambda: wire.encode(wire.ChunkStored("0" * 64, 1)),
            lambda: wire.encode(self._me),
            lambda: question,
        )
        while True:
            lie = self._chance.choice(kinds)()
            if not is_believable(lie, batch):
                return lie


def answer_to(batch: wire.Batch) -> bytes:
    """What an honest worker answers to a batch, but that all results are 0."""
    parts = [
        wire.PartAnswer((TensorSpec("result", "FP32", ()),), [], bytes(len(p.counts))) for p in batch.parts
    ]
    return wire.encode(
        wire.BatchAnswer(batch.id, 0.0, 0.0, parts), [bytes(4 * sum(p.counts)) for p in batch.parts]
    )


def is_believable(frame: bytes, batch: wire.Batch) -> bool:
    """Whether it answers that batch, or refuses it, as far as anybody can tell."""
    if not is_frame(frame):
        return False
    message, _ = wire.decode(frame)
    return isinstance(message, wire.Refused) or (
        isinstance(message, wire.BatchAnswer) and message.id == batch.id
    )


if __name__ == "__main__":
    roles = {role.__name__: role for role in (garbage, boast, shout, eavesdrop, deceive)}
    roles[sys.argv[1]](*sys.argv[2:])
    threading.Event().wait()
