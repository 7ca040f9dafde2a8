"""collaboration: commands that ask no gateway, or something that is none; how their answers are printed."""

from __future__ import annotations

import http.server
import importlib.util
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.commands import make_parser
from cli.completion import SCRIPTS, complete
from cli.main import main
from cli.output import make_table, shown, size

AUTHORIZATIONS: list[str | None] = []  # of the requests of the last server


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """The URL of a server that answers all requests so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            AUTHORIZATIONS.append(self.headers["authorization"])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    AUTHORIZATIONS.clear()
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "code", "sentence"),
    [
        (200, b"<html>", 3, "what answers at URL is no gateway: its answer is not JSON"),
        (200, b'{"hello": 1}', 3, "what answers at URL is no gateway: look at --url and PIPELINE_URL"),
        (200, b"[]", 3, "what answers at URL is no gateway: look at --url and PIPELINE_URL"),
        (404, b'{"detail": "Not Found"}', 1, "the gateway answered 404 without a reason"),
        (503, b'{"status": false, "message": "No live worker"}', 4, "No live worker"),
    ],
)
def test_what_is_no_gateway_or_busy_is_told_apart(capsys, status, body, code, sentence):
    with answering(status, body) as url:
        assert main(["models", "list", "--url", url]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"pipeline: {sentence.replace('URL', url, 1)}")


def test_a_token_goes_with_every_request_and_is_never_printed(capsys, monkeypatch):
    monkeypatch.setenv("PIPELINE_TOKEN", "secret")
    with answering(200, b'{"status": true, "models": []}') as url:
        assert main(["models", "list", "--url", url]) == 0
        assert main(["models", "list", "--url", url, "--token", "other"]) == 0
        assert main(["models", "list", "--url", url, "--token", "se\ncret"]) == 2
        assert main(["jobs", "submit", "1", "--url", url, "--key", "a\nb"]) == 3
    assert AUTHORIZATIONS == ["Bearer secret", "Bearer other"]
    said = capsys.readouterr()
    assert "cret" not in said.out + said.err


def test_without_rich_a_table_is_refused_with_the_extra_s_name_and_json_is_not(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rich" else find(name))
    assert main(["config", "show"]) == 2
    assert capsys.readouterr().err == (
        "pipeline: tables need rich: pip install 'pipeline-inference[cli]', or give --json\n"
    )
    assert main(["config", "show", "--json"]) == 0


def test_a_file_is_checked_and_every_mistake_told(tmp_path, capsys):
    file = tmp_path / "gateway.toml"
    file.write_text("[limits]\nqueue_max = 5\n")
    assert main(["config", "check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: nothing is wrong with it\n"
    file.write_text("[limits]\nqueue_max = 0\ntimeout = -1\n")
    assert main(["config", "check", str(file)]) == 1
    mistakes = [
        f"{file}:2: queue_max must be 1 or more, not 0",
        f"{file}:3: timeout must be more than 0 seconds and finite, not -1.0",
    ]
    assert capsys.readouterr().err.splitlines() == [f"pipeline: {each}" for each in mistakes]
    assert main(["--json", "config", "check", str(file)]) == 1
    assert json.loads(capsys.readouterr().out) == {"file": str(file), "mistakes": mistakes}


def test_a_file_of_a_worker_and_one_to_deploy_are_checked_as_such(tmp_path, capsys):
    file = tmp_path / "any.toml"
    file.write_text("[workers]\ncache_size = 5\n[process]\nname = 'w'\n")
    assert main(["config", "check", str(file), "--program", "worker.py"]) == 0
    assert main(["config", "check", str(file)]) == 1
    file.write_text("[model]\nmax_batch = 8\n[limits]\nqueue_max = 5\n")
    assert main(["config", "check", str(file), "--deploy"]) == 0
    assert main(["config", "check", str(file)]) == 1
    file.write_text("[model]\nmax_bach = 8\n")
    capsys.readouterr()
    assert main(["config", "check", str(file), "--deploy"]) == 1
    assert "there is no setting max_bach (did you mean max_batch?)" in capsys.readouterr().err


def test_the_values_that_count_are_shown_with_where_each_came_from(tmp_path, capsys, monkeypatch):
    file = tmp_path / "gateway.toml"
    file.write_text("[limits]\nqueue_max = 5\ntimeout = 5\nmax_body = '1M'\n")
    monkeypatch.setenv("PIPELINE_TIMEOUT", "6")
    flags = ["--", "--max_rows", "7"]
    assert main(["config", "show", "--config", str(file), "--changed", "--json", *flags]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert {
        name: (each["value"], each["shown"], each["from"], each["where"]) for name, each in found.items()
    } == {
        "config": (str(file), str(file), "flag", "--config"),
        "queue_max": (5, "5", "file", f"{file}:2"),
        "timeout": (6.0, "6.0", "environment", "PIPELINE_TIMEOUT"),
        "max_body": (1 << 20, "1 MiB", "file", f"{file}:4"),
        "max_rows": (7, "7", "flag", "--max_rows"),
    }
    assert main(["config", "show", "--config", str(file)]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["limits", "queue_max", "5", "file", f"{file}:2"] in table
    assert ["jobs", "jobs_max", "1000", "default", "-"] in table
    file.write_text("[limits]\nqueue_max = 0\n")
    assert main(["config", "show", "--config", str(file)]) == 2


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([""], ["certs", "completion", "config", "experiments", "jobs", "keys", "models", "predict",
                "rollout", "set-weights", "sign", "state", "status", "token", "top", "workers"]),
        (["mo"], ["models"]),
        (["models", "s"], ["settings", "show"]),
        (["nothing", ""], []),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["config", "check", "x", "--program", ""], ["gw.py", "worker.py"]),
        (["rollout", "show", "--j"], ["--json"]),
        (["--url", "http://127.0.0.1:1", "rollout", "show", ""], []),
        (["status", ""], []),
    ],
)  # fmt: skip
def test_words_are_completed_from_the_tree_itself(words, found):
    assert complete(make_parser(), words, {"PIPELINE_URL": "http://127.0.0.1:1"}) == found


@pytest.mark.parametrize("shell", SCRIPTS)
def test_every_shell_s_script_asks_the_program(capsys, shell):
    assert main(["completion", shell]) == 0
    assert "pipeline __complete" in capsys.readouterr().out


def test_flags_are_taken_with_dashes_and_before_or_after_the_command(capsys):
    where = "http://127.0.0.1:1"
    for words in (["--url", where, "models", "list"], ["models", "--url", where, "list"]):
        assert main(words) == 3
        assert where in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["models", "settings", "x", "--no-reloadd"])
    assert ended.value.code == 2


def test_values_are_shown_as_people_read_them():
    values = (None, True, 0.123456, 123456.7, ["a", "b"], [], {}, "x")
    assert [shown(value) for value in values] == ["-", "yes", "0.1235", "123457", "a, b", "-", "-", "x"]
    assert [size(count) for count in (5, 2048, 3 << 20, 5 << 30)] == ["5 B", "2.0 KiB", "3.0 MiB", "5.0 GiB"]


def test_names_from_elsewhere_bring_no_markup_and_no_terminal_codes():
    table = make_table(("name",), [("[red]a\x1b[31m",)])
    assert [str(cell) for cell in table.columns[0].cells] == ["[red]a\ufffd[31m"]


def test_the_exit_codes_of_the_page_are_those_of_the_program():
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    table = page.split("| exit code |")[1].split("\n\n")[0]
    codes = [int(row.split("|")[1]) for row in table.splitlines()[2:]]
    assert codes == [0, 1, 2, 3, 4, 130]
