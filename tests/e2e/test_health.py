"""End to end: probes and counters of a real gateway whose worker dies and comes back."""

from __future__ import annotations

import re

from tests.e2e.processes import Gateway, Site, wait_for
from tests.e2e.weights import ONE, stored


def ready(gateway: Gateway) -> tuple[int, str]:
    """What it says, as V2 does; either may be asked the moment before something changes."""
    before = gateway.ask("GET", "/health/ready")
    v2 = gateway.ask("GET", "/v2/health/ready")
    answer = gateway.ask("GET", "/health/ready")
    assert v2.status in (before.status, answer.status)
    return answer.status, answer.json["message"]


def looked_up(gateway: Gateway) -> float:
    page = gateway.ask("GET", "/metrics").body.decode()
    [value] = re.findall(r"^pipeline_cache_queries_total (.*)$", page, re.MULTILINE)
    return float(value)


def test_ready_and_counters_when_the_last_worker_dies_and_another_comes(site: Site) -> None:
    gateway = site.start_gateway()
    assert gateway.ask("GET", "/health/live").status == 200
    assert gateway.ask("GET", "/health/startup").status == 200
    assert ready(gateway)[1].startswith("no weights are set")
    first = site.spawn_worker()
    gateway.wait_ready(1)
    gateway.set_weights(ONE, stored(ONE))
    assert ready(gateway) == (200, "OK")
    for n in range(3):
        assert gateway.predict(n, 2.0).status == 200
    wait_for(lambda: looked_up(gateway) == 3, "three rows looked up")
    first.kill()
    wait_for(lambda: ready(gateway)[0] == 503, "nobody can answer")
    assert ready(gateway)[1].startswith("no worker is ready: ")
    assert gateway.ask("GET", "/health/live").status == 200
    assert looked_up(gateway) == 3
    site.spawn_worker()
    wait_for(lambda: ready(gateway) == (200, "OK"), "somebody can again")
    assert gateway.predict(1.0, 2.0).status == 200
    wait_for(lambda: looked_up(gateway) == 4, "one more row looked up")


def test_a_fleet_at_zero_is_ready_and_its_first_request_starts_a_worker(site: Site) -> None:
    gateway = site.start_gateway("--min_workers", "0", "--max_workers", "1")
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    assert ready(gateway) == (200, "OK")
    assert gateway.status()["workers"] == []
    assert gateway.predict(1.0, 2.0).status == 200
    assert [worker["state"] for worker in gateway.status()["workers"]] == ["ready"]
