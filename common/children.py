"""Programs of ours that a process starts, and is rid of again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import trio

from common.processes import ending


async def start(arguments: Sequence[str], fds: Sequence[int], **environment: str) -> trio.Process:
    """Our interpreter with these arguments, in a session of its own, with these descriptors, and without our
    settings: it is told everything. `OSError` where there is no room for it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
    return await trio.lowlevel.open_process(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        pass_fds=fds,
        env=kept | environment,
        start_new_session=True,
    )


async def finish(process: trio.Process, patience: float) -> str:
    """Wait for a process that has no reason to stay, and after so many seconds kill it; how it ended."""
    with trio.CancelScope(shield=True):
        with trio.move_on_after(patience):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
    code = process.returncode or 0
    return ending(-code if code < 0 else code << 8)
