"""End to end: what the docs show works, and their tables say what the programs say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from common.model_file import read_model_settings
from common.models import RUNTIMES

ROOT = Path(__file__).parents[1]
MODELS = (ROOT / "docs" / "models.md").read_text()
POOL = (ROOT / "docs" / "ml_pool.md").read_text()


def blocks(language: str, text: str = MODELS) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run_program(directory: Path, program: str) -> None:
    (directory / "shown.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "shown.py"],
        cwd=directory,
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
    run_program(tmp_path, "\n".join([*found, "print('to the end')\n"]))


def test_every_block_about_the_pool_runs_in_one_program(tmp_path: Path) -> None:
    """Blocks that make pools are marked, and go where the text says that they belong."""
    marked = re.split(r"(<!-- main -->\n)?```python\n(.*?)```", POOL, flags=re.DOTALL)
    functions = [block for mark, block in zip(marked[1::3], marked[2::3], strict=True) if not mark]
    mains = [block for mark, block in zip(marked[1::3], marked[2::3], strict=True) if mark]
    assert (len(functions), len(mains)) == (3, 5)
    last = "\n".join([*mains, "print('to the end')\n"])
    guarded = f"if __name__ == '__main__':\n{textwrap.indent(last, '    ')}"
    run_program(tmp_path, "\n".join([*functions, guarded]))


def test_the_table_names_every_format_and_no_other() -> None:
    table = MODELS.split("| format | `model_type` |")[1].split("\n\n")[0]
    rows = [row.split("|")[2].strip(" `") for row in table.splitlines()[2:]]
    assert sorted(rows) == sorted(RUNTIMES)


def test_the_settings_shown_are_settings() -> None:
    (text,) = blocks("toml")
    settings = read_model_settings(text, file="model.toml")
    assert settings.instances == 2
    assert settings.signature[0].row_shape == (4,)
