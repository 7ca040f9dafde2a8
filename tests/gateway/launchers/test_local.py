"""Collaboration, with real child processes: workers are kept alive, and nobody is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio

from gateway.launchers import local

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tests" / "services" / "scripted_worker.py"


class Diary:
    """What the children wrote of themselves."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[dict[str, Any]]:
        whole = self.path.read_text().rpartition("\n")[0] if self.path.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    async def until(self, count: int) -> list[dict[str, Any]]:
        """Every entry, once there are so many."""
        with trio.fail_after(20):
            while len(self.entries()) < count:  # noqa: ASYNC110 - another process writes it
                await trio.sleep(0.005)
        return self.entries()


def children() -> set[psutil.Process]:
    """Whom this process has started; other tests may have, and leave a fork server to the next."""
    return set(psutil.Process().children(recursive=True))


@pytest.fixture
def diary(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "WORKER", SCRIPT)
    before = children()
    yield Diary(tmp_path / "diary")
    assert children() <= before


def keep(diary: Diary, then: str, *, grace: float = 10.0) -> Callable[[], Any]:
    return lambda: local.keep_worker("bob", ["--diary", str(diary.path), "--then", then], grace=grace)


def said(caplog, what: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(what)]


async def test_a_worker_is_told_its_name_and_everything_else_by_flags(diary, monkeypatch):
    monkeypatch.setenv("PIPELINE_PORT", "1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep(diary, "obey"))
        [entry] = await diary.until(1)
        nursery.cancel_scope.cancel()
    assert entry["name"] == "bob"
    assert entry["exit_with_parent"] is True
    assert entry["settings"] == []  # the gateway's own are not the worker's
    assert entry["session"] == entry["pid"]  # Ctrl-C in the gateway's terminal is not for it


async def test_a_worker_that_ends_is_started_again_ever_more_slowly(diary, caplog):
    caplog.set_level("INFO")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep(diary, "exit"))
        entries = await diary.until(4)
        nursery.cancel_scope.cancel()
    pauses = [b["at"] - a["at"] for a, b in pairwise(entries)]
    assert [pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True)] == [True] * 3
    assert said(caplog, "worker ended")[:3] == [
        f'worker ended worker=bob how="exit code 3" again_in={pause}' for pause in (0.1, 0.2, 0.4)
    ]
    started = [re.search(r"pid=(\d+)", line) for line in said(caplog, "worker started")]
    assert [int(match[1]) for match in started if match][:4] == [entry["pid"] for entry in entries]


async def test_the_pause_grows_to_a_limit_and_begins_anew_after_a_steady_life(diary, caplog, monkeypatch):
    monkeypatch.setattr(local, "BACKOFF_MAX", 0.2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep(diary, "exit"))
        await diary.until(4)
        monkeypatch.setattr(local, "STEADY", 0.0)
        await diary.until(6)
        nursery.cancel_scope.cancel()
    pauses = [line.rpartition("=")[2] for line in said(caplog, "worker ended")]
    assert pauses[:3] == ["0.1", "0.2", "0.2"]
    assert pauses[4] == "0.1"


async def test_a_worker_that_is_killed_is_replaced_and_the_log_says_by_what(diary, caplog):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep(diary, "obey"))
        [first] = await diary.until(1)
        os.kill(first["pid"], signal.SIGKILL)
        _, second = await diary.until(2)
        nursery.cancel_scope.cancel()
    assert first["pid"] != second["pid"]
    assert said(caplog, "worker ended") == ['worker ended worker=bob how="killed by SIGKILL" again_in=0.1']


async def test_a_worker_is_asked_to_leave_and_waited_for(diary):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep(diary, "obey"))
        [entry] = await diary.until(1)
        nursery.cancel_scope.cancel()
    assert diary.entries()[1:] == [{"left": entry["pid"]}]  # not killed, and not orphaned
    assert not psutil.pid_exists(entry["pid"])


async def test_a_worker_that_does_not_leave_is_killed_when_its_grace_is_over(diary):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep(diary, "ignore", grace=0.2))
        [entry] = await diary.until(1)
        cancelled = time.monotonic()
        nursery.cancel_scope.cancel()
    assert 0.2 <= time.monotonic() - cancelled < 5
    assert diary.entries() == [entry]
    assert not psutil.pid_exists(entry["pid"])


async def test_cancelled_at_any_moment_it_leaves_nobody_behind(diary):
    before = children()
    for n in range(12):
        with trio.move_on_after(0.012 * n):
            await keep(diary, "obey", grace=5.0)()
        assert children() <= before


async def test_without_a_program_to_run_it_tries_again(diary, caplog, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with trio.move_on_after(0.5):
        await keep(diary, "exit")()
    lines = said(caplog, "worker ended")
    assert len(lines) in (2, 3)
    assert lines[0].startswith('worker ended worker=bob how="could not start: [Errno 2] No such file')
    assert [line.rpartition("=")[2] for line in lines[:2]] == ["0.1", "0.2"]


GATEWAY = """
import sys, trio
from pathlib import Path
from gateway.launchers import local
local.WORKER = Path(sys.argv[1])
trio.run(lambda: local.keep_worker("bob", ["--diary", sys.argv[2], "--then", "obey"], grace=5.0))
"""


async def test_a_worker_whose_gateway_is_killed_notices_it(diary):
    command = [sys.executable, "-c", GATEWAY, str(SCRIPT), str(diary.path)]
    gateway = await trio.lowlevel.open_process(command, cwd=ROOT)
    [entry] = await diary.until(1)
    gateway.kill()
    await gateway.wait()
    _, last = await diary.until(2)
    assert last == {"orphan": entry["pid"]}
