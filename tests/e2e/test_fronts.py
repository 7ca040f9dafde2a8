"""end to end: `--processes 2`. Every promise of one gateway is kept by one with fronts before it, and a front
that dies costs its own clients' connections and nothing else."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator

import psutil
import pytest

from tests.e2e.held import start_held
from tests.e2e.load import run_load, wait_answered
from tests.e2e.processes import Gateway, Site, wait_for
from tests.e2e.test_failures import (  # noqa: F401 - these run here, too, at a site with fronts
    fleet,
    refused_or_shut,
    test_a_gateway_told_to_stop_answers_what_it_has,
    test_a_request_admitted_before_a_switch_is_answered_by_the_old_version,
    test_five_workers_killed_one_at_a_time_cost_no_request,
    test_requests_in_progress_are_all_answered_before_the_gateway_ends,
    test_weights_switched_under_load_never_mix,
)
from tests.e2e.weights import ONE, is_right, stored

PREDICT = b"POST /predict HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b"
STATUS = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
ROW = b'{"vector":[3,2]}'


class FrontedSite(Site):
    """A site whose gateways have two fronts."""

    def spawn_gateway(self, *flags: str, ephemeral: bool = True, **environment: str) -> Gateway:
        return super().spawn_gateway("--processes", "2", *flags, ephemeral=ephemeral, **environment)


@pytest.fixture
def site(tmp_path_factory) -> Iterator[Site]:
    yield from opened(FrontedSite(tmp_path_factory.mktemp("site")))


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory) -> Iterator[Site]:
    yield from opened(FrontedSite(tmp_path_factory.mktemp("site")))


@pytest.fixture(scope="module")
def fronted_site(tmp_path_factory) -> Iterator[Site]:
    yield from opened(FrontedSite(tmp_path_factory.mktemp("site")))


@pytest.fixture(scope="module")
def plain_site(tmp_path_factory) -> Iterator[Site]:
    yield from opened(Site(tmp_path_factory.mktemp("site")))


def opened(site: Site) -> Iterator[Site]:
    try:
        yield site
    finally:
        site.close()


def fronts(gateway: Gateway) -> list[psutil.Process]:
    return [each for each in gateway.children() if "gateway.fronts" in each.cmdline()]


def post(body: bytes, *headers: bytes, path: bytes = b"/predict") -> bytes:
    lines = b"".join(b"%b\r\n" % header for header in headers)
    return PREDICT.replace(b"/predict", path) % (lines, len(body), body)


@pytest.fixture(scope="module")
def both(fronted_site, plain_site) -> list[Gateway]:
    """A gateway with two fronts and one without, each with a worker that serves the same weights."""
    gateways = [site.start_gateway() for site in (fronted_site, plain_site)]
    for site, gateway in zip((fronted_site, plain_site), gateways, strict=True):
        site.spawn_worker("--name", "it", "--cache_size", "0")
        gateway.wait_ready(1)
        assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    return gateways


def said(gateway: Gateway, data: bytes) -> bytes:
    """All that a gateway says to these bytes, until it closes, without what differs each time."""
    raw = b""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as client:
        client.sendall(data)
        while more := client.recv(65536):
            raw += more
    raw = re.sub(rb"date: [^\r]*\r\n", b"", raw)
    raw = re.sub(rb"(x-request-id|x-worker|x-model-version|server-timing): [^\r]*", rb"\1: -", raw)
    return re.sub(rb"dur=[0-9.]+", b"dur=-", raw)


CLOSE = b"Connection: close"
TALKS = {
    "one": post(ROW, CLOSE),
    "kept alive and pipelined": post(ROW) * 20 + post(ROW, CLOSE),
    "pipelined with what fronts do not serve": (post(ROW) + STATUS) * 3 + post(ROW, CLOSE),
    "the app first": STATUS + post(ROW, CLOSE),
    "chunked": b"POST /predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"8\r\n{\"vector\r\n8\r\n\":[3,2]}\r\n0\r\n\r\n",
    "HTTP/1.0": b"POST /predict HTTP/1.0\r\nContent-Length: 16\r\n\r\n" + ROW,
    "a request id": post(ROW, b"X-Request-Id: mine", CLOSE),
    "a model by name": post(ROW, CLOSE, path=b"/models/default/predict"),
    "no such model": post(ROW, CLOSE, path=b"/models/nobody/predict"),
    "no such model of V2": post(b'{"inputs":[]}', CLOSE, path=b"/v2/models/nobody/infer"),
    "no JSON": post(b"{", CLOSE),
    "a wrong shape": post(b'{"vector":"abc"}', CLOSE),
    "a wrong width": post(b'{"vector":[1,2,3]}', CLOSE),
    "a bad deadline": post(ROW, b"X-Timeout-Ms: soon", CLOSE),
    "a body too large": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
    "a body too large of V2": b"POST /v2/models/a/infer HTTP/1.1\r\nHost: a\r\n"
    b"Content-Length: 99999999\r\n\r\n",
    "headers too large": b"POST /predict HTTP/1.1\r\nHost: a\r\n" + b"X: %b\r\n" % (b"y" * 1000) * 40,
    "no host": b"POST /predict HTTP/1.1\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "two lengths": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "expectations": b"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\nContent-Length: 2\r\n\r\n{}",
    "nothing there": b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "another method": b"PUT /predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "no WebSocket": b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("talk", TALKS)
def test_what_a_client_is_told_is_the_same_with_fronts_and_without(both, talk):
    fronted, alone = (said(gateway, TALKS[talk]) for gateway in both)
    assert fronted == alone
    assert fronted.startswith(b"HTTP/1.1 ")


def test_a_body_as_large_as_allowed_comes_whole(both):
    body = b'{"vector":[3,2],"more":"%b"}' % (b"x" * (8 << 20))
    body = body[: 8 << 20][:-2] + b'"}'
    for gateway in both:
        answer = gateway.ask("POST", "/predict", body)
        assert (answer.status, is_right(answer.json["result"], ONE, 3.0, 2.0)) == (200, True)


def test_every_request_is_counted_once(both):
    gateway = both[0]
    before = handled(gateway)
    with gateway.client() as client:
        for _ in range(10):
            assert client.predict(3.0, 2.0).status == 200
    assert handled(gateway) == before + 10


def handled(gateway: Gateway) -> int:
    return int(gateway.status()["count_requests_handled"])


def test_a_client_that_leaves_takes_its_request_with_it(site, tmp_path):
    hold = tmp_path / "hold"
    gateway = start_held(site, hold)
    clients = [gateway.client() for _ in range(20)]
    for i, client in enumerate(clients):
        client.send_row(0.5, i / 20)
    gateway.wait_status(lambda status: status["requests_in_progress"] == 20, "all admitted")
    for client in clients:
        client.close()
    gateway.wait_status(lambda status: status["requests_in_progress"] == 0, "nobody waits")
    hold.unlink()
    assert gateway.predict(0.5, 0.5).status == 200


def test_a_killed_front_costs_its_own_connections_and_is_replaced(site):
    gateway = site.start_gateway("--workers", "1")
    gateway.wait_ready(1)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    wait_for(lambda: len(fronts(gateway)) == 2, "two fronts")
    dying, staying = fronts(gateway)
    with run_load(gateway, clients=24) as load:
        wait_answered(load, 300)
        lost = connections(dying)
        assert lost
        assert connections(staying)
        dying.kill()
        gateway.wait_for_line("front ended", "killed by SIGKILL")
        wait_for(lambda: len(fronts(gateway)) == 2, "a new front")
        with run_load(gateway, clients=24) as more:
            wait_answered(more, 300)
        wait_answered(load, 300)
    assert more.wrong == []
    assert len(load.wrong) <= lost
    assert all(outcome.is_right() or outcome.answer is None for outcome in load.outcomes)
    assert staying.is_running()


def test_a_front_that_is_stopped_is_replaced_within_seconds(site):
    gateway = site.start_gateway()
    wait_for(lambda: len(fronts(gateway)) == 2, "two fronts")
    stopped, staying = fronts(gateway)
    idle = [socket.create_connection(("127.0.0.1", gateway.port), timeout=20) for _ in range(24)]
    wait_for(lambda: all(map(connections, (stopped, staying))), "both serve")
    stopped.suspend()
    gateway.wait_for_line("front ended", "killed by SIGKILL")
    wait_for(lambda: len(fronts(gateway)) == 2, "a new front")
    assert staying.is_running()
    assert not stopped.is_running()
    for sock in idle:
        sock.close()


def test_connections_count_together_whichever_front_has_them_and_whether_it_still_does(site):
    gateway = site.start_gateway("--max_connections_per_address", "8")
    wait_for(lambda: len(fronts(gateway)) == 2, "two fronts")
    kept = []
    for request in [STATUS, post(ROW)] * 4:
        kept.append(socket.create_connection(("127.0.0.1", gateway.port), timeout=20))
        kept[-1].sendall(request)
        assert kept[-1].recv(12) == b"HTTP/1.1 200"
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as sock:
            assert b"This address has 8 connections, as many as it may." in sock.makefile("rb").read()
    kept.pop().close()
    wait_for(lambda: gateway.ask("GET", "/v2/health/live").status == 200, "there is room for one more")
    for sock in kept:
        sock.close()


def connections(front: psutil.Process) -> int:
    found = [each for each in psutil.net_connections("tcp") if each.pid == front.pid]
    return sum(each.status == psutil.CONN_ESTABLISHED for each in found)


def test_a_front_that_dies_takes_its_requests_back(site, tmp_path):
    hold = tmp_path / "hold"
    gateway = start_held(site, hold)
    clients = [gateway.client() for _ in range(20)]
    for client in clients:
        client.send_row(0.5, 0.5)
    gateway.wait_status(lambda status: status["requests_in_progress"] == 20, "all admitted")
    for front in fronts(gateway):
        front.kill()
    gateway.wait_status(lambda status: status["requests_in_progress"] == 0, "nobody waits")
    hold.unlink()
    assert gateway.predict(0.5, 0.5).status == 200


def test_signals_to_all_processes_at_once_drain_them_in_order(site):
    gateway = site.start_gateway("--workers", "1")
    gateway.wait_ready(1)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    with run_load(gateway) as load:
        wait_answered(load, 200)
        for front in fronts(gateway):
            front.send_signal(signal.SIGTERM)  # as a service manager does, to everything in the group
        gateway.send(signal.SIGTERM)
        assert gateway.wait() == 0
        load.stop()
    assert [str(o) for o in load.outcomes if not o.is_right() and not refused_or_shut(o)] == []
    assert site.survivors() == []
    assert not gateway.lines("front ended")


def test_the_fronts_of_a_killed_gateway_end_by_themselves(site):
    gateway = site.start_gateway()
    wait_for(lambda: len(fronts(gateway)) == 2, "two fronts")
    gateway.kill()
    wait_for(lambda: not site.survivors(), "the fronts end", 15.0)


def test_an_address_that_another_gateway_shares_among_its_fronts_is_in_use(site):
    first = site.start_gateway()
    other = FrontedSite(site.folder / "other")
    other.folder.mkdir()
    other.rest_port = site.rest_port
    try:
        second = other.spawn_gateway()
        assert second.wait() == 1
        assert second.lines("cannot listen on", "Address already in use")
    finally:
        other.close()
    assert first.is_alive


def test_a_client_too_slow_with_its_head_is_told_so_by_a_front(site):
    gateway = site.start_gateway()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\n")
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")
