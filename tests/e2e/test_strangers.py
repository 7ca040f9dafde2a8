"""end to end: fuzzed frames into both of the fleet's sockets, from both sides. They are counted and logged
once, nothing dies, nobody who behaves notices, and whoever sent them is done without."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
import pynng
import pytest

from common import wire
from common.tensor import TensorSpec
from tests.e2e.garbage import is_frame, mutated, nonsense
from tests.e2e.load import run_load, wait_answered
from tests.e2e.processes import SERVICES, Gateway, Process, Site, Worker, wait_for
from tests.e2e.weights import ONE, is_right, stored

LONG = "10000"  # X-Timeout-Ms of good requests
LOG_EVERY = 10.0  # seconds between two lines of one kind


@pytest.fixture(scope="module")
def fleet(shared_site) -> tuple[Gateway, list[Worker]]:
    """Two good workers, which every test leaves ready and alone."""
    gateway = shared_site.start_gateway()
    workers = [shared_site.spawn_worker("--name", f"good-{i}") for i in range(2)]
    gateway.wait_ready(2)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    return gateway, workers


def spawn_stranger(site: Site, role: str, detail: str = "") -> Process:
    """Somebody else at the gateway's sockets."""
    stranger: Process = site.spawn(
        Process, SERVICES / "stranger.py", role, f"{site.addr_service}/service", site.addr_worker, detail
    )
    return stranger


def bad_frames(gateway: Gateway) -> int:
    count: int = gateway.status()["bad_frames"]
    return count


def check_unharmed(gateway: Gateway, workers: list[Worker]) -> None:
    """The same processes serve, all of them, and there is nobody else."""
    assert {worker["pid"] for worker in gateway.wait_ready(2)} == {worker.pid for worker in workers}
    assert gateway.set_weights(ONE, stored(ONE)).json["workers"] == [{"result": True}] * 2
    assert is_right(gateway.predict(3.0, 2.0).json["result"], ONE, 3.0, 2.0)
    for process in workers:
        assert process.is_alive
        assert process.lines("ERROR") == []


# --- into the gateway's survey socket


def test_garbage_in_answer_to_surveys_is_counted_and_logged_once(shared_site, fleet):
    gateway, workers = fleet
    before, began = bad_frames(gateway), time.monotonic()
    with run_load(gateway, clients=4, x_timeout_ms=LONG) as load:
        stranger = spawn_stranger(shared_site, "garbage", "1")
        gateway.wait_status(lambda status: status["bad_frames"] - before >= 200, "200 bad frames")
        wait_answered(load, 100)
        stranger.kill()
    assert load.wrong == []
    assert 1 <= len(gateway.lines("bad frame in a survey")) <= 1 + (time.monotonic() - began) / LOG_EVERY
    check_unharmed(gateway, workers)


STRANGE: list[dict[str, Any]] = [
    {"worker": ""},
    {"worker": "../../../etc/passwd"},
    {"worker": "A" * 32},
    {"scheme": "inproc"},
    {"scheme": "\n"},
    {"slots": -5},
    {"slots": 1 << 62},
    {"name": "\x1b[2J\n" * 1000},
    {"pid": -(1 << 63)},
    {"versions": [["default", ONE, "0" * 64]] * 1000},
]


def test_workers_that_say_strange_things_of_themselves_are_shown_and_forgotten(shared_site, fleet):
    gateway, workers = fleet
    with run_load(gateway, clients=2, x_timeout_ms=LONG) as load:
        strangers = [spawn_stranger(shared_site, "boast", json.dumps(each)) for each in STRANGE]
        states = ["joining"] * len(STRANGE) + ["ready", "ready"]
        gateway.wait_status(
            lambda status: sorted(worker["state"] for worker in status["workers"]) == states, "all of them"
        )
        wait_answered(load, 50)
        for stranger in strangers:
            stranger.kill()
    assert load.wrong == []
    check_unharmed(gateway, workers)


