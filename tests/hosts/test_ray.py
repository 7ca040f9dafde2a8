"""end to end: a gateway whose workers a real Ray cluster starts, a head and two nodes on hosts of their own.
Whatever dies, falls silent or comes back, no request fails, and there are as many workers again."""

from __future__ import annotations

import importlib.util
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.load import Load, any_row, run_load, wait_answered
from tests.e2e.processes import wait_for
from tests.e2e.weights import ONE, stored
from tests.hosts.fleet import HostFleet, HostGateway
from tests.hosts.hosts import Host, open_hosts
from tests.hosts.ray_cluster import RayCluster

pytestmark = [
    pytest.mark.apart,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install -e '.[apart]'"
    ),
]

LONG = 60.0  # seconds for what takes Ray a few on an idle machine
ROOM = 2  # workers on each node
IN_TIME = "20000"  # X-Timeout-Ms


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[Host]]:
    with open_hosts(4) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def cluster(hosts: list[Host], tmp_path_factory) -> RayCluster:
    """A head, where the gateway is too, and two nodes; the fourth host is none yet. A test leaves it so."""
    cluster = RayCluster(hosts, tmp_path_factory.mktemp("ray"))
    cluster.start_head()
    for host in hosts[1:3]:
        cluster.start_node(host, serving=ROOM)
    return cluster


@pytest.fixture
def fleet(hosts: list[Host], cluster: RayCluster, tmp_path) -> Iterator[HostFleet]:
    fleet = HostFleet(hosts, tmp_path)
    yield fleet
    fleet.check_logs()


def start_gateway(fleet: HostFleet, cluster: RayCluster, workers: int) -> HostGateway:
    return fleet.start_gateway(
        "--insecure", "--launcher", "ray", "--workers", str(workers), "--worker_resources", "serving=1",
        "--ray_address", cluster.address, "--ray_token_file", str(cluster.token_file), "--stop_workers",
    )  # fmt: skip


@pytest.fixture
def gateway(fleet: HostFleet, cluster: RayCluster) -> Iterator[HostGateway]:
    """A gateway with a worker on each node. What it has started ends with it."""
    gateway = start_gateway(fleet, cluster, 2)
    wait_ready(gateway, 2)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    yield gateway
    if gateway.is_alive:
        end(gateway)


def end(gateway: HostGateway) -> None:
    gateway.send(signal.SIGTERM)
    assert gateway.wait() == 0


def seldom(chance: random.Random) -> tuple[float, float]:
    """A row, not too soon after the last one: this is about who answers, and not how fast."""
    time.sleep(0.02)
    return any_row(chance)


def light_load(gateway: HostGateway) -> Any:
    return run_load(gateway, clients=2, rows=seldom, x_timeout_ms=IN_TIME)


def wait_ready(gateway: HostGateway, count: int) -> dict[str, dict[str, Any]]:
    """Until so many workers are ready; all of them, by name."""
    workers = gateway.wait_status(
        lambda status: [each["state"] for each in status["workers"]] == ["ready"] * count,
        f"{count} workers ready, and no others",
        LONG,
    )["workers"]
    return {each["name"]: each for each in workers}


def wait_others(gateway: HostGateway, before: dict[str, Any], count: int) -> dict[str, dict[str, Any]]:
    """Until so many workers are ready, none of them one of these processes."""
    gone = {each["id"] for each in before.values()}
    workers = gateway.wait_status(
        lambda status: (
            [each["state"] for each in status["workers"]] == ["ready"] * count
            and not gone & {each["id"] for each in status["workers"]}
        ),
        f"{count} workers ready, none of which was there before",
        LONG,
    )["workers"]
    return {each["name"]: each for each in workers}


def only_on(host: Host, workers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: each for name, each in workers.items() if each["host"] == host.name}


def ids(workers: dict[str, dict[str, Any]]) -> list[str]:
    return [each["id"] for each in workers.values()]


def processes(host: Host, what: str) -> list[str]:
    """The command lines there that hold these words."""
    return [line for line in host.run(["ps", "-eo", "args", "-ww"]).stdout.splitlines() if what in line]


def kill_worker(host: Host, worker: dict[str, Any]) -> None:
    host.run(["kill", "-KILL", str(worker["pid"])])


def wait_right(load: Load) -> None:
    """Some more requests are answered, and none was ever answered wrongly."""
    wait_answered(load, 50)
    assert load.wrong == []


