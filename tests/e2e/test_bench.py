"""end to end: the benchmark's executor at every door of a real gateway with a real worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.results import read_result
from tests.e2e.processes import Gateway, Site
from tests.e2e.weights import ONE, stored


@pytest.fixture(scope="module")
def doors(shared_site: Site) -> tuple[Gateway, str]:
    """A gateway with one worker, and the address of its gRPC door."""
    address = f"127.0.0.1:{shared_site.ports.take()}"
    gateway = shared_site.start_gateway("--addr_grpc", address)
    shared_site.spawn_worker("--name", "w1")
    gateway.wait_ready(1)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    return gateway, f"grpc://{address}"


@pytest.mark.parametrize("door", ["v1", "v2", "v2-binary", "grpc", "ws"])
def test_every_request_is_answered_at_every_door(door: str, doors: tuple[Gateway, str], tmp_path: Path):
    gateway, grpc = doors
    made, output = tmp_path / "schedule.csv", tmp_path / f"{door}.json"
    seed = str(sum(map(ord, door)))  # no door asks for what another's answers left in a cache
    rate = ["--pattern", "poisson", "--rate", "200", "--duration", "1", "--seed", seed]
    assert main(["make", *rate, "-o", str(made)]) == 0
    url = grpc if door == "grpc" else gateway.url
    main(["run", str(made), "--url", url, "--door", door, "--warm_up", "0.2", "-o", str(output)])
    result = read_result(output)
    assert result.errors == {}
    assert result.answered == result.requests == result.schedule.rows > 100
    assert result.latency.p99 >= result.latency.p50 > 0
    assert result.processes[0].pid == gateway.pid
    assert result.workers == {"w1": 1.0}
    assert result.cache is not None
    assert result.cache.misses == result.answered
    assert {"queue", "batch", "link", "infer"} == set(result.phases)
