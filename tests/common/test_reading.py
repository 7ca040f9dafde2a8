"""Pure: settings from flags, variables and a file: who wins, and every mistake at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from common.flags import SettingsError
from common.reading import Read, read_values
from common.reloading import differences
from common.settings import FAMILY, GatewaySettings, WorkerSettings
from gateway.autoscaler.policy import Parameters
from gateway.reloading import LIVE

NOTHING: Mapping[str, str] = {}


def read(path: Path, text: str, environ: Mapping[str, str] = NOTHING, **flags: str) -> Read[GatewaySettings]:
    path.write_text(text)
    return read_values(GatewaySettings, {"config": str(path), **flags}, environ, FAMILY)


def mistakes(path: Path, text: str, environ: Mapping[str, str] = NOTHING, **flags: str) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        read(path, text, environ, **flags)
    return refused.value.mistakes


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "gateway.toml"


def test_the_flag_wins_over_the_variable_and_the_variable_over_the_file(path):
    file = "[limits]\nqueue_max = 1\ntimeout = 1\nmax_rows = 1\n"
    environ = {"PIPELINE_QUEUE_MAX": "2", "PIPELINE_TIMEOUT": "2"}
    found = read(path, file, environ, queue_max="3")
    assert (found.settings.queue_max, found.settings.timeout, found.settings.max_rows) == (3, 2.0, 1)
    assert {name: (each.layer, each.where) for name, each in found.given.items() if name != "config"} == {
        "queue_max": ("flag", "--queue_max"),
        "timeout": ("environment", "PIPELINE_TIMEOUT"),
        "max_rows": ("file", f"{path}:4: max_rows"),
    }


def test_a_file_has_toml_s_own_values_or_text_as_a_flag_has_it(path):
    settings = read(
        path,
        "[models]\nwatch = true\nmodels = './models'\nallow_code = ['a', 'b.*']\nallow_pickle = false\n"
        "[limits]\nmax_body = '64M'\nmax_upload = 1024\ntimeout = 2.5\n"
        "[manager]\nlauncher = 'ray'\nray_address = 'head:6379'\nworker_resources = {big = 1, small = 0.5}\n",
    ).settings
    assert (settings.watch, settings.allow_pickle, settings.allow_code) == (True, False, ("a", "b.*"))
    assert (settings.max_body, settings.max_upload, settings.timeout) == (64 << 20, 1024, 2.5)
    assert settings.worker_resources == {"big": 1.0, "small": 0.5}


def test_what_is_off_in_a_variable_is_off_though_the_file_has_it_on(path):
    file = "[addresses]\ninsecure = true\n"
    assert read(path, file).settings.insecure is True
    assert read(path, file, {"PIPELINE_INSECURE": "0"}).settings.insecure is False


def test_of_two_that_exclude_each_other_the_one_that_wins_stays(path):
    file = "[state]\nstate = '/var/lib/pipeline'\n"
    assert read(path, file, ephemeral="1").settings.state_directory is None
    assert read(path, "[state]\nephemeral = true\n", state="./x").settings.state_directory == Path("x")
    assert mistakes(path, file + "ephemeral = true\n") == [
        f"{path}:3: ephemeral cannot be given together with {path}:2: state: leave one out"
    ]


def test_every_mistake_of_a_file_is_told_with_its_line(path):
    text = """\
queue_max = 3
[limits]
queue_maxx = 5
timeout = "soon"
max_rows = [[1]]
[limitz]
x = 1
[manager]
queue_max = 5
max_workers = -1
[process]
config = "other.toml"
"""
    first, *found = mistakes(path, text, {"PIPELINE_THREAD": "1"})
    assert first == "unknown environment variable PIPELINE_THREAD: did you mean PIPELINE_THREADS?"
    tables = "addresses, "
    assert [each.removeprefix(f"{path}:").partition(tables)[0] for each in found] == [
        "1: queue_max stands in no table: there are ",
        "3: there is no queue_maxx in [limits]: did you mean queue_max? Allowed are max_body, max_upload,"
        " max_rows, max_json_depth, max_head, max_target, max_connections, max_connections_per_address,"
        " head_time, body_time, min_body_rate, write_time, call_time, max_calls, ws_window,"
        " ws_messages_per_second, queue_max, timeout",
        "4: timeout must be a number of seconds, not 'soon'",
        "5: max_rows in [limits] should be one value, not a table",
        "6: there is no table [limitz]: did you mean limits? Allowed are ",
        "9: there is no queue_max in [manager]: it is in [limits]",
        "10: max_workers must be 0 or more, not -1",
        "12: there is no config in [process]: Allowed are log_level, log_format",
    ]


def test_settings_that_contradict_each_other_are_all_told_with_the_line_of_the_first(path):
    text = "[models]\nwatch = true\n[state]\nephemeral = true\n[manager]\nkeep = true\n"
    assert mistakes(path, text) == [
        f"{path}:2: --watch follows a folder of models: give --models too",
        f"{path}:6: --keep notes in the state folder which workers there are: leave out --ephemeral",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[limits", ":1: this is not TOML: expected ']' at the end of a table declaration"),
        ("x = " + "[" * 5000, ": this is not TOML"),
        ("#" * 300_000, ":1: this is longer than 262144 characters"),
    ],
)
def test_a_file_that_is_no_toml_is_told_in_a_sentence(path, text, sentence):
    (found,) = mistakes(path, text)
    assert found.startswith(str(path))
    assert sentence in found


def test_a_file_that_is_not_there_is_told_in_a_sentence(tmp_path):
    with pytest.raises(SettingsError) as refused:
        read_values(WorkerSettings, {}, {"PIPELINE_WORKER_CONFIG": str(tmp_path / "none")}, FAMILY)
    assert refused.value.mistakes == [f"{tmp_path}/none cannot be read: No such file or directory"]


def test_what_two_settings_differ_in_is_told_as_people_write_it():
    before = GatewaySettings(queue_max=10, max_body=8 << 20)
    after = GatewaySettings(queue_max=20, max_body=1 << 20, scale_to_zero=True, webhook_hosts=("a", "b"))
    assert [str(each) for each in differences(before, after)] == [
        "max_body 8 MiB -> 1 MiB",
        "scale_to_zero false -> true",
        "queue_max 10 -> 20",
        "webhook_hosts none -> a,b",
    ]


def test_the_page_s_file_is_one_and_its_table_names_what_changes_at_once(path):
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert read(path, text).settings.max_body == 16 << 20
    table = page.split("| changes at once | |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table)) - {"autoscaler"}
    assert named == set(LIVE) - set(Parameters.__struct_fields__)
