"""end to end: a gateway on one host and workers on others, over lines that are slow and lose packets, are cut
without a word, work one way only, or end at a host that has lost its power. Nothing that a client sent is
lost, and nothing is answered wrongly."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e.load import Load, run_load, wait_answered
from tests.e2e.weights import ONE, TWO, padded, stored
from tests.hosts.fleet import HostFleet, HostGateway
from tests.hosts.hosts import Host, open_hosts

pytestmark = pytest.mark.apart

DELAY, LOSS = 0.02, 0.01  # of every packet, each way; the time between two hosts and back is twice that
IN_TIME = "8000"  # X-Timeout-Ms: of what waited for a silent host, others have to make good
READY = {"host1": "ready", "host2": "ready", "host3": "ready"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory) -> Iterator[HostFleet]:
    """A gateway and four hosts, workers on three of them. A test leaves these three ready."""
    with open_hosts(5, delay=DELAY) as hosts:
        for host in hosts:
            host.lose(LOSS)
        fleet = HostFleet(hosts, tmp_path_factory.mktemp("fleet"))
        yield fleet
        fleet.check_logs()


@pytest.fixture(scope="module")
def gateway(fleet: HostFleet) -> HostGateway:
    gateway = fleet.start_gateway("--insecure")
    for host in fleet.hosts[1:4]:
        fleet.start_worker(host)
    gateway.wait_states(**READY)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    return gateway


def workers_of(load: Load, since: int = 0) -> set[str]:
    """Who answered."""
    return {outcome.answer.headers["x-worker"] for outcome in load.outcomes[since:] if outcome.answer}


def test_every_host_answers_rightly_over_a_slow_line_that_loses_packets(gateway: HostGateway) -> None:
    with run_load(gateway, clients=32, x_timeout_ms=IN_TIME) as load:
        wait_answered(load, 3000)
    assert load.wrong == []
    assert workers_of(load) == set(READY)
    assert gateway.states() == READY
    took = sorted(outcome.ended - outcome.began for outcome in load.outcomes)
    seconds = load.outcomes[-1].ended - load.outcomes[0].began
    print(
        f"32 clients: {len(took) / seconds:.0f}/s, p50 {took[len(took) // 2]:.4f} s,"
        f" p99 {took[-len(took) // 100]:.4f} s, slowest {took[-1]:.3f} s"
    )


def test_weights_of_megabytes_arrive_whole_while_predictions_go_on(gateway: HostGateway) -> None:
    with run_load(gateway, clients=4, x_timeout_ms=IN_TIME) as load:
        wait_answered(load, 100)
        began = time.monotonic()
        answer = gateway.set_weights(TWO, padded(TWO, 4 << 20)).json
        took = time.monotonic() - began
        there = len(load.outcomes)
        wait_answered(load, 100)
    assert answer == {
        "status": True, "message": "OK", "workers_count": 3, "workers": [{"result": True}] * 3
    }  # fmt: skip
    assert load.wrong == []
    assert {outcome.answer.version for outcome in load.outcomes[there + 4 :]} == {TWO}
    assert gateway.states() == READY
    print(
        f"4 MiB to three hosts: {took:.2f} s; slowest of {len(load.outcomes)} requests {load.slowest:.2f} s"
    )


def test_a_silent_cut_costs_no_request_and_the_host_comes_back(
    fleet: HostFleet, gateway: HostGateway
) -> None:
    host = fleet.hosts[1]
    with run_load(gateway, x_timeout_ms=IN_TIME) as load:
        wait_answered(load, 200)
        host.cut()
        cut = time.monotonic()
        gateway.wait_named("host1", "suspect", "gone")
        noticed = time.monotonic() - cut
        wait_answered(load, 200)
        host.mend()
        mended = time.monotonic()
        gateway.wait_states(**READY)
        back = time.monotonic() - mended
        wait_answered(load, 200)
    assert load.wrong == []
    print(
        f"noticed after {noticed:.2f} s, back {back:.2f} s after it was mended; slowest {load.slowest:.2f} s"
    )


def test_a_host_that_was_cut_off_for_long_has_the_new_weights_before_it_is_asked(
    fleet: HostFleet, gateway: HostGateway
) -> None:
    fleet.hosts[2].cut()
    gateway.wait_named("host2", "gone")
    assert gateway.set_weights(ONE, stored(ONE)).json["workers_count"] == 2
    time.sleep(5)  # long enough for the kernel to try again only every few seconds
    fleet.hosts[2].mend()
    mended = time.monotonic()
    with run_load(gateway, x_timeout_ms=IN_TIME) as load:
        gateway.wait_states(**READY)
        back = time.monotonic() - mended
        since = len(load.outcomes)
        wait_answered(load, 500)
    assert load.wrong == []
    assert {outcome.answer.version for outcome in load.outcomes} == {ONE}
    assert "host2" in workers_of(load, since)
    print(f"back {back:.2f} s after it was mended")


@pytest.mark.parametrize("way", ["to the worker", "from the worker"])
def test_a_line_that_works_one_way_only_is_as_good_as_cut(
    way: str, fleet: HostFleet, gateway: HostGateway
) -> None:
    ours, theirs = fleet.hosts[0], fleet.hosts[3]
    deaf, heard = (theirs, ours) if way == "to the worker" else (ours, theirs)
    with run_load(gateway, x_timeout_ms=IN_TIME) as load:
        wait_answered(load, 200)
        deaf.ignore(heard)
        began = time.monotonic()
        gateway.wait_named("host3", "suspect", "gone")
        noticed = time.monotonic() - began
        wait_answered(load, 200)
        deaf.lose(LOSS)
        mended = time.monotonic()
        gateway.wait_states(**READY)
        back = time.monotonic() - mended
    assert load.wrong == []
    print(f"{way}: noticed after {noticed:.2f} s, back after {back:.2f} s; slowest {load.slowest:.2f} s")


def test_two_hosts_cut_off_at_once_convict_no_request(fleet: HostFleet, gateway: HostGateway) -> None:
    with run_load(gateway, x_timeout_ms=IN_TIME) as load:
        wait_answered(load, 200)
        for host in fleet.hosts[1:3]:
            host.cut()
        for host in fleet.hosts[1:3]:
            gateway.wait_named(host.name, "suspect", "gone")
        wait_answered(load, 200)
        for host in fleet.hosts[1:3]:
            host.mend()
        gateway.wait_states(**READY)
    assert load.wrong == []


def test_a_host_that_joins_late_serves_and_one_that_loses_its_power_is_stood_in_for(
    fleet: HostFleet, gateway: HostGateway
) -> None:
    host: Host = fleet.hosts[4]
    with run_load(gateway, x_timeout_ms=IN_TIME) as load:
        fleet.start_worker(host)
        gateway.wait_states(**READY, host4="ready")
        since = len(load.outcomes)
        wait_answered(load, 500)
        assert "host4" in workers_of(load, since)
        host.crash()
        gateway.wait_states(**READY)
        wait_answered(load, 200)
    assert load.wrong == []


def test_with_certificates_it_is_the_same(tmp_path) -> None:
    with open_hosts(3, delay=DELAY) as hosts:
        for host in hosts:
            host.lose(LOSS)
        fleet = HostFleet(hosts, tmp_path, secure=True)
        gateway = fleet.start_gateway()  # no --insecure
        for host in hosts[1:]:
            fleet.start_worker(host)
        both = {"host1": "ready", "host2": "ready"}
        gateway.wait_states(**both)
        assert gateway.set_weights(TWO, padded(TWO, 1 << 20)).json["workers"] == [{"result": True}] * 2
        with run_load(gateway, clients=32, x_timeout_ms=IN_TIME) as load:
            wait_answered(load, 500)
            hosts[1].cut()
            gateway.wait_named("host1", "suspect", "gone")
            hosts[1].mend()
            gateway.wait_states(**both)
            since = len(load.outcomes)
            wait_answered(load, 500)
        assert load.wrong == []
        assert workers_of(load, since) == set(both)
        fleet.check_logs()
