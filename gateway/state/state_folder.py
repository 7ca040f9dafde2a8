"""The folder that a gateway keeps its state in: what lies there, whose it is, and that one gateway has it."""

from __future__ import annotations

import fcntl
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import StateError, StateInUse

DATABASE = "pipeline.sqlite"
LOCK = "lock"
BLOBS = "blobs"
JOB_BLOBS = "job_blobs"


def what_to_do(directory: Path) -> str:
    """How a sentence about a damaged state ends: the commands that help."""
    told = shlex.quote(str(directory))
    return (
        f"`pipeline state check --state {told}` says all that is wrong,"
        f" `pipeline state repair --state {told}` saves what can be read"
    )


def claim(directory: Path) -> None:
    """Make the folder and keep others out of it; never change one that is plainly somebody else's."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = {path.name for path in directory.iterdir()}
    ours = {LOCK, BLOBS, JOB_BLOBS, "lost+found"}
    strangers = {name for name in names if not name.startswith(DATABASE)} - ours
    if strangers and DATABASE not in names:
        raise StateError(f"{directory} holds other things and no state: give --state a new or empty folder")
    if DATABASE not in names and any(
        path for each in (BLOBS, JOB_BLOBS) for path in (directory / each).glob("??/*")
    ):
        raise StateError(
            f"{directory / DATABASE} is missing, and what it named is there: {what_to_do(directory)}"
        )
    with suppress(PermissionError):  # a mounted volume may belong to somebody else
        directory.chmod(0o700)


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold the folder; `StateError` says who does where another gateway does."""
    # The kernel drops the lock with the process, however it ends; the file stays, as removing it would
    # let two gateways lock two files of one name.
    file = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 20).decode("ascii", "replace").strip()
            who = f"another gateway (process {holder})" if holder else "another gateway"
            raise StateInUse(f"{directory} is in use by {who}: stop it, or give another --state") from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # Closing would do, but for a child on its way through exec, which has it open for a moment more.
        fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)
