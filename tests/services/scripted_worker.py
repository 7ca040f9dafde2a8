"""A stand-in for worker.py that does as its flags say: for tests of what starts and stops workers.

    scripted_worker.py --name bob --exit_with_parent --diary FILE [--then exit|obey|ignore]

It writes a line of JSON about itself into the diary, and then exits with code 3, waits for SIGTERM, or
ignores it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--name")
    parser.add_argument("--exit_with_parent", action="store_true")
    parser.add_argument("--diary", type=Path)
    parser.add_argument("--then", choices=["exit", "obey", "ignore"], default="exit")
    arguments = parser.parse_args()
    if arguments.then == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif arguments.then == "obey":
        signal.signal(signal.SIGTERM, lambda *_: leave(arguments.diary))
    note(
        arguments.diary,
        name=arguments.name,
        pid=os.getpid(),
        session=os.getsid(0),
        at=time.time(),
        settings=sorted(name for name in os.environ if name.startswith("PIPELINE_")),
        exit_with_parent=arguments.exit_with_parent,
    )
    if arguments.then == "exit":
        return 3
    sys.stdin.read()  # which is a pipe that ends with the parent
    note(arguments.diary, orphan=os.getpid())
    return 0


def note(diary: Path, **what: object) -> None:
    with diary.open("a") as file:
        file.write(json.dumps(what) + "\n")


def leave(diary: Path) -> None:
    note(diary, left=os.getpid())
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