def test_a_frame_larger_than_any_honest_one_ends_its_sender_only(shared_site, fleet):
    gateway, workers = fleet
    before = bad_frames(gateway)
    with run_load(gateway, clients=2, x_timeout_ms=LONG) as load:
        stranger = spawn_stranger(shared_site, "shout")
        stranger.wait_for_line("answered")
        wait_answered(load, 500)
        stranger.kill()
    assert load.wrong == []
    assert bad_frames(gateway) == before  # nobody but NNG has seen it
    check_unharmed(gateway, workers)


# --- into a link, at the gateway's end


def test_garbage_in_answer_to_batches_costs_no_good_request(shared_site, fleet):
    gateway, workers = fleet
    before = bad_frames(gateway)
    with run_load(gateway, x_timeout_ms=LONG) as load:
        stranger = spawn_stranger(shared_site, "deceive", "15")
        gateway.wait_status(lambda status: status["bad_frames"] - before >= 15, "15 bad answers")
        stranger.kill()
    assert load.wrong == []
    for i in range(15):
        assert len(gateway.lines("bad frame from a worker", f"worker=deceiver-{i} ")) == 1
    check_unharmed(gateway, workers)


def test_a_worker_that_keeps_answering_garbage_is_tried_again_ever_less_often(shared_site, fleet):
    gateway, workers = fleet
    before = bad_frames(gateway)
    logged = len(gateway.lines("worker ready", "worker=deceiver-0"))
    with run_load(gateway, x_timeout_ms=LONG) as load:
        stranger = spawn_stranger(shared_site, "deceive", "1")
        gateway.wait_status(lambda status: status["bad_frames"] - before >= 4, "four bad answers")
        stranger.kill()
    assert load.wrong == []
    # Two slots: it may give two bad answers each time. Without pauses it was back within 0.1 s.
    assert 2 <= len(gateway.lines("worker ready", "worker=deceiver-0")) - logged <= 4
    ready, again = gateway.said_at("worker ready", "worker=deceiver-0")[logged : logged + 2]
    assert again - ready >= 0.5
    check_unharmed(gateway, workers)


def test_a_stranger_at_a_good_workers_link_gets_none_of_its_requests(shared_site, fleet):
    gateway, workers = fleet
    with run_load(gateway, x_timeout_ms=LONG) as load:
        known = [worker["id"] for worker in gateway.status()["workers"]]
        strangers = [spawn_stranger(shared_site, "eavesdrop", worker) for worker in known]
        for stranger in strangers:
            wait_for(lambda pid=stranger.pid: has_connected(pid), "it has come to the port")
        wait_answered(load, 1000)
        for stranger in strangers:
            stranger.kill()
    assert load.wrong == []
    assert [stranger.output for stranger in strangers] == ["", ""]
    check_unharmed(gateway, workers)


def has_connected(pid: int) -> bool:
    process: Any = psutil.Process(pid)
    # psutil 6 renamed it; clients in the test extra pin an older one.
    connections = getattr(process, "net_connections", None) or process.connections
    return any(each.status == "ESTABLISHED" for each in connections("tcp"))


def raw_greetings() -> Iterator[bytes]:
    """What may come to a port that is open: HTTP of every quality, TLS, NNG's own tcp, noise."""
    chance = random.Random(4)
    upgrade = (
        b"GET %b HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n%b\r\n"
    )
    good = upgrade % (b"/service", b"sec-websocket-protocol: surveyor.sp.nanomsg.org\r\n")
    yield from (b"", b"\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", good)
    yield upgrade % (b"/service", b"")
    yield upgrade % (b"/link/" + b"0" * 32, b"sec-websocket-protocol: rep.sp.nanomsg.org\r\n")
    yield good + b"\x82\xff\x7f" + b"\xff" * 20  # a frame of 2⁶³ bytes is announced
    yield b"\x00SP\x00\x00\x62\x00\x00" + struct.pack(">Q", 1 << 60)
    for _ in range(30):
        yield mutated(chance, good)
        yield nonsense(chance)


