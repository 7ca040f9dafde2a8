"""Pure: tables of the docs say what the programs say, and what pages name is there."""

from __future__ import annotations

import re

import pytest
import yaml

import client
import server
from common import toml
from common.media import INPUT_TYPES, OUTPUT_TYPES
from common.model_file import read_model_settings
from common.models import RUNTIMES
from common.scaling_settings import ScalingSettings
from gateway.doors.jobs import Order
from gateway.doors.rest_api import ManagerShown
from gateway.experiments.plans import Plan
from tests.docs.pages import ROOT


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


MODELS, INPUTS = page("models"), page("inputs")


def test_the_settings_of_inputs_that_are_shown_are_all_there_are() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", INPUTS, re.DOTALL)
    settings = read_model_settings(text, file="model.toml")
    shown = toml.loads(text)
    for table in ("image", "text", "audio", "output"):
        assert list(shown[table]) == list(getattr(settings, table).__struct_fields__)


def test_the_tables_name_every_input_and_output_type_and_no_other() -> None:
    for heading, types in (("input_type", INPUT_TYPES), ("output_type", OUTPUT_TYPES)):
        rows = INPUTS.split(f"| `{heading}` |")[1].split("\n\n")[0].splitlines()[2:]
        assert [row.split("`")[1] for row in rows] == list(types)


def test_the_table_names_every_format_and_no_other() -> None:
    table = MODELS.split("| format | `model_type` |")[1].split("\n\n")[0]
    rows = [row.split("|")[2].strip(" `") for row in table.splitlines()[2:]]
    assert sorted(rows) == sorted(RUNTIMES)


def test_the_settings_shown_are_settings() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", MODELS, re.DOTALL)
    settings = read_model_settings(text, file="model.toml")
    assert settings.instances == 2
    assert settings.signature[0].row_shape == (4,)


def test_the_model_server_s_tables_are_those_of_its_programs(capsys) -> None:
    shown = page("model_server")
    table = shown.split("| flag of `server.py` |")[1].split("\n\n")[0]
    with pytest.raises(SystemExit):
        server.main(["-h"])
    flags = set(re.findall(r"--[a-z]+", capsys.readouterr().out)) - {"--help"}
    assert set(re.findall(r"--[a-z]+", table)) == flags
    codes = re.findall(r"^\| (\d) \|", shown.split("| exit code of `client.py` |")[1], re.MULTILINE)
    named = (client.EXIT_OK, client.EXIT_REFUSED, client.EXIT_INPUT, client.EXIT_NO_ANSWER)
    assert list(map(int, codes)) == list(named)


def test_the_page_on_workers_names_every_field_of_the_manager() -> None:
    table = page("workers").split("## What `/status` says\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    shown = [name for cells in rows for name in cells.split(", ")]
    assert [name.strip("`") for name in shown] == list(ManagerShown.__annotations__)


def test_the_table_of_a_jobs_fields_names_all_of_them() -> None:
    table = page("jobs").split("| field of `POST /jobs` |")[1].split("\n\n")[0]
    named = re.findall(r"`([a-z_]+)`", " ".join(row.split("|")[1] for row in table.splitlines()[2:]))
    assert sorted(named) == sorted(Order.__struct_fields__)


def test_the_table_of_an_experiments_fields_names_all_of_them() -> None:
    table = page("experiments").split("| field | default |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(Plan.__struct_fields__)


def test_every_flag_of_the_autoscaler_is_in_its_table() -> None:
    flags = set(re.findall(r"`--(\w+)`", page("autoscaling").split("| flag |")[1].split("\n\n")[0]))
    assert flags == set(ScalingSettings.__dataclass_fields__)


def test_every_file_that_is_named_for_deploying_is_there() -> None:
    named = re.findall(r"(?:scripts|data)/[a-z_]+\.[a-z0-9]+", page("deploy"))
    assert len(named) >= 9
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_runbook_has_a_section_for_each_alert_and_for_no_other() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    assert re.findall(r"^### (\w+)$", page("operations"), re.MULTILINE) == [rule["alert"] for rule in rules]


def test_the_tests_that_tell_of_a_protection_are_there() -> None:
    told = re.findall(r"`(tests/\S+)::(test_\w+)`", page("security"))
    assert len(told) > 30
    assert [each for each in told if f"def {each[1]}(" not in (ROOT / each[0]).read_text()] == []
