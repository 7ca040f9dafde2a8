"""Collaboration, and end to end where `apart`: alerts and dashboard read what /metrics says, and a real
Prometheus scrapes a real gateway."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests.e2e.processes import ROOT, Gateway, Process, Site, open_site, wait_for
from tests.e2e.weights import ONE, stored
from tests.gateway.doors.monitoring.test_metrics import open_watcher

PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
BOARD = json.loads((ROOT / "deploy" / "grafana" / "pipeline.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
FOREIGN = {"up"}  # Prometheus' own

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("prometheus")),
    reason="there is no Prometheus here: apt install prometheus",
)


def expressions() -> list[str]:
    """Every query of the dashboard, with its variables filled in."""
    found = [target["expr"] for panel in PANELS for target in panel["targets"]]
    return [
        each.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$model", ".*")
        for each in found
    ]


def metrics_in(expression: str) -> set[str]:
    """The metrics that a query reads."""
    return set(re.findall(r"\b(?:pipeline|process)_\w+", expression))


@pytest.mark.usefixtures("virtual_time")
async def test_alerts_and_dashboard_read_only_what_is_there() -> None:
    asked = {
        name for each in (*expressions(), *(rule["expr"] for rule in ALERTS)) for name in metrics_in(each)
    }
    async with open_watcher() as watcher:
        await watcher.site.ready_worker()
        await watcher.site.set_weights(b"2")
        await watcher.predict(1.0)
        text = (await watcher.http.get("/metrics")).text
    there = set(re.findall(r"^([a-z_]+)", text, re.MULTILINE))
    autoscalers = {name for name in asked if name.startswith("pipeline_autoscaler")}  # where there is one
    assert autoscalers == {"pipeline_autoscaler_desired_workers", "pipeline_autoscaler_actual_workers"}
    assert asked - autoscalers - there == set()


def test_the_runbook_says_of_every_alert_what_to_do() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    sections = re.findall(r"^### (Pipeline\w+)$", text, re.MULTILINE)
    assert sections == [rule["alert"] for rule in ALERTS]
    for rule in ALERTS:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_no_two_panels_lie_on_each_other_and_each_has_a_unit() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS)
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


# --- with Prometheus


def promtool(*arguments: str, **how: Any) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, **how)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.apart
@needs_prometheus
def test_promtool_finds_no_fault(tmp_path: Path) -> None:
    promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
    rules = [{"record": f"panel:{n}", "expr": each} for n, each in enumerate(expressions())]
    written = tmp_path / "panels.yml"
    written.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(written))


class Prometheus:
    """A real one that scrapes a gateway every half second; alerts wait a second, not minutes."""

    def __init__(self, site: Site, gateway: Gateway) -> None:
        self.port = site.ports.take()
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "evaluation_interval": "500ms",
        }
        config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{gateway.port}"]}]
        folder = site.folder / "prometheus"
        folder.mkdir()
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        rules = (PROMETHEUS / "alerts.yml").read_text()
        (folder / "alerts.yml").write_text(re.sub(r"for: \w+", "for: 1s", rules))
        command = [
            "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]  # fmt: skip
        site.processes.append(
            Process("prometheus", command, {"PATH": "/usr/bin"}, site.folder / "prometheus.log")
        )

    def ask(self, path: str) -> Any:
        """What its API answers; None while it does not listen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", f"/api/v1/{path}")
            return json.loads(connection.getresponse().read())["data"]
        except (ConnectionError, ValueError):
            return None
        finally:
            connection.close()

    def value(self, query: str) -> float | None:
        """The value of a query of one series."""
        found = self.ask(f"query?query={quote(query)}")
        return float(found["result"][0]["value"][1]) if found and found["result"] else None

    def firing(self) -> set[str]:
        """The alerts that fire."""
        found = self.ask("alerts") or {"alerts": []}
        return {each["labels"]["alertname"] for each in found["alerts"] if each["state"] == "firing"}

    def target(self) -> dict[str, Any]:
        """How the last scrape went."""
        found = self.ask("targets")
        return (
            found["activeTargets"][0] if found and found["activeTargets"] else {"health": "", "lastError": ""}
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path / "s") as opened:
        yield opened


@pytest.mark.apart
@needs_prometheus
def test_prometheus_scrapes_a_gateway_and_says_when_its_last_worker_has_died(site: Site) -> None:
    gateway = site.start_gateway("--metrics_triton")
    worker = site.spawn_worker()
    gateway.wait_ready(1)
    gateway.set_weights(ONE, stored(ONE))
    assert [gateway.predict(1.0, 2.0).status for _ in range(3)] == [200] * 3
    text = gateway.ask("GET", "/metrics").body
    promtool("check", "metrics", input=_conventional(text.decode()))
    prometheus = Prometheus(site, gateway)
    answered = 'sum(pipeline_requests_total{code="ok"})'
    wait_for(lambda: prometheus.value(answered) == 3, "three requests scraped")
    assert (prometheus.target()["health"], prometheus.target()["lastError"]) == ("up", "")
    for each in expressions():
        assert prometheus.ask(f"query?query={quote(each)}")["resultType"] == "vector"
    wait_for(lambda: prometheus.value("nv_inference_request_success") == 3, "Triton's name of it")
    assert "PipelineNoWorker" not in prometheus.firing()
    worker.kill()
    wait_for(lambda: "PipelineNoWorker" in prometheus.firing(), "the alert")
    assert prometheus.value("sum(pipeline_requests_total)") == 3
    site.spawn_worker()
    wait_for(lambda: prometheus.firing() == set(), "no alert any more")
    gateway.kill()
    wait_for(lambda: "PipelineDown" in prometheus.firing(), "the other alert")


def _conventional(text: str) -> str:
    """Without the names that are not ours to choose, of which promtool would complain."""
    return "".join(line for line in text.splitlines(keepends=True) if not re.match(r"(# \w+ )?nv_", line))