def test_strangers_that_speak_something_else_change_nothing(shared_site, fleet):
    gateway, workers = fleet
    ports = [int(url.rpartition(":")[2]) for url in (shared_site.addr_service, shared_site.addr_worker)]
    with run_load(gateway, clients=4, x_timeout_ms=LONG) as load:
        for port in ports:
            for greeting in raw_greetings():
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(greeting)
        wait_answered(load, 300)
    assert load.wrong == []
    check_unharmed(gateway, workers)


# --- into a worker


class RogueGateway:
    """Listens where a worker dials, and asks it what no gateway would."""

    def __init__(self, service: str, link: str) -> None:
        self._surveyor = pynng.Surveyor0(survey_time=200)
        self._surveyor.listen(service)
        self._requester = pynng.Req0(resend_time=-1, recv_timeout=10_000)
        self._requester.listen(link)

    @property
    def has_worker(self) -> bool:
        """Whether a worker has come to the survey socket."""
        return bool(self._surveyor.pipes)

    @property
    def has_link(self) -> bool:
        """Whether a worker has come to the link."""
        return bool(self._requester.pipes)

    @property
    def link_connections(self) -> set[int]:
        """The connections of the link now."""
        return {pipe.id for pipe in self._requester.pipes}

    def survey(self, frame: bytes) -> None:
        """Ask the fleet, and do not wait for answers."""
        self._surveyor.send(frame)

    def ask(self, question: wire.Message) -> Any:
        """An honest survey of one worker, and its decoded answer; those to earlier ones are lost."""

        def answer() -> bytes | None:
            self._surveyor.send(wire.encode(question))
            with suppress(pynng.exceptions.Timeout):  # dropped: many are on their way
                return bytes(self._surveyor.recv())
            return None

        return wire.decode(wait_for(answer, f"an answer to {question}"))[0]

    def request(self, frame: bytes) -> bytes:
        """One frame over the link, and its answer."""
        self._requester.send(frame)
        return bytes(self._requester.recv())

    def close(self) -> None:
        """End both sockets."""
        self._surveyor.close()
        self._requester.close()


@pytest.fixture
def rogue(site) -> Iterator[tuple[RogueGateway, Worker, str]]:
    """A worker that has found a rogue gateway, on survey socket and link; and the worker's id."""
    worker = site.spawn_worker("--name", "abused")
    link = f"/link/{'0' * 32}"
    gateway = RogueGateway(f"{site.addr_service}/service", f"{site.addr_worker}{link}")
    try:
        wait_for(lambda: gateway.has_worker, "the worker comes")
        hello = gateway.ask(wire.Hello("rogue"))
        assert (hello.name, hello.pid) == ("abused", worker.pid)
        assert gateway.ask(wire.LinkUp({hello.worker: link})) == wire.Done(hello.worker)
        wait_for(lambda: gateway.has_link, "the worker comes to its link")
        yield gateway, worker, hello.worker
    finally:
        gateway.close()


def surveys(worker: str) -> list[bytes]:
    """A real frame of every kind that a gateway asks a worker, none of which tells it to leave."""
    key = wire.VersionKey("default", ONE, "0" * 64)
    whole = stored(ONE)
    its_key = wire.VersionKey("default", ONE, hashlib.sha256(whole).hexdigest())
    return [
        wire.encode(wire.Hello("rogue")),
        wire.encode(wire.Status()),
        wire.encode(wire.LinkUp({worker: "/link/" + "0" * 32})),
        wire.encode(wire.Load([worker], key, 100)),
        wire.encode(wire.Load([worker], key, 100, "/dev/null")),
        wire.encode(wire.Load([worker], its_key, len(whole)), [whole]),
        wire.encode(wire.Commit([worker], "default", ONE)),
        wire.encode(wire.Drop([worker], "default", ONE)),
    ]


