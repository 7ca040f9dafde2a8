"""A worker that runs nothing while a file is there, so that requests wait until a test has it go."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.processes import Gateway, Site, Worker
from tests.e2e.weights import ONE, stored


def spawn_held(site: Site, gateway: Gateway, hold: Path) -> Worker:
    """A gateway's one worker, which serves the first network as soon as `hold` is gone."""
    worker = site.spawn_worker(program="held_worker", HOLD=str(hold))
    gateway.wait_ready(1)
    assert gateway.set_weights(ONE, stored(ONE)).json["message"] == "OK"
    hold.touch()
    return worker


def start_held(site: Site, hold: Path) -> Gateway:
    """A gateway with such a worker."""
    gateway = site.start_gateway()
    spawn_held(site, gateway, hold)
    return gateway
