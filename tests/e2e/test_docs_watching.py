"""End to end: what docs/metrics.md, docs/logs.md and docs/operations.md say is so."""

from __future__ import annotations

import json
import re

from tests.e2e.processes import ROOT, Site
from tests.e2e.weights import ONE, stored

METRICS, LOGS, OPERATIONS = (
    (ROOT / "docs" / f"{name}.md").read_text() for name in ("metrics", "logs", "operations")
)


def test_the_page_has_every_metric_of_the_docs_with_its_labels_and_no_other(site: Site) -> None:
    gateway = site.start_gateway("--workers", "1")
    gateway.wait_ready(1)
    gateway.set_weights(ONE, stored(ONE))
    assert gateway.predict(1.0, 2.0).status == 200
    page = gateway.ask("GET", "/metrics").body.decode()
    told: dict[str, set[str]] = {}
    for names, labels in re.findall(r"^\| (`pipeline_.*?) \| (.*?) ?\|", METRICS, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            told[name] = {each.strip() for each in labels.split(",") if each.strip()}
    there = {
        name for name in re.findall(r"^# TYPE (\w+)", page, re.MULTILINE) if name.startswith("pipeline_")
    }
    assert there == told.keys()
    for name, labels in told.items():
        found = re.findall(rf"^{name}(?:_count)?(?:{{(.*)}})? ", page, re.MULTILINE)
        assert found, name
        assert {frozenset(re.findall(r'(\w+)="', each)) for each in found} == {frozenset(labels)}, name


def test_lines_of_the_log_look_as_the_docs_show_them(site: Site) -> None:
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    text, as_json = re.search(r"```text\n(.*)\n(\{.*)\n```", LOGS).groups()  # type: ignore[union-attr]
    gateway = site.start_gateway("--workers", "1")
    gateway.wait_ready(1)
    line = gateway.wait_for_line("worker ready")
    assert re.sub(moment, "", line) == re.sub(moment, "", text)
    gateway.kill()
    gateway = site.start_gateway("--workers", "1", "--log_format", "json")
    gateway.wait_ready(1)
    assert json.loads(gateway.wait_for_line("worker ready")) | {"time": ""} == json.loads(as_json) | {
        "time": ""
    }


def test_what_the_runbook_tells_people_to_ask_is_there(site: Site) -> None:
    gateway = site.start_gateway()
    for path in re.findall(r"`(/(?:health|v2/health|status|metrics|autoscaler)[a-z/]*)`", OPERATIONS):
        answer = gateway.ask("GET", path)
        assert answer.status in ((200, 404) if path == "/autoscaler" else (200, 503)), path
    assert gateway.ask("GET", "/health/ready").json["message"].startswith("no weights are set")
    for flag in re.findall(r"`(--\w+)", OPERATIONS + METRICS + LOGS):
        known = any(
            flag in (ROOT / name).read_text() for name in ("README.md", "deploy/prometheus/prometheus.yml")
        )
        assert known or flag == "--config", flag
