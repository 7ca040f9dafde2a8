"""What Ray runs on a node for each worker: an actor that starts the worker's process and sees it end.

It is sent to the node by value. So the node needs only to have Pipeline installed, in whatever release, and
nothing outside the class `Host` but the standard library is there when it runs.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress


class Host:
    """One worker process, from its start to its end; never a second one.

    When it has ended, this actor waits `LINGER` seconds for somebody to ask how, and then ends too: it holds
    the worker's share of the node for as long as it is there.
    """

    LINGER = 60.0

    # The kernel kills a process with this set when the thread that made it ends: so the process that becomes
    # the worker sets it for itself, and the thread is one that waits for the worker.
    BIND = (
        "import ctypes, os, sys;"
        " ctypes.CDLL(None).prctl(1, 9);"  # PR_SET_PDEATHSIG, SIGKILL
        " os.getppid() == int(sys.argv[1]) or sys.exit('its actor has ended');"
        " os.execv(sys.argv[2], sys.argv[2:])"
    )

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self._how = ""  # it ended; empty before
        self._is_stopped = False
        self._said = ""  # the last line of its log
        self._begun = threading.Event()
        threading.Thread(target=self._live, daemon=True).start()
        self._begun.wait()  # the actor counts as running when this returns

    async def ended(self) -> str:
        """How the worker ended, once it has."""
        while not self._how:  # noqa: ASYNC110 (a thread sets it, and an asyncio.Event is not for threads)
            await asyncio.sleep(0.05)
        return self._how

    async def stop(self, grace: float) -> None:
        """Ask the worker to end, force it after `grace` seconds, and end with it."""
        self._is_stopped = True
        self._send(signal.SIGTERM)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.ended(), grace)
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)  # of one that has been reaped, it does nothing

    def _live(self) -> None:
        try:
            self._how = self._run()
        except Exception as error:
            self._how = f"could not start: {error}"
            self._begun.set()
        end = time.monotonic() + self.LINGER
        while not self._is_stopped and time.monotonic() < end:
            time.sleep(0.05)
        os._exit(0)

    def _run(self) -> str:
        worker = importlib.util.find_spec("worker")
        if worker is None or worker.origin is None:
            raise RuntimeError(
                f"no pipeline-inference is installed for {sys.executable} on {os.uname().nodename}"
            )
        # Neither the gateway's settings nor Ray's, whose token is among them, are for a worker to see.
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE_", "RAY_"))
        }
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-ESc",
                self.BIND,
                str(os.getpid()),
                sys.executable,
                worker.origin,
                *self._arguments,
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**kept, **self._environment},
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._begun.set()
        log = threading.Thread(target=self._follow, args=(self._process,), daemon=True)
        log.start()
        code = self._process.wait()
        log.join(0.5)  # whatever the worker had started may hold its log open
        names = {each.value: each.name for each in signal.Signals}
        how = f"killed by {names.get(-code, f'signal {-code}')}" if code < 0 else f"exit code {code}"
        return f"{how}: {self._said}" if code > 0 and self._said else how

    def _follow(self, process: subprocess.Popen[str]) -> None:
        """Hand the worker's log on to Ray's, which has a file for each actor."""
        assert process.stderr is not None
        for line in process.stderr:
            self._said = line.strip()[-400:] or self._said
            sys.stderr.write(line)
