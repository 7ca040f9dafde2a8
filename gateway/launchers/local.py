"""Workers as child processes of the gateway, started again when they die. No orphans: a worker's stdin is
a pipe whose other end only the gateway holds, and a worker ends when that end goes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import trio

from common.log import event

log = logging.getLogger("pipeline.launcher")

WORKER = Path(__file__).resolve().parents[2] / "worker.py"
BACKOFF_MIN, BACKOFF_MAX = 0.1, 10.0
STEADY = 10.0  # a worker that lived so long did not crash at start: the back-off begins anew


async def keep_worker(name: str, arguments: Sequence[str], *, grace: float) -> None:
    """Run one worker for ever; when cancelled, ask it to stop, and kill it after `grace` seconds."""
    backoff = BACKOFF_MIN
    while True:
        began = trio.current_time()
        try:
            how = await _run_once(name, arguments, grace=grace)
        except OSError as error:  # no memory or no process number left: there may be one later
            how = f"could not start: {error}"
        if trio.current_time() - began > STEADY:
            backoff = BACKOFF_MIN
        event(log, logging.WARNING, "worker ended", worker=name, how=how, again_in=backoff)
        await trio.sleep(backoff)
        backoff = min(backoff * 2, BACKOFF_MAX)


async def _run_once(name: str, arguments: Sequence[str], *, grace: float) -> str:
    """Run one worker process until it ends, and say how it did."""
    process = await trio.lowlevel.open_process(
        [sys.executable, str(WORKER), "--name", name, "--exit_with_parent", *arguments],
        stdin=subprocess.PIPE,
        env=_environment(),
        # Ctrl-C is the gateway's to deal with: its workers first answer what it has, then are told.
        start_new_session=True,
    )
    event(log, logging.INFO, "worker started", worker=name, pid=process.pid)
    try:
        await process.wait()
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                await _stop(process, grace)
            if process.stdin is not None:
                await process.stdin.aclose()
    return _how(process.returncode)


async def _stop(process: trio.Process, grace: float) -> None:
    """Ask, wait, force; and reap."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with trio.move_on_after(grace):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()


def _environment() -> dict[str, str]:
    """The gateway's own, without its settings: a worker is told everything by flags."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        names = {each.value: each.name for each in signal.Signals}
        return f"killed by {names.get(-code, f'signal {-code}')}"
    return f"exit code {code}"
