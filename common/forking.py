"""Forks: what every process here that forks others has to mind."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def fork(run: Callable[[], int | None]) -> int:
    """Fork; the child runs this and ends with the exit code that it returns, without going back to what the
    parent was doing. Its process id."""
    _flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which libraries have started
        pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        status = run() or 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        _flush()
        os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def limit_threads(threads: int) -> None:
    """Bound the threads of one process: by the environment for what is imported later, else by asking."""
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    if "numpy" in sys.modules:
        with contextlib.suppress(ImportError):
            import threadpoolctl

            threadpoolctl.threadpool_limits(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
