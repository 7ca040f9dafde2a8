"""end to end: ours and a bare Starlette service, started, loaded and harmed as `bench peers` does it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.peers.limit import rows_a_second
from bench.peers.load import choose
from bench.peers.measure import Bench
from bench.peers.outcomes import Outcome
from bench.peers.plan import Cell, Times
from bench.peers.run import measured
from bench.peers.tree import MARK, Tree

pytestmark = pytest.mark.apart

TIMES = Times.of(1.0, is_quick=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("peers")
    (folder / "programs").mkdir()
    subprocess.run([sys.executable, "-m", "bench.peers.workloads", folder / "programs"], check=True)
    interpreter = folder / "starlette" / "bin" / "python"  # what it needs is in the extra for tests
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    interpreter.chmod(0o755)
    return folder


def measure(home: Path, cell: Cell, generator: str | None = "executor") -> dict[str, float]:
    outcome: Outcome = measured(cell, Bench(choose(home, generator), TIMES), home, home)
    assert outcome.error == ""
    return outcome.figures


@pytest.mark.parametrize("peer", ["pipeline", "starlette"])
def test_a_server_is_started_checked_loaded_and_gone(home: Path, peer: str):
    figures = measure(home, Cell("load", peer, "tiny", 1))
    assert figures["wrong"] == figures["errors"] == 0
    assert figures["rate"] > 0
    assert 0 < figures["alone_p50"] <= figures["alone_p99"]
    assert 0 < figures["pss"] <= figures["rss"]
    assert figures["cpu_per_1000"] > 0
    assert not [each for each in psutil.process_iter() if programs(each) == str(home / "programs")]


def test_wrk_and_binary_are_another_way(home: Path):
    figures = measure(home, Cell("load", "pipeline", "mlp784", 1, "binary"), None)
    assert figures["wrong"] == figures["errors"] == 0
    assert figures["answered"] > 0


def test_a_worker_is_killed_under_load_and_bad_rows_spoil_nothing(home: Path):
    killed = measure(home, Cell("kill", "pipeline", "tiny", 2))
    assert killed["failed"] == 0
    assert killed["requests"] > 0
    bad = measure(home, Cell("neighbours", "pipeline", "tiny", 2))
    assert bad["spoiled"] == bad["bad_answered"] == 0
    assert bad["bad"] > 0
    assert bad["good"] > 0


def test_a_server_that_ends_at_once_is_said_to_have(home: Path):
    (home / "mosec" / "bin").mkdir(parents=True)
    interpreter = home / "mosec" / "bin" / "python"
    interpreter.write_text("#!/bin/sh\necho it is not there\n")
    interpreter.chmod(0o755)
    outcome = measured(Cell("load", "mosec", "tiny", 1), Bench(choose(home, "executor"), TIMES), home, home)
    assert "it is not there" in outcome.error


def test_the_limit_is_of_as_many_processes_as_workers(home: Path):
    assert rows_a_second(home / "programs", "tiny", 2, 0.2) > 0


def test_a_tree_has_what_was_started_apart_too_and_ends_all_of_it(tmp_path: Path):
    orphan = "import time; print('up', flush=True); time.sleep(600)"
    parent = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]],"
        " start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL);"
        " child.stdout.readline(); print(child.pid)"
    )
    done = subprocess.run(
        [sys.executable, "-c", parent, orphan], env=os.environ | {MARK: str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    tree = Tree(0, str(tmp_path))
    (found,) = tree.processes()
    assert found.pid == int(done.stdout)
    assert tree.memory().rss > 0
    tree.end(0.0)
    assert not psutil.pid_exists(found.pid) or found.status() == psutil.STATUS_ZOMBIE


def programs(process: psutil.Process) -> str | None:
    """Where a server of a run has its models from."""
    try:
        return process.environ().get("BENCH_PROGRAMS")
    except psutil.Error:
        return None
