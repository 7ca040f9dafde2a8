"""end to end: how pools and their processes begin and end, with the program or without it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from ml_pool import MLPool
from ml_pool.exceptions import PoolIsShutDown
from tests.ml_pool import functions
from tests.ml_pool.conftest import WAIT, begin, worker_pids

ROOT = Path(__file__).parents[2]

PATH = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

START_METHODS = ["forkserver", "fork", "spawn"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("share_models", [False, True])
@pytest.mark.parametrize("start_method", START_METHODS)
def test_workers_start_in_every_way(nothing_left: None, start_method: str, share_models: bool) -> None:
    how: dict[str, Any] = {"start_method": start_method, "share_models": share_models}
    with MLPool({"adder": functions.load_adder}, 2, **how) as pool:
        ran_in, loaded_in = pool.submit(functions.pids, "adder").result(WAIT)
        assert (ran_in != loaded_in) == (share_models and start_method != "spawn")
        assert len(set(worker_pids(pool))) == 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_pool_that_forks_takes_any_function_that_loads() -> None:
    term = 5.0
    with MLPool({"adder": lambda: functions.Adder(term)}, 1, start_method="fork") as pool:
        assert pool.submit(functions.add, "adder", 1).result(WAIT) == 6.0


def test_shared_models_are_loaded_once() -> None:
    with MLPool({"adder": functions.load_adder}, 3, share_models=True) as pool:
        template = psutil.Process(worker_pids(pool)[0]).ppid()
        assert pool.submit(functions.pids, "adder").result(WAIT)[1] == template
        pool.submit(functions.die, "adder").exception(WAIT)
        assert pool.submit(functions.pids, "adder").result(WAIT)[1] == template


@pytest.mark.parametrize("share_models", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_torch_runs_with_the_threads_it_was_given(share_models: bool, threads: int) -> None:
    with MLPool(
        {"adder": functions.load_with_torch}, 1, threads_per_worker=threads, share_models=share_models,
        preload=["torch"],
    ) as pool:  # fmt: skip
        assert pool.submit(functions.torch_threads, "adder").result(WAIT)[0] == threads


def test_workers_draw_different_numbers() -> None:
    with MLPool({"adder": functions.load_adder}, 2, share_models=True) as pool:
        futures = [begin(pool), pool.submit(functions.draw, "adder")]
        first = futures[1].result(WAIT)
        futures[0].cancel()
        begin(pool)
        assert pool.submit(functions.draw, "adder").result(WAIT) != first


def test_workers_have_the_environment_and_directory_of_the_moment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SAID_TO_WORKERS", "now")
    monkeypatch.chdir(tmp_path)
    with MLPool({"adder": functions.load_adder}, 1) as pool:
        found = pool.submit(functions.environment, "adder", "SAID_TO_WORKERS").result(WAIT)
    assert found == ("now", str(tmp_path))


def test_signals_for_the_whole_program_are_not_for_workers(pool: MLPool) -> None:
    before = worker_pids(pool)
    assert pool.submit(functions.signal_ignored, "adder").result(WAIT)
    assert pool.submit(functions.run_true, "adder").result(WAIT) == 0
    assert worker_pids(pool) == before


def test_shutdown_of_an_idle_pool_leaves_nothing_and_may_be_repeated(nothing_left: None) -> None:
    pool = MLPool({"adder": functions.load_adder}, 2)
    pool.shutdown()
    pool.shutdown(timeout=1.0)
    with pytest.raises(PoolIsShutDown):
        pool.submit(functions.add, "adder", 1)


def test_shutdown_ends_what_runs_and_what_waits(nothing_left: None, tmp_path: Path) -> None:
    cleaned = tmp_path / "cleaned"
    with MLPool({"adder": functions.load_adder}, 1) as pool:
        futures = [begin(pool, functions.block_with_cleanup, str(cleaned))]
        futures += [pool.submit(functions.add, "adder", n) for n in range(5)]
    for future in futures:
        with pytest.raises(PoolIsShutDown):
            future.result(WAIT)
    assert cleaned.read_text() == "cleaned up"


def test_a_worker_that_ignores_the_request_is_killed(nothing_left: None) -> None:
    pool = MLPool({"adder": functions.load_adder}, 1)
    running = begin(pool, functions.block_stubbornly)
    pool.shutdown(timeout=0.1)
    with pytest.raises(PoolIsShutDown):
        running.result(WAIT)


def test_a_pool_that_is_forgotten_ends(nothing_left: None) -> None:
    pool = MLPool({"adder": functions.load_adder}, 1)
    running = begin(pool)
    thread = pool._dispatcher._thread
    del pool
    gc.collect()
    with pytest.raises(PoolIsShutDown, match="forgotten"):
        running.result(WAIT)
    thread.join(WAIT)


def test_a_fork_of_the_program_has_no_pool_and_harms_none(pool: MLPool) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            pool.submit(functions.add, "adder", 1)
        except RuntimeError:
            pool.shutdown()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert pool.submit(functions.add, "adder", 1).result(WAIT) == 2.0


PROGRAM = """
import os, sys, time
from ml_pool import MLPool
{setup}
def load():
    return 20
