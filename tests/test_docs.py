"""End to end: what the docs show works, and their tables say what the programs say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import client
import server
from common import toml
from common.media import INPUT_TYPES, OUTPUT_TYPES
from common.model_file import read_model_settings
from common.models import RUNTIMES
from gateway.doors.rest_api import ManagerShown
from tests.e2e.processes import open_site, wait_for
from tests.e2e.weights import stored
from tests.services.model_server import model_server

SAMPLE = "000127a35b5f462b8ec68fb4d905ac36"
ROOT = Path(__file__).parents[1]
MODELS = (ROOT / "docs" / "models.md").read_text()
PROTOCOLS = (ROOT / "docs" / "protocols.md").read_text()
SHOWN_AT = "127.0.0.1:54321"
POOL = (ROOT / "docs" / "ml_pool.md").read_text()


def blocks(language: str, text: str = MODELS) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def section(title: str) -> str:
    """A section of docs/protocols.md."""
    return PROTOCOLS.split(f"\n## {title}\n")[1].split("\n## ")[0]


def run_shown(found: list[str], folder: Path) -> None:
    """Run Python blocks one after the other, as one program."""
    run_program(folder, "\n".join([*found, "print('to the end')\n"]))


def run_program(folder: Path, program: str) -> None:
    (folder / "shown.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "shown.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "to the end\n"), done.stderr


def test_every_python_block_runs_after_those_before_it(tmp_path: Path) -> None:
    found = blocks("python")
    assert len(found) == 9
    run_shown(found, tmp_path)


def test_what_is_shown_of_the_open_inference_protocol_over_rest_works(tmp_path: Path) -> None:
    shown = section("Open Inference Protocol over REST")
    with open_site(tmp_path / "site") as site:
        gateway = site.start_gateway("--workers", "1")
        gateway.wait_ready(1)
        assert gateway.set_weights(SAMPLE, stored(SAMPLE)).json["status"] is True
        here = f"127.0.0.1:{gateway.port}"
        (script,) = blocks("bash", shown)
        assert script.count("curl ") == 4
        said = subprocess.run(
            ["bash", "-c", script.replace(SHOWN_AT, here).replace("curl ", "curl -sS -m 20 ")],
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip
        ready, metadata, answer, stats = _objects(said)
        assert ready == {"ready": True}
        assert metadata["inputs"] == [{"name": "vector", "datatype": "FP32", "shape": [-1, 2]}]
        assert answer["outputs"][0]["data"] == pytest.approx([1.0, 0.3], abs=0.01)
        assert stats["model_stats"][0]["inference_count"] == 2
        found = [block.replace(SHOWN_AT, here) for block in blocks("python", shown)]
        assert len(found) == 3
        run_shown(found, tmp_path)


def test_what_is_shown_of_the_open_inference_protocol_over_grpc_works(tmp_path: Path) -> None:
    with open_site(tmp_path / "site") as site:
        address = f"127.0.0.1:{site.ports.take()}"
        gateway = site.start_gateway("--workers", "1", "--addr_grpc", address)
        gateway.wait_ready(1)
        assert gateway.set_weights(SAMPLE, stored(SAMPLE)).json["status"] is True
        shown = section("Open Inference Protocol over gRPC")
        found = [block.replace("127.0.0.1:8001", address) for block in blocks("python", shown)]
        assert len(found) == 3
        run_shown(found, tmp_path)


def _objects(text: str) -> list[dict[str, Any]]:
    """JSON objects that follow each other."""
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        each, end = decoder.raw_decode(text)
        found.append(each)
        text = text[end:]
    return found


def test_every_block_about_the_pool_runs_in_one_program(tmp_path: Path) -> None:
    """Blocks that make pools are marked, and go where the text says that they belong."""
    marked = re.split(r"(<!-- main -->\n)?```python\n(.*?)```", POOL, flags=re.DOTALL)
    functions = [block for mark, block in zip(marked[1::3], marked[2::3], strict=True) if not mark]
    mains = [block for mark, block in zip(marked[1::3], marked[2::3], strict=True) if mark]
    assert (len(functions), len(mains)) == (3, 5)
    last = "\n".join([*mains, "print('to the end')\n"])
    guarded = f"if __name__ == '__main__':\n{textwrap.indent(last, '    ')}"
    run_program(tmp_path, "\n".join([*functions, guarded]))


INPUTS = (ROOT / "docs" / "inputs.md").read_text()


def test_what_is_shown_of_images_and_text_works(tmp_path: Path) -> None:
    """The Python blocks make the files that the others serve and send."""
    pets, reviews = blocks("bash", INPUTS)
    run_shown(blocks("python", INPUTS), tmp_path)
    with open_site(tmp_path / "site") as site:
        gateway = site.start_gateway("--workers", "1", "--models", str(tmp_path / "models"))
        gateway.wait_ready(1)
        wait_for(lambda: gateway.ask("GET", "/models").json["models"], "the folder of models")
        said = []
        for script in (pets, reviews):
            script = script.replace(SHOWN_AT, f"127.0.0.1:{gateway.port}").replace("curl ", "curl -sS -m 20 ")
            done = subprocess.run(
                ["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
            )
            said.append(_objects(done.stdout))
    five, one, two, predicted = said[0]
    assert sorted(each["label"] for each in five["result"]) == ["cat", "dog", "hamster"]
    assert one["result"] == five["result"][:1]
    assert two["results"] == [one["result"]] * 2
    assert predicted["result"] == five["result"]
    assert [row[0]["label"] for row in said[1][-1]["results"]] == ["good", "bad"]


def test_the_settings_of_inputs_that_are_shown_are_all_there_are() -> None:
    (text,) = blocks("toml", INPUTS)
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
    (text,) = blocks("toml")
    settings = read_model_settings(text, file="model.toml")
    assert settings.instances == 2
    assert settings.signature[0].row_shape == (4,)


def test_the_model_server_answers_as_its_section_shows(tmp_path: Path) -> None:
    shown = section("The gRPC model server")
    (commands,), (program,) = blocks("bash", shown), blocks("python", shown)
    start, *commands_after = commands.splitlines()
    assert start == "python server.py &"
    with model_server() as running:
        texts = ("\n".join(commands_after).replace("python ", f"{sys.executable} {ROOT}/"), program)
        script, program = (text.replace("5440", str(running.port)) for text in texts)
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


def test_the_page_on_workers_names_every_field_of_the_manager() -> None:
    page = (ROOT / "docs" / "workers.md").read_text()
    table = page.split("## What `/status` says\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    shown = [name for cells in rows for name in cells.split(", ")]
    assert [name.strip("`") for name in shown] == list(ManagerShown.__annotations__)
