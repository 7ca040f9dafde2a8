"""Collaboration, with real child processes: local workers and their fork server; nobody is left behind."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from common.errors import LaunchError
from common.processes import start_time
from gateway.launchers import local
from gateway.launchers.launcher import Launched, LaunchState, WorkerSpec
from gateway.launchers.local import LocalLauncher, open_local

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tests" / "services" / "scripted_worker.py"


class Diary:
    """What the workers wrote of themselves."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[dict[str, Any]]:
        whole = self.path.read_text().rpartition("\n")[0] if self.path.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    async def until(self, count: int) -> list[dict[str, Any]]:
        """Every entry, once there are so many."""
        await until(lambda: len(self.entries()) >= count)
        return self.entries()

    def spec(self, then: str = "obey", **environment: str) -> WorkerSpec:
        arguments = ("--diary", str(self.path), "--then", then)
        return WorkerSpec(arguments=arguments, environment=environment)


async def until(happened: Callable[[], Any]) -> None:
    with trio.fail_after(30):
        while not happened():  # noqa: ASYNC110 - another process makes it so
            await trio.sleep(0.005)


async def until_alive(launcher: LocalLauncher, holds: Callable[[dict[str, Launched]], Any]) -> None:
    with trio.fail_after(30):
        while not holds(await launcher.alive()):  # noqa: ASYNC110 - another process makes it so
            await trio.sleep(0.005)


def children() -> set[psutil.Process]:
    """Whom this process has started; other tests may have, and leave a fork server to the next."""
    return set(psutil.Process().children(recursive=True))


def fork_server(before: set[psutil.Process]) -> psutil.Process:
    (server,) = (each for each in children() - before if each.ppid() == os.getpid())
    return server


@pytest.fixture
def before():
    return children()


@pytest.fixture
def diary(tmp_path, before):
    yield Diary(tmp_path / "diary")
    assert children() <= before


def opened(**how: Any):
    return open_local("pipeline", program=SCRIPT, **how)


async def test_a_worker_is_told_its_name_and_everything_else_by_flags(diary, monkeypatch):
    monkeypatch.setenv("PIPELINE_PORT", "1")
    async with opened() as launcher:
        [id] = await launcher.start(1, diary.spec(NOT_PIPELINE="2"))
        [entry] = await diary.until(1)
    assert f"{entry['name']}.{entry['incarnation']}" == id
    assert entry["exit_with_parent"] is True
    assert entry["environment"] == {"NOT_PIPELINE": "2"}  # the gateway's own are not the worker's
    assert entry["session"] == entry["pid"]  # Ctrl-C in the gateway's terminal is not for it
    assert entry["threads"] == 1


async def test_all_workers_are_forked_from_one_process_which_is_started_when_it_is_needed(diary, before):
    async with opened() as launcher:
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert children() == before
        await launcher.start(2, diary.spec())
        await launcher.start(1, diary.spec())
        entries = await diary.until(3)
        assert {entry["parent"] for entry in entries} == {fork_server(before).pid}


async def test_preloaded_the_fork_server_is_there_before_anybody_asks(diary, before):
    async with opened(preload=True):
        await until(lambda: children() - before)


async def test_how_a_worker_ended_is_said(diary):
    async with opened() as launcher:
        [one] = await launcher.start(1, diary.spec("exit"))
        [two] = await launcher.start(1, diary.spec("obey"))
        entries = await diary.until(2)
        (killed,) = (entry["pid"] for entry in entries if f"{entry['name']}.{entry['incarnation']}" == two)
        os.kill(killed, signal.SIGKILL)
        gone = {
            one: Launched(LaunchState.GONE, "exit code 3"),
            two: Launched(LaunchState.GONE, "killed by SIGKILL"),
        }
        await until_alive(launcher, lambda alive: alive == gone)


async def test_a_worker_is_asked_to_leave_and_waited_for(diary):
    async with opened() as launcher:
        [id] = await launcher.start(1, diary.spec())
        [entry] = await diary.until(1)
        await launcher.stop(id, 10.0)
        await until_alive(launcher, lambda alive: alive == {})
    assert diary.entries()[1:] == [{"left": entry["pid"]}]  # not killed, and not orphaned


