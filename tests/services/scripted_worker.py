"""A stand-in for worker.py that does as its flags say: for tests of what starts and stops workers.

    scripted_worker.py --fork_server FD
    scripted_worker.py --name bob --incarnation 1 [--exit_with_parent] [--diary FILE] [--then WHAT]

It writes a line of JSON about itself into the diary, and then exits with code 3 (exit), waits for SIGTERM
(obey), or ignores it (ignore). As a fork server it is the real one, which imports nothing of what a real
worker needs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fork_server", type=int)
    parser.add_argument("--name")
    parser.add_argument("--incarnation", type=int)
    parser.add_argument("--exit_with_parent", action="store_true")
    parser.add_argument("--diary", type=Path, default=Path(os.devnull))
    parser.add_argument("--then", choices=["exit", "obey", "ignore"], default="obey")
    arguments = parser.parse_args(argv)
    if arguments.fork_server is not None:
        return be_fork_server(arguments.fork_server)
    if arguments.then == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif arguments.then == "obey":
        signal.signal(signal.SIGTERM, lambda *_: leave(arguments.diary))
    note(
        arguments.diary,
        name=arguments.name,
        incarnation=arguments.incarnation,
        pid=os.getpid(),
        parent=os.getppid(),
        session=os.getsid(0),
        at=time.time(),
        threads=threading.active_count(),
        environment={name: value for name, value in os.environ.items() if "PIPELINE" in name},
        exit_with_parent=arguments.exit_with_parent,
    )
    if arguments.then == "exit":
        return 3
    if not arguments.exit_with_parent:
        while True:
            signal.pause()
    sys.stdin.read()  # which is a pipe that ends with the gateway
    note(arguments.diary, orphan=os.getpid())
    while arguments.then == "ignore":
        signal.pause()
    return 0


def be_fork_server(fd: int) -> int:
    sys.path.insert(0, str(ROOT))
    from engine import fork_server

    fork_server.PRELOADED = ()
    fork_server.GRACE = 0.5
    return fork_server.serve(fd, main)


def note(diary: Path, **what: object) -> None:
    with diary.open("a") as file:
        file.write(json.dumps(what) + "\n")


def leave(diary: Path) -> None:
    note(diary, left=os.getpid())
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
