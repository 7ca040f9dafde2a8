"""The process that speaks with Ray for a gateway: `python -m gateway.launchers.ray.driver ADDRESS NAMESPACE`.

Orders come on its standard input and answers go to its standard output. It remembers nothing that would be
missed: whoever starts it anew is told the same by Ray. So it ends whenever Ray does something unforeseen.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, BinaryIO

import msgspec
import ray
from ray import exceptions
from ray._private.state import actors, available_resources_per_node

from gateway.launchers.launcher import LaunchState
from gateway.launchers.ray import actor
from gateway.launchers.ray.orders import Answer, Kill, Needs, Order, Room, See, Start, Stop

Seen = tuple[LaunchState, str]
WHY = {
    LaunchState.PENDING: "Ray has not placed it yet: no node has room, or it is about to start",
    LaunchState.RUNNING: "",
    LaunchState.GONE: "Ray has it no more",
}


class Watch:
    """An actor, and the question that it answers when its worker has ended."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self._ended = handle.ended.remote()
        self._is_placed = False
        self._gone = ""

    @property
    def state(self) -> LaunchState:
        """As Ray has the actor."""
        if not self._is_placed:
            state = actors(self.handle._actor_id.hex()).get("State")
            if state in ("DEAD", None):
                return LaunchState.GONE
            self._is_placed = state == "ALIVE"
        return LaunchState.RUNNING if self._is_placed else LaunchState.PENDING

    def look(self, *, is_listed: bool) -> Seen:
        """Its state now."""
        if not self._gone and ray.wait([self._ended], timeout=0)[0]:
            try:
                self._gone = ray.get(self._ended)
            except exceptions.ActorUnavailableError:  # out of reach: it may come back
                self._ended = self.handle.ended.remote()
            except exceptions.RayError as error:
                self._gone = _short(error)
        state = LaunchState.GONE if self._gone or not is_listed else self.state
        return state, self._gone or WHY[state]


class Cluster:
    """One service's workers in one cluster."""

    def __init__(self, address: str, namespace: str) -> None:
        ray.init(address, namespace=namespace, log_to_driver=False, logging_level="error")
        ray.cloudpickle.register_pickle_by_value(actor)
        self._actor = ray.remote(actor.Host)
        self._watches: dict[str, Watch] = {}

    def carry_out(self, number: int, order: Start | Stop | Kill | See | Room) -> Answer:
        """Do it; whatever goes wrong is raised."""
        if isinstance(order, See):
            return Answer(number, seen=self._see())
        if isinstance(order, Room):
            return Answer(number, room=_count_room(order.needs))
        if isinstance(order, Start):
            self._start(order)
        elif isinstance(order, Stop):
            self._stop(order)
        else:
            self._kill(order.id)
        return Answer(number)

    def _start(self, order: Start) -> None:
        needs = order.needs
        for id, arguments in order.workers.items():
            handle = self._actor.options(
                name=id,
                lifetime="detached",
                max_restarts=0,  # who starts workers again is the gateway, and nobody else
                num_cpus=needs.cpus,
                num_gpus=needs.gpus,
                memory=needs.memory,
                resources=dict(needs.resources),
                scheduling_strategy="SPREAD",  # so that the end of a node costs the fewest workers
            ).remote(arguments, dict(order.environment))
            self._watches[id] = Watch(handle)

    def _stop(self, order: Stop) -> None:
        watch = self._find(order.id)
        if watch is None:
            return
        state, _ = watch.look(is_listed=True)
        if state is not LaunchState.RUNNING:
            self._kill(order.id)
        else:
            watch.handle.stop.remote(order.grace)

    def _kill(self, id: str) -> None:
        watch = self._find(id)
        if watch is not None:
            ray.kill(watch.handle, no_restart=True)
            del self._watches[id]

    def _see(self) -> dict[str, Seen]:
        listed = set(ray.util.list_named_actors())
        watches = {id: self._find(id) for id in listed | self._watches.keys()}
        return {id: watch.look(is_listed=id in listed) for id, watch in watches.items() if watch is not None}

    def _find(self, id: str) -> Watch | None:
        if id not in self._watches:
            with suppress(ValueError):  # there is none of this name
                self._watches[id] = Watch(ray.get_actor(id))
        return self._watches.get(id)


def _count_room(needs: Needs) -> int | None:
    return needs.count_room(list(available_resources_per_node().values()))


def _short(error: BaseException) -> str:
    """Ray's sentences of it, without particulars; of an actor's death the last one, which says why."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(("\t", " "))]
    if isinstance(error, exceptions.ActorDiedError):
        lines = lines[-1:]
    return " ".join(lines)[:400] or type(error).__name__


def main() -> int:
    """Carry out orders until there are no more, or one fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the gateway's to deal with
    _, address, namespace = sys.argv
    # What Ray prints, advice for people at a terminal, must not get between the answers.
    out: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    cluster = None
    while True:
        order = msgspec.json.decode(lines.get(), type=Order)
        try:
            cluster = cluster or Cluster(address, namespace)
            answer = cluster.carry_out(order.number, order.order)
        except Exception as error:
            answer = Answer(order.number, error=_short(error))
        out.write(msgspec.json.encode(answer) + b"\n")
        if answer.error:
            os._exit(1)  # without waiting for a cluster that may not be there


def _read(lines: SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        lines.put(line)
    os._exit(0)  # the gateway has ended, or needs us no more


if __name__ == "__main__":
    sys.exit(main())
