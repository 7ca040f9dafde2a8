"""End to end: what docs/models.md shows works, and its tables say what the programs say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from common.model_file import read_model_settings
from common.models import RUNTIMES

ROOT = Path(__file__).parents[1]
MODELS = (ROOT / "docs" / "models.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", MODELS, re.DOTALL)


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
