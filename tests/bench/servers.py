"""A server with known delays, in a process of its own, for the executor's tests."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[1] / "services" / "delayed_server.py"


@contextlib.contextmanager
def delayed_server(*flags: str) -> Iterator[tuple[str, int]]:
    """Its URL and its process's id."""
    with subprocess.Popen([sys.executable, str(PROGRAM), *flags], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid
        finally:
            process.terminate()
