"""End to end: what docs/models.md and docs/protocols.md show works, and their tables say what the programs
say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.model_file import read_model_settings
from common.models import RUNTIMES
from tests.e2e.processes import open_site
from tests.e2e.weights import stored

SAMPLE = "000127a35b5f462b8ec68fb4d905ac36"
ROOT = Path(__file__).parents[1]
MODELS = (ROOT / "docs" / "models.md").read_text()
PROTOCOLS = (ROOT / "docs" / "protocols.md").read_text()
SHOWN_AT = "127.0.0.1:54321"


def blocks(language: str, text: str = MODELS) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def section(title: str) -> str:
    """A section of docs/protocols.md."""
    return PROTOCOLS.split(f"\n## {title}\n")[1].split("\n## ")[0]


def run_shown(found: list[str], folder: Path) -> None:
    """Run Python blocks one after the other, as one program."""
    (folder / "shown.py").write_text("\n".join(found) + "\nprint('to the end')\n")
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


def _objects(text: str) -> list[dict[str, Any]]:
    """JSON objects that follow each other."""
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        each, end = decoder.raw_decode(text)
        found.append(each)
        text = text[end:]
    return found


def test_the_table_names_every_format_and_no_other() -> None:
    table = MODELS.split("| format | `model_type` |")[1].split("\n\n")[0]
    rows = [row.split("|")[2].strip(" `") for row in table.splitlines()[2:]]
    assert sorted(rows) == sorted(RUNTIMES)


def test_the_settings_shown_are_settings() -> None:
    (text,) = blocks("toml")
    settings = read_model_settings(text, file="model.toml")
    assert settings.instances == 2
    assert settings.signature[0].row_shape == (4,)