def test_a_worker_that_was_killed_has_a_successor(hosts: list[Host], gateway: HostGateway) -> None:
    before = wait_ready(gateway, 2)
    assert {each["host"] for each in before.values()} == {"host1", "host2"}
    killed = only_on(hosts[1], before)
    with light_load(gateway) as load:
        wait_answered(load, 50)
        kill_worker(hosts[1], *killed.values())
        began = time.monotonic()
        after = wait_others(gateway, killed, 2)
        took = time.monotonic() - began
        wait_right(load)
    assert set(ids(only_on(hosts[2], before))) < set(ids(after))
    assert gateway.lines("worker ended", "killed by SIGKILL")
    print(f"the next one served after {took:.1f} s; the slowest request took {load.slowest:.2f} s")


def test_a_node_whose_raylet_was_killed_is_replaced_on_the_other(
    hosts: list[Host], cluster: RayCluster, gateway: HostGateway
) -> None:
    lost = only_on(hosts[2], wait_ready(gateway, 2))
    with light_load(gateway) as load:
        wait_answered(load, 50)
        cluster.kill(hosts[2], "raylet/raylet")
        began = time.monotonic()
        after = wait_others(gateway, lost, 2)
        took = time.monotonic() - began
        wait_right(load)
    assert set(only_on(hosts[1], after)) == set(after)
    print(f"the next one served after {took:.1f} s; the slowest request took {load.slowest:.2f} s")
    cluster.start_node(hosts[2], serving=ROOM)


def test_a_silent_host_is_replaced_and_what_it_ran_is_sent_away_when_it_is_back(
    hosts: list[Host], cluster: RayCluster, gateway: HostGateway
) -> None:
    lost = only_on(hosts[2], wait_ready(gateway, 2))
    (name,) = lost
    with light_load(gateway) as load:
        wait_answered(load, 50)
        hosts[2].cut()
        cut = time.monotonic()
        gateway.wait_named(name, "suspect", "gone")
        noticed = time.monotonic() - cut
        after = wait_others(gateway, lost, 2)
        took = time.monotonic() - cut
        assert set(only_on(hosts[1], after)) == set(after) >= {name}
        hosts[2].mend()
        wait_for(lambda: not processes(hosts[2], "/worker.py --name"), "the old one has ended", LONG)
        wait_right(load)
    assert ids(wait_ready(gateway, 2)) == ids(after)
    print(
        f"noticed after {noticed:.1f} s, the next one served after {took:.1f} s; the slowest request took"
        f" {load.slowest:.2f} s"
    )
    wait_for(lambda: not processes(hosts[2], "raylet/raylet"), "its node has learnt that it is out", LONG)
    cluster.start_node(hosts[2], serving=ROOM)


def test_workers_serve_on_without_the_head_and_it_finds_them_again(
    hosts: list[Host], cluster: RayCluster, gateway: HostGateway
) -> None:
    before = wait_ready(gateway, 2)
    killed, untouched = only_on(hosts[1], before), only_on(hosts[2], before)
    with light_load(gateway) as load:
        wait_answered(load, 50)
        cluster.kill(hosts[0])
        kill_worker(hosts[1], *killed.values())
        gateway.wait_status(
            lambda status: [each["id"] for each in status["workers"]] == ids(untouched), "one of them is gone"
        )
        gateway.wait_for_line("launcher in trouble")
        wait_right(load)
        cluster.start_head()
        began = time.monotonic()
        after = wait_others(gateway, killed, 2)
        took = time.monotonic() - began
        wait_right(load)
    assert set(ids(untouched)) < set(ids(after))
    print(f"as before {took:.1f} s after the head was; the slowest request took {load.slowest:.2f} s")


def test_a_gateway_that_comes_back_finds_its_workers(
    hosts: list[Host], cluster: RayCluster, gateway: HostGateway, tmp_path_factory
) -> None:
    before = wait_ready(gateway, 2)
    gateway.kill()
    wait_for(lambda: not processes(hosts[0], "launchers.ray.driver"), "its driver ends with it")
    again = start_gateway(HostFleet(hosts, tmp_path_factory.mktemp("again")), cluster, 2)
    after = wait_ready(again, 2)
    assert {each["pid"] for each in after.values()} == {each["pid"] for each in before.values()}
    end(again)
    assert not processes(hosts[1], "/worker.py --name")


def test_workers_go_where_what_they_need_is_and_one_too_many_waits_for_a_node(
    hosts: list[Host], fleet: HostFleet, cluster: RayCluster
) -> None:
    gateway = start_gateway(fleet, cluster, 2 * ROOM + 1)
    placed = wait_ready(gateway, 2 * ROOM)
    assert Counter(each["host"] for each in placed.values()) == {"host1": ROOM, "host2": ROOM}
    cluster.start_node(hosts[3], serving=1)
    everybody = wait_ready(gateway, 2 * ROOM + 1)
    assert len(only_on(hosts[3], everybody)) == 1
    assert set(ids(placed)) < set(ids(everybody))
    end(gateway)
