"""End to end: the Dockerfile's own steps, without Docker: a linter reads them, and a clean folder runs them.

A step is read from the file, never repeated here. What is not tried is the base image.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
HADOLINT = Path(sys.executable).with_name("hadolint")


class Step(NamedTuple):
    """One instruction, its lines joined."""

    name: str
    text: str


def read_steps() -> list[Step]:
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [Step(*line.split(maxsplit=1)) for line in lines if line]


def texts(name: str) -> list[str]:
    return [step.text for step in read_steps() if step.name == name]


def build_context(folder: Path) -> None:
    """What `docker build` would be sent, of the files that git knows or would."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    everywhere = [each.removeprefix("**/") for each in patterns if each.startswith("**/")]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines():
        top, *rest = Path(name).parts
        is_left_out = any(fnmatch.fnmatch(top, each) for each in patterns)
        is_left_out_anywhere = any(fnmatch.fnmatch(part, each) for part in rest for each in everywhere)
        if not (is_left_out or is_left_out_anywhere) and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def test_the_linter_finds_nothing() -> None:
    done = subprocess.run(
        [str(HADOLINT), str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_runs_is_no_root_and_of_the_last_stage_alone() -> None:
    steps = read_steps()
    last = steps[max(i for i, step in enumerate(steps) if step.name == "FROM") :]
    copied = [step.text for step in last if step.name == "COPY"]
    assert copied == ["--from=build /opt/pipeline /opt/pipeline", "gw.py worker.py server.py client.py ./"]
    names = [step.name for step in last]
    assert names.index("USER") < names.index("CMD")
    assert texts("USER") == ["1000"]
    assert texts("EXPOSE") == ["5440"]


def test_secrets_and_state_are_not_sent_to_the_build(tmp_path: Path) -> None:
    build_context(tmp_path)
    here = {path.name for path in tmp_path.iterdir()}
    assert {"setup.cfg", "constraints.txt", "server.py", "modelserver_pb2.py", "engine", "gateway"} <= here
    assert not here & {".git", ".env", ".venv", "tests", "state", "docs"}


@pytest.mark.apart
def test_the_steps_make_a_folder_that_serves(tmp_path: Path) -> None:
    source, venv, work = tmp_path / "src", tmp_path / "opt" / "pipeline", tmp_path / "srv"
    build_context(source)
    work.mkdir()
    arguments = dict(text.split("=", 1) for text in texts("ARG"))
    environment = os.environ | arguments
    steps = [text for text in texts("RUN") if not text.startswith("useradd ")]
    assert len(steps) == 3
    for step in steps:
        command = step.replace("/opt/pipeline", str(venv)).replace(
            "python -m venv", f"{sys.executable} -m venv"
        )
        if not is_there(arguments["TORCH_INDEX"]):  # as in scripts/venv.sh
            command = command.replace('--index-url "$TORCH_INDEX"', "")
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=source, env=environment, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    for name in texts("COPY")[-1].split()[:-1]:
        shutil.copy(source / name, work)
    serves(venv / "bin", work)


def is_there(index: str) -> bool:
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=3):
            return True
    except OSError:
        return False


def serves(programs: Path, work: Path) -> None:
    """The image's command, its health check and its client, as `docker run` and `docker exec` start them."""
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    (work / "x1.csv").write_text("1,2,3\n4,5,6\n1,2,3\n")
    (work / "x2.csv").write_text("4,5,6\n7,8,9\n")
    for name in ("gw.py", "worker.py"):
        assert run("python", name, "-h").returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    health = json.loads(texts("HEALTHCHECK")[0].split("CMD ")[1].replace("5440", port))
    assert run(*health).returncode != 0
    command = [*json.loads(texts("CMD")[0]), "--port", port]
    server = subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert f"listens on 0.0.0.0:{port}. " in server.stdout.readline()
        healthy = run(*health)
        assert healthy.returncode == 0, healthy.stderr
        asked = run("python3", "client.py", port, "1.0,2.0,3.0", "x1.csv", "x2.csv")
        assert (asked.returncode, asked.stdout) == (0, "0.4\n"), asked.stderr
    finally:
        server.terminate()
        ended = server.wait(60)
        server.stdout.close()
    assert ended == 0