async def test_a_worker_that_does_not_leave_is_killed_when_its_grace_is_over(diary):
    async with opened() as launcher:
        [id] = await launcher.start(1, diary.spec("ignore"))
        [entry] = await diary.until(1)
        asked = trio.current_time()
        await launcher.stop(id, 0.2)
        await until_alive(launcher, lambda alive: alive == {})
        assert trio.current_time() - asked >= 0.2
    assert {"left": entry["pid"]} not in diary.entries()


async def test_at_the_end_who_is_left_is_killed(diary):
    async with opened() as launcher:
        await launcher.start(2, diary.spec("ignore"))
        entries = await diary.until(2)
    assert not any(psutil.pid_exists(entry["pid"]) for entry in entries)


async def test_cancelled_at_any_moment_it_leaves_nobody_behind(diary, before):
    for n in range(10):
        with trio.move_on_after(0.03 * n):
            async with opened() as launcher:
                await launcher.start(2, diary.spec())
                await trio.sleep_forever()
        assert children() <= before


async def test_a_fork_server_that_dies_is_replaced_and_its_workers_go_on(diary, before, caplog):
    async with opened() as launcher:
        [one] = await launcher.start(1, diary.spec())
        [first] = await diary.until(1)
        fork_server(before).kill()
        await until(lambda: "fork server ended" in caplog.text)
        assert [(await launcher.alive())[one].state] == [LaunchState.RUNNING]
        with trio.fail_after(30):
            while True:
                try:
                    [two] = await launcher.start(1, diary.spec())
                    break
                except LaunchError:  # it is not there yet
                    await trio.sleep(0.01)
        assert two.partition(".")[0] == "pipeline-1"
        entries = await diary.until(2)
        assert entries[1]["parent"] not in (first["parent"], 1)
        os.kill(first["pid"], signal.SIGKILL)  # nobody of ours is its parent now
        await until_alive(launcher, lambda alive: alive[one].state is LaunchState.GONE)
        await launcher.stop(two, 10.0)
        await launcher.stop(one, 10.0)
        await until_alive(launcher, lambda alive: alive == {})


async def test_workers_that_were_ordered_of_a_fork_server_that_dies_first_are_gone(diary, before):
    async with opened() as launcher:
        [id] = await launcher.start(1, diary.spec())
        fork_server(before).kill()
        how = "the process that forks workers ended first: killed by SIGKILL"
        await until_alive(
            launcher,
            lambda alive: alive[id] in (Launched(LaunchState.GONE, how), Launched(LaunchState.RUNNING)),
        )


async def test_a_program_that_is_no_fork_server_is_tried_ever_more_slowly(diary, tmp_path, caplog):
    program = tmp_path / "broken.py"
    program.write_text("raise SystemExit(7)")
    async with open_local("pipeline", program=program) as launcher:
        [id] = await launcher.start(1, diary.spec())
        how = "the process that forks workers ended first: exit code 7"
        await until_alive(launcher, lambda alive: alive[id] == Launched(LaunchState.GONE, how))
        await until(lambda: caplog.text.count("fork server ended") >= 3)
    said = [record.message for record in caplog.records if "fork server ended" in record.message]
    assert said[:3] == [f'fork server ended how="exit code 7" again_in={pause}' for pause in (0.1, 0.2, 0.4)]


