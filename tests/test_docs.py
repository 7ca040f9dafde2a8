"""End to end: what docs/models.md and docs/protocols.md show works, and tables say what programs say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import client
import server
from common.model_file import read_model_settings
from common.models import RUNTIMES

ROOT = Path(__file__).parents[1]
MODELS = (ROOT / "docs" / "models.md").read_text()


def section(title: str) -> str:
    """A part of docs/protocols.md."""
    text = (ROOT / "docs" / "protocols.md").read_text()
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(language: str, text: str = MODELS) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_every_python_block_runs_after_those_before_it(tmp_path: Path) -> None:
    found = blocks("python")
    assert len(found) == 9
    (tmp_path / "shown.py").write_text("\n".join(found) + "\nprint('to the end')\n")
    done = subprocess.run(
        [sys.executable, "shown.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "to the end\n"), done.stderr


def test_the_table_names_every_format_and_no_other() -> None:
    table = MODELS.split("| format | `model_type` |")[1].split("\n\n")[0]
    rows = [row.split("|")[2].strip(" `") for row in table.splitlines()[2:]]
    assert sorted(rows) == sorted(RUNTIMES)


def test_the_settings_shown_are_settings() -> None:
    (text,) = blocks("toml")
    settings = read_model_settings(text, file="model.toml")
    assert settings.instances == 2
    assert settings.signature[0].row_shape == (4,)


def test_the_model_server_answers_as_its_section_shows(tmp_path: Path) -> None:
    shown = section("The gRPC model server")
    (commands,), (program,) = blocks("bash", shown), blocks("python", shown)
    start, *commands_after = commands.splitlines()
    assert start == "python server.py &"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "server.py"), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r":(\d+)\.", process.stdout.readline())
        assert found is not None
        texts = ("\n".join(commands_after).replace("python ", f"{sys.executable} {ROOT}/"), program)
        script, program = (text.replace("5440", found[1]) for text in texts)
        runs = [
            subprocess.run(
                command,
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            for command in (["bash", "-ec", script], [sys.executable, "-c", program])
        ]
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()
    said = "there are 3 coefs, so X has to be of shape [rows, 3], not [1, 2]"
    assert [(run.stdout, run.stderr) for run in runs] == [("0.4\n", ""), (f"{said}\n", "")]


def test_the_model_server_s_tables_are_those_of_its_programs(capsys) -> None:
    shown = section("The gRPC model server")
    table = shown.split("| flag of `server.py` |")[1].split("\n\n")[0]
    with pytest.raises(SystemExit):
        server.main(["-h"])
    flags = set(re.findall(r"--[a-z]+", capsys.readouterr().out)) - {"--help"}
    assert set(re.findall(r"--[a-z]+", table)) == flags
    codes = re.findall(r"^\| (\d) \|", shown.split("| exit code of `client.py` |")[1], re.MULTILINE)
    named = (client.EXIT_OK, client.EXIT_REFUSED, client.EXIT_INPUT, client.EXIT_NO_ANSWER)
    assert list(map(int, codes)) == list(named)
