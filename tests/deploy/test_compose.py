"""Collaboration: the compose file, read by what knows the specification, and by the programs it starts."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pytest
import yaml

from common.settings import GatewaySettings, WorkerSettings, read_settings
from tests.deploy.conftest import ROOT

pytestmark = pytest.mark.apart

COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())  # with what `<<` merges


def test_it_is_of_the_specification():
    import compose_spec

    found = compose_spec.PyCompose.from_json(json.dumps(COMPOSE)).service_names()
    assert sorted(found) == ["gateway", "grafana", "prometheus", "worker"]


def test_both_programs_take_their_flags():
    gateway, worker = COMPOSE["services"]["gateway"]["command"], COMPOSE["services"]["worker"]["command"]
    assert (gateway[:2], worker[:2]) == (["python", "gw.py"], ["python", "worker.py"])
    settings = read_settings(GatewaySettings, gateway[2:], {}, prog="gw.py", description="")
    dialled = read_settings(WorkerSettings, worker[2:], {}, prog="worker.py", description="")
    for name in ("addr_service", "addr_worker"):
        assert getattr(dialled, name).replace("//gateway:", "//0.0.0.0:") == getattr(settings, name)


def test_only_this_machine_reaches_the_gateway_and_workers_reach_nobody_else():
    services, networks = COMPOSE["services"], COMPOSE["networks"]
    published = [each for service in services.values() for each in service.get("ports", ())]
    assert [each for each in published if not each.startswith("127.0.0.1:")] == []
    assert "ports" not in services["worker"]
    assert [networks[each].get("internal") for each in services["worker"]["networks"]] == [True]


def test_who_watches_comes_only_when_asked_for_and_finds_its_files():
    for name in ("prometheus", "grafana"):
        service = COMPOSE["services"][name]
        assert (service["profiles"], service["networks"]) == (["watch"], ["clients"])
        sources = [each.partition(":")[0] for each in service["volumes"]]
        assert all(each in COMPOSE["volumes"] or (ROOT / "deploy" / each).exists() for each in sources), (
            sources
        )
    watched = yaml.safe_load((ROOT / "deploy" / "prometheus" / "compose.yml").read_text())
    alone = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    [job], [usual] = watched.pop("scrape_configs"), alone.pop("scrape_configs")
    assert watched == alone
    assert job == usual | {"static_configs": [{"targets": ["gateway:54321"]}]}


def mounted(service: str, inside: str) -> Path:
    """The file of the project that a service sees at a path."""
    for each in COMPOSE["services"][service]["volumes"]:
        source, target, *_ = each.split(":")
        if source.startswith(".") and PurePosixPath(inside).is_relative_to(target):
            return ROOT / "deploy" / source / PurePosixPath(inside).relative_to(target)
    raise AssertionError(f"{service} is given nothing at {inside}")


def test_prometheus_is_told_a_configuration_that_it_is_given_with_the_alerts_it_names():
    service = COMPOSE["services"]["prometheus"]
    told = dict(each.removeprefix("--").split("=") for each in service["command"])
    config = mounted("prometheus", told["config.file"])
    for name in yaml.safe_load(config.read_text())["rule_files"]:
        assert mounted("prometheus", str(PurePosixPath(told["config.file"]).with_name(name))).is_file()
    assert told["storage.tsdb.path"] in [each.split(":")[1] for each in service["volumes"]]
    if shutil.which("promtool"):
        said = subprocess.run(
            ["promtool", "check", "config", config], capture_output=True, text=True, check=False
        )
        assert (said.returncode, "SUCCESS" in said.stdout) == (0, True), said.stdout + said.stderr


def test_grafana_finds_its_dashboard_and_asks_prometheus_where_that_listens():
    service = COMPOSE["services"]["grafana"]
    [source] = yaml.safe_load(
        mounted("grafana", "/etc/grafana/provisioning/datasources/pipeline.yml").read_text()
    )["datasources"]
    asked = urlsplit(source["url"])
    assert asked.hostname in COMPOSE["services"]
    assert COMPOSE["services"][asked.hostname]["ports"] == [f"127.0.0.1:{asked.port}:{asked.port}"]
    [provider] = yaml.safe_load(
        mounted("grafana", "/etc/grafana/provisioning/dashboards/pipeline.yml").read_text()
    )["providers"]
    home = service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert PurePosixPath(home).parent == PurePosixPath(provider["options"]["path"])
    board = json.loads(mounted("grafana", home).read_text())
    variables = {each["name"]: each for each in board["templating"]["list"]}
    assert variables["source"]["query"] == source["type"]  # the panels ask whatever is chosen there
    assert all(
        panel.get("datasource", {}).get("uid", "${source}") == "${source}" for panel in board["panels"]
    )


def test_nothing_is_privileged_and_what_is_kept_belongs_to_who_writes_it():
    for each in COMPOSE["services"].values():
        assert (each["cap_drop"], each["read_only"], each["security_opt"]) == (
            ["ALL"], True, ["no-new-privileges:true"],
        )  # fmt: skip
    [volume] = COMPOSE["services"]["gateway"]["volumes"]
    folder = volume.partition(":")[2]
    assert f"--state={folder}" in COMPOSE["services"]["gateway"]["command"]
    made = f"install --directory --owner pipeline --group pipeline {folder}"
    assert made in (ROOT / "Dockerfile").read_text()
