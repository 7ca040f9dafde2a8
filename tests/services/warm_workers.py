"""The fork server of a gateway's local workers, for workers that tests start: torch takes longer to import
than most tests do. Each runs a program as if that were started anew: warm_workers.py FD (`tests.e2e.warm`).
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

from engine import fork_server


def be_program(arguments: Sequence[str]) -> int:
    """In the child: a log file, a program, its flags."""
    log, *command = arguments
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for fd in (1, 2):
        os.dup2(file, fd)
    os.close(file)
    sys.argv[:] = command
    runpy.run_path(command[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(fork_server.serve(int(sys.argv[1]), be_program))
