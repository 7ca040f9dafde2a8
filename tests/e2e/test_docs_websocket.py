"""End to end: what docs/websocket.md shows works, and its figures are those of the programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway.doors.monitoring import events as events_door
from gateway.doors.ws.messages import Message
from gateway.doors.ws.session import SocketLimits
from gateway.http1 import HttpLimits
from gateway.observing.events import Events
from tests.e2e.browser import find_browser, open_browser
from tests.e2e.processes import wait_for
from tests.e2e.weights import ONE, stored

PAGE = (Path(__file__).parents[2] / "docs" / "websocket.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_messages_shown_are_json_of_fields_that_are_there():
    answer, refusal = (json.loads(block) for block in blocks("json"))
    assert answer.keys() == {"id", "status", "message", "result", "worker", "version", "cache", "timings"}
    assert refusal.keys() == {"id", "status", "message", "code", "http_status"}
    table = PAGE.split("| field of a message | |")[1].split("\n\n")[0]
    first_columns = " ".join(row.split("|")[1] for row in table.splitlines()[2:])
    assert set(re.findall(r"`(\w+)`", first_columns)) == set(Message.__struct_fields__)


def test_the_figures_shown_are_the_defaults():
    limits, lane = SocketLimits(), HttpLimits()
    shown = {
        f'"window": {limits.window}, "max_bytes": {limits.max_bytes}',
        f'"max_bytes_in_flight": {limits.max_bytes_in_flight}',
        f"has read no answer for {limits.slow_time:g} seconds",
        f"takes no byte for {lane.write_time:g} seconds, or sends none for {lane.silence_time:g}",
        f"a ping, every {lane.ping_time:g})",
        f"The last {Events.MEMORY} events",
        f"({Events.ROOM} wait for each",
        f"every {events_door.HEARTBEAT:g} seconds",
        f"{events_door.MAX_WATCHERS} clients may watch",
    }
    missing = {each for each in shown if each not in PAGE.replace("\n", " ")}
    assert missing == set()


@pytest.mark.skipif(find_browser() is None, reason="there is no browser here: apt install chromium")
def test_what_is_shown_for_browsers_is_answered_and_nothing_complains(site, tmp_path):
    gateway = site.start_gateway()
    site.spawn_worker()
    gateway.wait_ready(1)
    gateway.set_weights(ONE, stored(ONE))
    asking, watching = blocks("js")
    with open_browser(find_browser(), tmp_path) as page:
        page.open(f"{gateway.url}/docs")
        wait_for(lambda: page.run("document.readyState") == "complete", "the page")
        page.run(
            f"window.said = []; {asking} ws.addEventListener('message', (each) => said.push(each.data));"
        )
        answers = wait_for(lambda: page.run("said.length > 1 && said"), "the greeting and the answer")
        page.run(f"{watching} events.addEventListener('open', () => said.push('open'));")
        wait_for(lambda: page.run("said.length > 2"), "the stream is open")
        assert page.complaints() == []
    assert json.loads(answers[1])["result"] == pytest.approx(1.0, abs=0.01)
