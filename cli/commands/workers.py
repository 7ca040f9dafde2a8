"""`pipeline workers`: who there is, and who is to leave."""

from __future__ import annotations

import time

from cli.asked import Asked
from cli.commands.status import COLUMNS, worker_rows
from cli.failure import EXIT_LATER, Failure
from cli.parser import Tree, seconds

PAUSE = 0.2  # between two looks at whether a worker is gone


def add(tree: Tree) -> None:
    """`workers` and what it can do."""
    workers = tree.branch("workers", "the workers: list, drain")
    workers.leaf("list", "every worker", list_them)
    parser = workers.leaf(
        "drain", "have a worker finish what it has, and leave", drain, has_tables=False,
        epilog="One that the gateway started is replaced. One that a service manager restarts comes back.",
    )  # fmt: skip
    parser.add_argument("worker", help="its name, or its id")
    parser.add_argument(
        "--wait", type=seconds, default=0.0, metavar="SECONDS", help="until it is gone (default: not at all)"
    )


def list_them(asked: Asked) -> None:
    """As `status` shows them."""
    status = asked.do("GET", "status")
    if asked.output.is_json:
        return asked.output.json(status["workers"])
    return asked.output.table(COLUMNS, worker_rows(status), empty="There is no worker.")


def drain(asked: Asked) -> None:
    """Tell it, and wait for it if that is wanted."""
    given = asked.arguments
    answer = asked.do("POST", "fleet", given.worker, "drain")
    leaving = {each["id"] for each in answer["workers"]}
    until = time.monotonic() + given.wait
    while given.wait and leaving:
        leaving &= {each["id"] for each in asked.do("GET", "status")["workers"]}
        if leaving and time.monotonic() > until:
            raise Failure(f"{given.worker} is still there after {given.wait:g} s", EXIT_LATER)
        time.sleep(PAUSE if leaving else 0)
    asked.output.say(answer, f"{given.worker} {'has left' if given.wait else 'leaves'}")
