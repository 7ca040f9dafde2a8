"""wrk as the load generator: one thread of it costs less than any client written in Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

SCRIPTS = Path(__file__).resolve().parent / "load"


class Load(NamedTuple):
    """What wrk saw; seconds. `errors` are answers that are not 2xx, and connections that broke."""

    requests: int
    seconds: float
    p50: float
    p99: float
    longest: float
    errors: int

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


class Listening(Protocol):
    """Whatever is loaded."""

    @property
    def url(self) -> str:
        """Where it listens."""


def find_wrk() -> None:
    """`RuntimeError` with the command that installs it where there is no wrk."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed: apt install wrk")


def drive(server: Listening, script: str, *, clients: int, seconds: float, **told: object) -> Load:
    """Load a server from one thread with `clients` closed-loop connections. The script in bench/load is
    `told` its parameters by the environment, in capitals."""
    return _run(server.url, script, clients, seconds, told)


def replay(url: str, requests: Path, *, clients: int, seconds: float) -> Load:
    """The same with the requests of a file (see replay.lua)."""
    return _run(url, "replay.lua", clients, seconds, {"requests": requests})


def _run(url: str, script: str, clients: int, seconds: float, told: Mapping[str, object]) -> Load:
    command = [
        "wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "10s",
        "-s", str(SCRIPTS / script), url,
    ]  # fmt: skip
    environment = os.environ | {name.upper(): str(value) for name, value in told.items()}
    environment["LUA_PATH"] = f"{SCRIPTS}/?.lua"
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    lines = [line for line in said.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise RuntimeError(f"wrk gave no result:\n{said}")
    return Load(**json.loads(lines[0].removeprefix("RESULT ")))