def score(model, value):
    return model + value
def wait(model):
    time.sleep(60)
if __name__ == "__main__":
{main}
"""


def start_program(tmp_path: Path, main: str, setup: str = "") -> subprocess.Popen[str]:
    lines = "\n".join(f"    {line}" for line in main.splitlines())
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(setup=setup, main=lines))
    return subprocess.Popen(
        [sys.executable, str(path)], env=os.environ | {"PYTHONPATH": PATH}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run_program(tmp_path: Path, main: str, setup: str = "") -> tuple[int, str, str]:
    with start_program(tmp_path, main, setup) as program:
        output, errors = program.communicate(timeout=WAIT)
        return program.returncode, output, errors


@pytest.mark.parametrize("start_method", START_METHODS)
def test_functions_of_the_program_itself_are_found(tmp_path: Path, start_method: str) -> None:
    main = f"""with MLPool({{"twenty": load}}, 1, start_method="{start_method}") as pool:
    print(pool.submit(score, "twenty", 1).result())"""
    assert run_program(tmp_path, main) == (0, "21\n", "")


def test_a_program_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    setup = 'def early():\n    return 1\npool = MLPool({"one": early}, 1)'
    code, _, errors = run_program(tmp_path, "pass", setup)
    assert code == 1
    assert 'make it under `if __name__ == "__main__":`' in errors


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise SystemExit(3)"])
def test_a_program_that_ends_without_shutdown_does_not_hang(tmp_path: Path, ending: str) -> None:
    main = f"""pool = MLPool({{"twenty": load}}, 2)
future = pool.submit(wait, "twenty")
print([worker["pid"] for worker in pool.statistics()["workers"]], flush=True)
{ending}"""
    code, output, errors = run_program(tmp_path, main)
    assert (code, errors) == (3 if ending else 0, "")
    assert not any(psutil.pid_exists(pid) for pid in eval(output))


@pytest.mark.parametrize("start_method", START_METHODS)
def test_when_the_program_is_killed_nothing_of_it_lives_on(tmp_path: Path, start_method: str) -> None:
    main = f"""pool = MLPool({{"twenty": load}}, 2, start_method="{start_method}")
futures = [pool.submit(wait, "twenty") for _ in range(2)]
print("waiting", flush=True)
time.sleep(60)"""
    with start_program(tmp_path, main) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "waiting\n"
        processes = psutil.Process(program.pid).children(recursive=True)
        assert len(processes) >= 2
        program.kill()
        gone, alive = psutil.wait_procs(processes, timeout=5)
        assert alive == []
        assert len(gone) == len(processes)


def test_ctrl_c_ends_the_program_and_its_workers_quietly(tmp_path: Path) -> None:
    main = """pool = MLPool({"twenty": load}, 2)
future = pool.submit(wait, "twenty")
try:
    print("waiting", flush=True)
    future.result()
except KeyboardInterrupt:
    print("interrupted", pool.statistics()["running"], flush=True)
    pool.shutdown()"""
    path_main = start_program(tmp_path, main, "os.setpgid(0, 0) if __name__ == '__main__' else None")
    with path_main as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "waiting\n"
        os.killpg(program.pid, signal.SIGINT)
        output, errors = program.communicate(timeout=WAIT)
        assert (program.returncode, output, errors) == (0, "interrupted 1\n", "")


def test_pools_beside_each_other_do_not_meet(nothing_left: None) -> None:
    with MLPool({"adder": functions.load_adder}, 1) as one:
        with MLPool({"adder": functions.load_adder}, 1) as two:
            assert worker_pids(one) != worker_pids(two)
            assert two.submit(functions.die, "adder").exception(WAIT)
        assert one.submit(functions.add, "adder", 1).result(WAIT) == 2.0
        assert one.statistics()["restarts"] == 0