def requests() -> list[bytes]:
    """Real frames of every kind that a link carries."""
    row = TensorSpec("vector", "FP32", (2,))
    part = wire.Part((row,), [1, 2], [1.0, 1.0])
    return [
        wire.encode(wire.Batch(7, "default", ONE, [part]), [struct.pack("<6f", *range(6))]),
        wire.encode(wire.Batch(8, "default", ONE, [part, part]), [struct.pack("<6f", *range(6))] * 2),
        wire.encode(wire.Chunk("0" * 64, 100, 0), [bytes(50)]),
        wire.encode(wire.Chunk("0" * 64, 1 << 62, 50), [bytes(50)]),
        wire.encode(wire.Chunk("0" * 64, -1, -(1 << 62)), [b""]),
    ]


def strange_endpoint(frame: bytes) -> bool:
    """Whether it would really send the worker's link elsewhere, which is a gateway's right."""
    return is_frame(frame) and isinstance(wire.decode(frame)[0], wire.LinkUp | wire.Drain)


def test_a_worker_outlives_fuzzed_surveys(site, rogue):
    gateway, worker, me = rogue
    chance = random.Random(5)
    for i in range(600):
        frame = nonsense(chance) if i % 3 == 0 else mutated(chance, chance.choice(surveys(me)))
        if not strange_endpoint(frame):
            gateway.survey(frame)
            if i % 5 == 0:  # NNG drops what is too much: eight in a queue
                assert gateway.ask(wire.Hello("rogue")).worker == me
    assert gateway.ask(wire.Status()).worker == me
    assert len(worker.lines("bad frame in a survey")) == 1
    check_serves_an_honest_gateway(site, gateway, worker)


def test_a_worker_outlives_fuzzed_requests_and_answers_every_one(site, rogue):
    gateway, worker, me = rogue
    loaded = gateway.ask(wire.Load([me], wire.VersionKey("default", ONE, "0" * 64), 1))
    assert (loaded.ok, loaded.worker) == (False, me)
    gateway.survey(surveys(me)[5])
    chance = random.Random(6)
    said: dict[str, int] = {}
    for i in range(1500):
        frame = nonsense(chance) if i % 3 == 0 else mutated(chance, chance.choice(requests()))
        answer = wire.decode(gateway.request(frame))[0]
        kind = answer.code if isinstance(answer, wire.Refused) else type(answer).__name__
        said[kind] = said.get(kind, 0) + 1
        if not is_frame(frame):
            assert isinstance(answer, wire.Refused)
    print(said)
    assert said[wire.WireError.code] > 1000
    assert len(worker.lines("bad frame on the link")) == 1
    answer, buffers = wire.decode(gateway.request(requests()[0]))
    assert [len(buffer) for buffer in buffers] == [12]
    assert is_right(struct.unpack("<3f", buffers[0])[1], ONE, 2.0, 3.0)
    check_serves_an_honest_gateway(site, gateway, worker)


def check_serves_an_honest_gateway(site: Site, rogue: RogueGateway, worker: Worker) -> None:
    """After all that the same process finds a real gateway and serves for it."""
    assert rogue.ask(wire.Status()).rss < 1 << 30
    rogue.close()
    gateway = site.start_gateway()
    (ready,) = gateway.wait_ready(1)
    assert ready["pid"] == worker.pid
    said = gateway.set_weights(ONE, stored(ONE)).json
    assert said["status"], base64.b64decode(said["workers"][0]["trace"]).decode()
    assert is_right(gateway.predict(3.0, 2.0).json["result"], ONE, 3.0, 2.0)
    assert worker.lines("ERROR") == []


def test_a_worker_told_twice_that_its_link_is_not_up_dials_it_anew(rogue):
    gateway, _, me = rogue
    told = wire.LinkUp({me: "/link/" + "0" * 32})
    before = gateway.link_connections
    gateway.ask(told)  # once, the link may have come up this moment
    gateway.ask(told)
    wait_for(lambda: gateway.link_connections - before, "another connection")
    row = requests()[0]
    assert isinstance(wire.decode(gateway.request(row))[0], wire.Refused)  # it has no weights, and answers
