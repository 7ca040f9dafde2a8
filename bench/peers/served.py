"""A server that runs: started, asked until it answers rightly, and ended with every process of it."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from bench.executor.doors import Door, open_door
from bench.peers.answers import Reply, is_right, numbers
from bench.peers.catalog import DOORS, Peer, Start, environment, model_settings
from bench.peers.tree import MARK, Tree, used
from bench.peers.workloads import WORKLOADS, Reference, read_reference

START_TIME, STOP_TIME = 90.0, 10.0  # seconds
ASK_TIME = 15.0
PAUSE = 0.01  # between two questions
CLIENTS = 32  # that ask for the reference answers at once
QUIET, QUIET_TIME, LONGEST = 0.3, 0.25, 6.0  # of a core, for so long; nobody is waited for longer


class Served(NamedTuple):
    """Where it is and what it is. `ready` is seconds from its start to its first right answer, `remembers` as
    of its `Peer`."""

    url: str
    door: Door
    door_name: str
    path: str | None
    workload: str
    tree: Tree
    ready: float
    reference: Reference
    remembers: bool = False

    def ask(self, connection: http.client.HTTPConnection, number: str) -> Reply:
        """Ask for the row of this number."""
        return exchange(connection, self.door.payloads.get("", number))


@contextlib.contextmanager
def served(peer: Peer, start: Start) -> Iterator[Served]:
    """Runs while inside; `RuntimeError` with what it said last where it does not answer."""
    reference = read_reference(start.programs, start.workload)
    url = f"http://127.0.0.1:{start.port}"
    name = DOORS[start.variant] if peer.is_ours else peer.door
    path = None if peer.path is None else peer.path.format(start.workload)
    door = open_door(name, url, WORKLOADS[start.workload].tensor, path)
    if peer.is_ours:
        _lay_out(start)
    mark, log = uuid.uuid4().hex, start.folder / "log"
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            peer.command(start),
            cwd=start.folder,
            env=environment(start) | {MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the one that measures, who ends it in good order
        )
    tree = Tree(process.pid, mark)
    try:
        _await_answer(door, reference, process, log)
        ready = time.monotonic() - began
        if start.workers > 1:
            _await_quiet(tree)
        yield Served(url, door, name, path, start.workload, tree, ready, reference, peer.remembers)
    finally:
        _stop(process, tree)


def count_wrong(server: Served) -> int:
    """How many reference rows are not answered as they should be, where many ask at once."""

    def ask(n: int) -> bool:
        connection = connect(server.door)
        with contextlib.closing(connection):
            try:
                reply = server.ask(connection, server.reference.numbers[n])
            except (OSError, http.client.HTTPException):
                return False
            return is_right(reply, server.reference.answers[n])

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(not right for right in pool.map(ask, range(len(server.reference.numbers))))


def connect(door: Door) -> http.client.HTTPConnection:
    """A new connection to it."""
    return http.client.HTTPConnection(door.host, door.port, timeout=ASK_TIME)


def exchange(connection: http.client.HTTPConnection, request: bytes) -> Reply:
    """Send a whole request as it is, and take the answer."""
    if connection.sock is None:
        connection.connect()
    connection.sock.sendall(request)
    response = http.client.HTTPResponse(connection.sock, method="POST")
    response.begin()
    return Reply(response.status, dict(response.getheaders()), response.read())


def _lay_out(start: Start) -> None:
    """The folder of models that ours serves: one, which answers who names none."""
    version = start.folder / "models" / "default" / "1"
    version.mkdir(parents=True)
    (version / "model.ts").symlink_to(start.programs / f"{start.workload}.ts")
    settings = model_settings(start.workload, is_cached=start.is_cached)
    (version.parent / "model.toml").write_text(settings)


def _await_answer(door: Door, reference: Reference, process: subprocess.Popen[bytes], log: Path) -> None:
    request, end = door.payloads.get("", reference.numbers[0]), time.monotonic() + START_TIME
    said = "nothing"
    while time.monotonic() < end and process.poll() is None:
        try:
            with contextlib.closing(connect(door)) as connection:
                reply = exchange(connection, request)
            if is_right(reply, reference.answers[0]):
                return
            said = f"{reply.status} {reply.body[:200]!r}"
            if reply.status == 200 and numbers(reply):
                raise RuntimeError(f"it answers {numbers(reply)[:4]}, not {reference.answers[0][:4]}")
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(PAUSE)
    last = log.read_text(errors="replace")[-800:].strip()
    raise RuntimeError(f"it did not answer within {START_TIME:.0f} s (it answered {said}) and said: {last}")


def _await_quiet(tree: Tree) -> None:
    """Until its other workers have started too: it uses little of the machine."""
    end = time.monotonic() + LONGEST
    before = tree.cpu()
    while time.monotonic() < end:
        time.sleep(QUIET_TIME)
        after = tree.cpu()
        if used(before, after) < QUIET * QUIET_TIME:
            return
        before = after


def _stop(process: subprocess.Popen[bytes], tree: Tree) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIME)
    tree.end(1.0 if process.poll() is not None else 0.0)
    process.wait()