async def test_without_a_program_to_run_it_tries_again(diary, caplog, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with opened(preload=True):
        await until(lambda: "fork server ended" in caplog.text)
    assert 'how="could not start: [Errno 2] No such file or directory' in caplog.text


GATEWAY = """
import sys, trio
from pathlib import Path
from gateway.launchers.launcher import WorkerSpec
from gateway.launchers.local import open_local

async def main():
    program, diary, then, records, how = sys.argv[1:]
    where = {"program": Path(program), "records": Path(records)}
    async with open_local("pipeline", keep=how == "keep", **where) as launcher:
        await launcher.start(1, WorkerSpec(arguments=("--diary", diary, "--then", then)))
        await trio.sleep_forever()

trio.run(main)
"""


async def run_gateway(diary: Diary, then: str, how: str) -> tuple[trio.Process, dict[str, Any]]:
    """A gateway in a process of its own, and what its worker wrote."""
    records = diary.path.with_name("workers.json")
    command = [sys.executable, "-c", GATEWAY, str(SCRIPT), str(diary.path), then, str(records), how]
    gateway = await trio.lowlevel.open_process(command, cwd=ROOT)
    return gateway, (await diary.until(1))[0]


async def kill(process: trio.Process) -> None:
    process.kill()
    await process.wait()


async def test_a_worker_whose_gateway_is_killed_notices_it(diary):
    gateway, entry = await run_gateway(diary, "obey", "")
    await kill(gateway)
    assert (await diary.until(2))[1] == {"orphan": entry["pid"]}
    await until(lambda: start_time(entry["pid"]) is None)


async def test_a_worker_that_does_not_end_with_its_gateway_is_killed(diary):
    gateway, entry = await run_gateway(diary, "ignore", "")
    await kill(gateway)
    assert (await diary.until(2))[1] == {"orphan": entry["pid"]}
    await until(lambda: start_time(entry["pid"]) is None)


async def test_kept_workers_outlive_their_gateway_and_end_when_the_next_one_keeps_none(diary, tmp_path):
    gateway, entry = await run_gateway(diary, "obey", "keep")
    records = tmp_path / "workers.json"
    await until(lambda: records.exists() and json.loads(records.read_bytes()))
    await kill(gateway)
    async with opened(records=records, keep=True) as launcher:
        [(id, launched)] = (await launcher.alive()).items()
        assert (id, launched.state) == (f"{entry['name']}.{entry['incarnation']}", LaunchState.RUNNING)
    assert start_time(entry["pid"]) is not None
    async with opened(records=records) as launcher:
        await until_alive(launcher, lambda alive: alive == {})
    assert diary.entries()[1:] == [{"left": entry["pid"]}]


async def test_of_those_who_are_written_down_only_who_runs_is_taken_over(diary, tmp_path, caplog):
    records = tmp_path / "workers.json"
    me = os.getpid()
    records.write_text(json.dumps([["a-0.1", me, 1], ["a-1.1", me, start_time(me)], ["a-2.1", 2**30, 1]]))
    async with opened(records=records, keep=True) as launcher:
        assert set(await launcher.alive()) == {"a-1.1"}
    records.write_text("no JSON")
    async with opened(records=records, keep=True) as launcher:
        assert await launcher.alive() == {}
    assert "who was kept cannot be read" in caplog.text


async def test_a_real_worker_has_the_threads_that_it_would_have_by_itself(tmp_path, before):
    """Those that libraries were held to, so that a fork loses none, are not what a worker is held to."""
    program = tmp_path / "threads.py"
    program.write_text(THREADS.format(root=str(ROOT), out=str(tmp_path / "out")))
    async with open_local("pipeline", program=program) as launcher:
        await launcher.start(1, WorkerSpec(environment={"OMP_NUM_THREADS": "3"}))
        await until(lambda: (tmp_path / "out").exists())
        said = json.loads((tmp_path / "out").read_text())
    assert said == {"threads of the server": 1, "blas": [3]}


THREADS = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from engine import fork_server

def main(argv):
    import threadpoolctl
    said = {{"threads of the server": len(os.listdir(f"/proc/{{os.getppid()}}/task"))}}
    pools = threadpoolctl.threadpool_info()
    said["blas"] = [pool["num_threads"] for pool in pools if pool["user_api"] == "blas"]
    Path({out!r} + ".new").write_text(json.dumps(said))
    Path({out!r} + ".new").replace({out!r})

sys.exit(fork_server.serve(int(sys.argv[2]), main))
"""


def test_the_worker_program_is_there():
    assert local.WORKER == ROOT / "worker.py"
    assert local.WORKER.is_file()
