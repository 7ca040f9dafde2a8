"""What the machine gives without any server: the program in batches of 32, as many processes as workers.

`-m bench.peers.limit FILE WIDTH` is one of them: it says `ready`, reads for how many seconds to run, and
prints rows a second.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

from bench.peers.catalog import ROOT
from bench.peers.workloads import WORKLOADS

BATCH, WARM = 32, 5
START_TIME = 60.0
_BELOW = 1000  # of a token


def rows_a_second(programs: Path, workload: str, workers: int, seconds: float) -> float:
    """Of all processes together, each with one thread."""
    width = str(WORKLOADS[workload].width)
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "bench.peers.limit",
        str(programs / f"{workload}.ts"),
        width,
    ]
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(workers):
            process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{' '.join(command)} did not start")
        said = [_tell(process, seconds) for process in processes]
        return sum(float(each.communicate(timeout=seconds + START_TIME)[0]) for each in said)


def _tell(process: subprocess.Popen[str], seconds: float) -> subprocess.Popen[str]:
    assert process.stdin is not None
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    return process


def main(path: str, width: int) -> None:
    """One process."""
    import torch

    torch.set_num_threads(1)
    program = torch.jit.load(path)  # type: ignore[no-untyped-call]
    is_whole = width == WORKLOADS["transformer"].width
    rows = torch.randint(0, _BELOW, (BATCH, width)) if is_whole else torch.rand(BATCH, width)
    done = 0
    with torch.inference_mode():
        for _ in range(WARM):
            program(rows)
        print("ready", flush=True)
        seconds = float(sys.stdin.readline())
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            program(rows)
            done += BATCH
    print(done / (time.perf_counter() - began))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
