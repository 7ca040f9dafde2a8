"""end to end: `/events` of a real gateway, as a dashboard reads it."""

from __future__ import annotations

import http.client
import json
import signal
from collections.abc import Iterator
from typing import Any

from tests.e2e.processes import Gateway
from tests.e2e.weights import ONE, stored


class Stream:
    """One connection to `/events`; what it reads is waited for."""

    def __init__(self, gateway: Gateway, **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("GET", "/events", headers=named)
        self.response = self._connection.getresponse()
        self.id = ""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The data of each event, until the server ends the stream."""
        for line in self.response:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "id":
                self.id = value
            elif field == "data":
                yield json.loads(value)

    def until(self, what: str) -> dict[str, Any]:
        """The next event of this name."""
        return next(data for data in self if data.get("what") == what)

    def close(self) -> None:
        self.response.close()
        self._connection.close()


def test_a_dashboard_sees_workers_come_and_die_and_versions_and_comes_back_where_it_was(site):
    gateway = site.start_gateway()
    stream = Stream(gateway)
    assert stream.response.headers["content-type"] == "text/event-stream"
    worker = site.spawn_worker()
    assert stream.until("worker joining")["pid"] == worker.pid
    assert stream.until("worker ready")["because"] == "synced"
    seen = stream.id
    gateway.set_weights(ONE, stored(ONE))
    assert stream.until("version serves")["version"] == ONE
    stream.close()
    worker.kill()
    gateway.wait_ready(0)
    again = Stream(gateway, last_event_id=seen)
    assert next(iter(again))["what"] == "version serves"
    assert again.until("worker gone")["topic"] == "fleet"
    gateway.send(signal.SIGTERM)
    assert list(again) == []
    assert gateway.wait() == 0
    again.close()
