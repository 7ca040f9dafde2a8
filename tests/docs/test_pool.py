"""End to end: the blocks of docs/ml_pool.md are one program, which a pool's workers can import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.docs.pages import ROOT

POOL = (ROOT / "docs" / "ml_pool.md").read_text()


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


def test_every_block_about_the_pool_runs_in_one_program(tmp_path: Path) -> None:
    """Blocks that make pools are marked, and go where the text says that they belong."""
    marked = re.split(r"(<!-- main -->\n)?```python\n(.*?)```", POOL, flags=re.DOTALL)
    functions = [block for mark, block in zip(marked[1::3], marked[2::3], strict=True) if not mark]
    mains = [block for mark, block in zip(marked[1::3], marked[2::3], strict=True) if mark]
    assert (len(functions), len(mains)) == (3, 5)
    last = "\n".join([*mains, "print('to the end')\n"])
    guarded = f"if __name__ == '__main__':\n{textwrap.indent(last, '    ')}"
    run_program(tmp_path, "\n".join([*functions, guarded]))
