"""Collaboration: the compose file, read by what knows the specification, and by the programs it starts."""

from __future__ import annotations

import json

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
