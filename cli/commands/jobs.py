"""`pipeline jobs`: answers that are fetched later, and files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from cli.asked import Asked
from cli.commands.predict import rows_of
from cli.failure import EXIT_LATER, EXIT_USAGE, Failure, refusal
from cli.files import read_value
from cli.output import moment
from cli.parser import Tree, seconds

Job = dict[str, Any]

PAGE = 200
WAIT = 30.0  # of one request for a result; longer waits are several
FACTS = (
    "id", "state", "error", "model", "version", "priority", "queue_position", "progress", "rows_total",
    "rows_done", "rows_failed", "queued_s", "running_s", "input", "output", "format", "callback_url",
)  # fmt: skip
MOMENTS = ("created", "started", "finished", "expires")


def add(tree: Tree) -> None:
    """`jobs` and what it can do."""
    jobs = tree.branch("jobs", "answers that are fetched later: list, show, submit, cancel, result")
    parser = jobs.leaf("list", "jobs, newest first", list_them)
    parser.add_argument("--state", help="only those: queued, running, done, failed, cancelled, expired")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most (default: 50)")
    jobs.leaf("show", "one job: its state, progress and times", show).add_argument("job")
    parser = jobs.leaf("submit", "hand in rows, or files", submit, has_tables=False)
    parser.add_argument("row", nargs="*", help="numbers with commas between")
    parser.add_argument("--model", help="who is to answer (default: the default model)")
    parser.add_argument("--version", help="which of its versions (default: the active one)")
    parser.add_argument("--input", metavar="URL", help="file:///… or s3://… of rows")
    parser.add_argument("--output", metavar="URL", help="where the answers go")
    parser.add_argument("--format", help="csv, jsonl or parquet (default: the input's ending)")
    parser.add_argument("--order", metavar="JSON", help="all of it as JSON, or @FILE, instead")
    parser.add_argument("--priority", type=int, metavar="N", help="-100 to 100; the highest start first")
    parser.add_argument("--key", help="the same again with the same key is the same job")
    _add_wait(parser)
    jobs.leaf("cancel", "end a job, or forget one that is over", cancel, has_tables=False).add_argument("job")
    parser = jobs.leaf("result", "what a job was answered", result, has_tables=False)
    parser.add_argument("job")
    _add_wait(parser)


def _add_wait(parser: Any) -> None:
    parser.add_argument(
        "--wait", type=seconds, default=0.0, metavar="SECONDS", help="for its result (default: not at all)"
    )


def list_them(asked: Asked) -> None:
    """As many as are wanted, page by page."""
    found = list(_pages(asked))
    if asked.output.is_json:
        return asked.output.json(found)
    rows = [
        (
            each["id"], each["state"], each["model"], each["version"], f"{each['progress']:.0%}",
            each["rows_done"], each["rows_failed"], moment(each["created"]), each["error"],
        )
        for each in found
    ]  # fmt: skip
    columns = ("job", "state", "model", "version", "progress", "rows", "failed", "created", "error")
    return asked.output.table(columns, rows, empty="There is no job.")


def _pages(asked: Asked) -> Iterator[Job]:
    given, cursor, left = asked.arguments, None, asked.arguments.limit
    while left > 0:
        query = {"state": given.state, "limit": min(left, PAGE), "cursor": cursor}
        page = asked.do("GET", "jobs", query=query)
        yield from page["jobs"]
        left, cursor = left - len(page["jobs"]), page["cursor"]
        if cursor is None:
            return


def show(asked: Asked) -> None:
    """One job."""
    job = asked.do("GET", "jobs", asked.arguments.job)
    if asked.output.is_json:
        return asked.output.json(job)
    facts = [(name, job[name]) for name in FACTS if name in job]
    return asked.output.fields([*facts, *((name, moment(job[name])) for name in MOMENTS)])


def submit(asked: Asked) -> None:
    """A job is taken in before this ends; with --wait its result is printed."""
    given = asked.arguments
    headers = {} if given.key is None else {"Idempotency-Key": given.key}
    job = asked.do("POST", "jobs", value=_order(asked), headers=headers)
    if "id" not in job:
        raise Failure(str(job.get("message")))
    if given.wait:
        _print_result(asked, job["id"])
    else:
        asked.output.say(job, job["id"])


def _order(asked: Asked) -> Any:
    given = asked.arguments
    is_batch = given.input is not None or given.output is not None
    if [bool(given.row), is_batch, given.order is not None].count(True) != 1:
        raise Failure("give rows of numbers, or --input and --output, or --order", EXIT_USAGE)
    if given.order is not None:
        return read_value(given.order)
    order = rows_of(given.row) if given.row else {}
    for name in ("model", "version", "input", "output", "format", "priority"):
        if (value := getattr(given, name)) is not None:
            order[name] = value
    return order


def cancel(asked: Asked) -> None:
    """End or forget a job."""
    job = asked.arguments.job
    answer = asked.do("DELETE", "jobs", job)
    became = "is cancelled" if "id" in answer else "was over, and is forgotten"
    asked.output.say(answer, f"{job} {became}")


def result(asked: Asked) -> None:
    """What a job was answered; exit code 4 while it is not over."""
    _print_result(asked, asked.arguments.job)


def _print_result(asked: Asked, job: str) -> None:
    until = time.monotonic() + asked.arguments.wait
    while True:
        left = max(0.0, until - time.monotonic())
        wait = min(left, WAIT)
        answer = asked.ask("GET", "jobs", job, "result", query={"wait": wait or None}, patience=wait)
        failure = refusal(answer.status, answer.value)
        if failure is not None:
            raise failure
        if answer.status != 202:
            return asked.output.json(answer.value)
        if wait == left:
            value = answer.value
            raise Failure(f"{job} is {value['state']}, {value['progress']:.0%} done: try --wait", EXIT_LATER)
