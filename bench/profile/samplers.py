"""The programs that look at another process's stacks.

py-spy knows Python's frames; perf knows the machine's, and from Python 3.12 on Python's where the process was
started with PYTHONPERFSUPPORT=1.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench.profile.stacks import Stacks, read_collapsed, read_perf

TOOLS = ("py-spy", "perf")
RATE = 200  # samples a second
_MORE_TIME = 60.0  # seconds that a tool may take to begin and to write what it has


class Sampler(NamedTuple):
    """How to sample: `gil`: only what has the interpreter's lock; `native`: C functions, too."""

    tool: str
    program: str
    gil: bool = False
    native: bool = False

    def start(self, pid: int, seconds: float, folder: Path) -> Callable[[], Stacks]:
        """Sample a process for so long; what is returned waits for that. Both raise `RuntimeError`."""
        file = folder / f"{pid}.samples"
        command = (
            self._py_spy(pid, seconds, file) if self.tool == "py-spy" else self._perf(pid, seconds, file)
        )
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

        def finish() -> Stacks:
            try:
                said, _ = process.communicate(timeout=seconds + _MORE_TIME)
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
            if process.returncode or not file.exists():
                raise RuntimeError(complaint(self.tool, pid, said))
            return read_collapsed(file.read_text()) if self.tool == "py-spy" else self._read_perf(file)

        return finish

    def _py_spy(self, pid: int, seconds: float, file: Path) -> list[str]:
        command = [self.program, "record", "--pid", str(pid), "--format", "raw", "--output", str(file)]
        command += ["--duration", str(max(1, round(seconds))), "--rate", str(RATE), "--threads"]
        # To pause the process for each sample wakes all its threads, which then look as if they ran. Frames
        # of C cannot be had otherwise.
        command.append("--native" if self.native else "--nonblocking")
        return command + ["--gil"] * self.gil

    def _perf(self, pid: int, seconds: float, file: Path) -> list[str]:
        command = [self.program, "record", "-q", "-g", "-F", str(RATE), "-p", str(pid), "-o", str(file)]
        return [*command, "--", "sleep", str(seconds)]

    def _read_perf(self, file: Path) -> Stacks:
        command = [self.program, "script", "-F", "comm,tid,ip,sym,dso", "-i", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_MORE_TIME)
        if done.returncode:
            raise RuntimeError(f"perf cannot read what it recorded: {done.stderr.strip()}")
        return read_perf(done.stdout)


def find_sampler(tool: str | None, *, gil: bool, native: bool) -> Sampler:
    """The tool of that name, or the first one that is there; `RuntimeError` with what to install."""
    for each in TOOLS if tool is None else (tool,):
        # Beside the interpreter of a virtual environment, which need not be activated.
        program = shutil.which(each, path=str(Path(sys.executable).parent)) or shutil.which(each)
        if program:
            if each == "perf" and gil:
                raise RuntimeError("perf knows nothing of the interpreter's lock: --gil needs py-spy")
            return Sampler(each, program, gil, native)
    raise RuntimeError(
        f"{tool or ' or '.join(TOOLS)} is not installed: pip install 'pipeline-inference[bench]' has py-spy"
    )


def complaint(tool: str, pid: int, said: str) -> str:
    """Why a tool gave nothing, in a sentence."""
    if any(word in said.lower() for word in ("permission", "permitted", "not allowed")):
        return (
            f"{tool} may not look at process {pid}: be root, or its user where the kernel allows it"
            " (sysctl kernel.yama.ptrace_scope=0 for py-spy, kernel.perf_event_paranoid=1 for perf; in a"
            " container --cap-add SYS_PTRACE)"
        )
    if not Path(f"/proc/{pid}").exists():
        return f"process {pid} is not there, or ended before it was looked at"
    reason = next((line.strip() for line in said.splitlines() if line.strip()), "it said nothing")
    return f"{tool} could not sample process {pid}: {reason}"
