"""A server under test, started by its command line and stopped again."""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

START_TIME, STOP_TIME = 120.0, 10.0
PAUSE = 0.05  # between two looks
LOOK_TIME = 1.0


@contextlib.contextmanager
def serving(command: str, port: int, ready: str | None, log: Path) -> Iterator[None]:
    """Runs while inside. It is up when its port accepts, and this URL answers 200 if there is one.

    `RuntimeError` with what it said last if it does not come up.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            shlex.split(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        end = time.monotonic() + START_TIME
        while not _is_up(port, ready):
            if process.poll() is not None or time.monotonic() > end:
                said = log.read_text(errors="replace")[-1000:].strip()
                raise RuntimeError(f"the server did not come up: {command}\n{said}")
            time.sleep(PAUSE)
        yield
    finally:
        stop(process, STOP_TIME)


def stop(process: subprocess.Popen[bytes], patience: float) -> None:
    """Ask a process to end, and after so many seconds kill it."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_up(port: int, ready: str | None) -> bool:
    try:
        if ready is None:
            socket.create_connection(("127.0.0.1", port), LOOK_TIME).close()
            return True
        with urllib.request.urlopen(ready, timeout=LOOK_TIME) as answer:  # nosec B310  # of whoever benches it
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
