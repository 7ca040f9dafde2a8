"""End to end: what the README shows works, and its tables say what the programs say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from dataclasses import fields
from pathlib import Path

import pytest

from common.settings import GatewaySettings, WorkerSettings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def flag_table(program: str) -> set[str]:
    """The flags in the first column of a program's table."""
    table = README.split(f"| flag of `{program}` |")[1].split("\n\n")[0]
    first_columns = [row.split("|")[1] for row in table.splitlines()[2:]]
    return set(re.findall(r"--([a-z_]+)", " ".join(first_columns)))


def wait_until_ready(url: str) -> None:
    """Return when the gateway has a ready worker."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{url}/status", timeout=10) as response:
            if [worker["state"] for worker in json.load(response)["workers"]] == ["ready"]:
                return
        time.sleep(0.05)
    raise AssertionError("no worker was ready within a minute")


@pytest.mark.parametrize(
    ("program", "settings", "hidden"),
    [("gw.py", GatewaySettings, set()), ("worker.py", WorkerSettings, {"exit_with_parent", "fork_server"})],
)
def test_the_flag_tables_name_every_flag_and_no_other(
    program: str, settings: type[GatewaySettings | WorkerSettings], hidden: set[str]
) -> None:
    assert flag_table(program) == {field.name for field in fields(settings)} - hidden


def test_every_path_in_the_layout_is_there() -> None:
    layout = README.split("## Layout")[1].split("```")[1]
    named = re.findall(r"(?:^|\s)([a-z_0-9]+(?:\.py|/(?:decisions\.md)?))", layout)
    assert "gw.py" in named
    assert "common/" in named
    missing = [name for name in named if not any(ROOT.glob(f"**/{name}"))]
    assert missing == []


def test_the_curl_commands_of_the_rest_section_answer_as_the_table_says(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp_path = tmp_path_factory.mktemp("gw")  # a path for ipc has to be short
    commands = README.split("<!-- run -->\n```bash\n")[1].split("```")[0]
    assert commands.count("curl ") == 5
    with (tmp_path / "gateway.log").open("w") as log:
        gateway = subprocess.Popen(
            [
                sys.executable, "gw.py", "--workers", "1", "--ephemeral", "--addr_rest", "127.0.0.1:0",
                "--addr_service", f"ipc://{tmp_path}/service", "--addr_worker", f"ipc://{tmp_path}/link",
            ],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        try:
            assert gateway.stdout is not None
            greeting = gateway.stdout.readline()
            url = re.search(r"http://[0-9.:]+", greeting)
            assert url is not None, greeting
            script = commands.replace("http://127.0.0.1:54321", url[0]).replace("curl ", "curl -sS -m 20 ")
            wait_until_ready(url[0])
            done = subprocess.run(
                ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
            )
        finally:
            gateway.terminate()
            assert gateway.wait(timeout=30) == 0
            gateway.stdout.close()
    assert done.stderr == ""
    decoder = json.JSONDecoder()
    answers, rest = [], done.stdout
    while rest:
        answer, end = decoder.raw_decode(rest)
        answers.append(answer)
        rest = rest[end:].lstrip()
    weights, one, many, data, status = answers
    assert weights["status"] is True
    assert one["message"] == "000127a35b5f462b8ec68fb4d905ac36"
    assert one["result"] == pytest.approx(1.0, abs=0.01)
    assert many["results"] == pytest.approx([1.0, 0.3], abs=0.01)
    assert data["result"] == pytest.approx(1.0, abs=0.01)
    assert [worker["state"] for worker in status["workers"]] == ["ready"]
