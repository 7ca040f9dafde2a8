"""end to end: `bench profile` looks at real processes with the tools that are here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.profile import samplers
from bench.profile.samplers import TOOLS, complaint, find_sampler
from tests.bench.servers import delayed_server

SPIN = """
import threading
def spin():
    while True:
        sum(range(1000))
threading.Thread(target=spin, name="spinner", daemon=True).start()
print(flush=True)
input()
"""


@pytest.fixture
def spinner() -> Iterator[int]:
    """A process one of whose threads is busy."""
    with subprocess.Popen(
        [sys.executable, "-c", SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def can(tool: str, pid: int, folder: Path) -> bool:
    """Whether it is here, and may look at others."""
    try:
        find_sampler(tool, gil=False, native=False).start(pid, 1.0, folder)()
    except RuntimeError as error:
        pytest.skip(str(error))
    return True


def profile(folder: Path, *flags: str) -> tuple[int, dict[str, str]]:
    """The exit code, and what the files say."""
    code = main(["profile", "--seconds", "1", "-o", str(folder / "out"), *flags])
    return code, {path.name: path.read_text() for path in (folder / "out").glob("*")}


@pytest.mark.parametrize("flags", [[], ["--gil"], ["--native"]])
def test_py_spy_names_the_busy_thread_and_its_function(spinner: int, tmp_path: Path, flags: list[str]):
    assert can("py-spy", spinner, tmp_path)
    code, files = profile(tmp_path, "--tool", "py-spy", "--pid", str(spinner), *flags)
    assert code == 0
    (text,) = (said for name, said in files.items() if name.endswith(".txt"))
    (picture,) = (said for name, said in files.items() if name.endswith(".svg"))
    assert "thread spinner, busy" in text
    assert "spin (<string>)" in text
    assert ">spinner</text>" in picture


def test_perf_sees_the_interpreter_itself(spinner: int, tmp_path: Path):
    assert can("perf", spinner, tmp_path)
    code, files = profile(tmp_path, "--tool", "perf", "--pid", str(spinner))
    assert code == 0
    (text,) = (said for name, said in files.items() if name.endswith(".txt"))
    assert re.search(r"\bPy[A-Z]\w+ \(", text)


def test_a_process_that_runs_is_loaded_where_a_url_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with delayed_server() as (url, pid):
        assert can(TOOLS[0], pid, tmp_path)
        where = ["--url", url, "--door", "starlette", "--clients", "2", "--row", "x:FP32:3"]
        code, files = profile(tmp_path, "--pid", str(pid), *where)
    assert code == 0
    assert "requests a second while it was looked at" in capsys.readouterr().out
    assert any("Server.answer (" in said for name, said in files.items() if name.endswith(".txt"))


def test_a_process_that_is_not_there_is_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert profile(tmp_path, "--pid", "4194304") == (2, {})
    assert "4194304" in capsys.readouterr().err


def test_without_a_tool_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(samplers.sys, "executable", "/nowhere/python")
    with pytest.raises(RuntimeError, match=r"py-spy or perf is not installed: pip install '.*\[bench\]'"):
        find_sampler(None, gil=False, native=False)
    with pytest.raises(RuntimeError, match="perf is not installed"):
        find_sampler("perf", gil=False, native=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to become somebody who may not")
def test_whoever_may_not_look_is_told_what_would_help(spinner: int, tmp_path: Path):
    assert can("py-spy", spinner, tmp_path)
    program = find_sampler("py-spy", gil=False, native=False).program
    done = subprocess.run(
        [program, "record", "--pid", str(spinner), "-d", "1", "-f", "raw", "-o", str(tmp_path / "raw")],
        capture_output=True, text=True, check=False, user=65534, group=65534, extra_groups=[],
    )  # fmt: skip
    assert done.returncode != 0
    assert f"py-spy may not look at process {spinner}: be root" in complaint(
        "py-spy", spinner, done.stdout + done.stderr
    )


def test_what_a_tool_says_otherwise_is_passed_on():
    assert complaint("perf", os.getpid(), "\nno such event\nat all\n").endswith(": no such event")
    assert "is not there" in complaint("perf", 4194304, "failed")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--seconds", "0"], "seconds are from 1"),
        (["--clients", "0"], "clients from 1"),
        (["--tool", "perf", "--gil"], "--gil needs py-spy"),
        (["--url", "http://127.0.0.1:1"], "--url is of --pid"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
):
    assert main(["profile", "-o", str(tmp_path / "out"), *flags]) == 2
    said = capsys.readouterr().err
    assert sentence in said or "perf is not installed" in said
