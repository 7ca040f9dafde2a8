"""`pipeline status`: the queue and every worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cli.asked import Asked
from cli.parser import Tree

COLUMNS = (
    "worker", "state", "host", "pid", "device", "in flight", "requests", "p50 ms", "p99 ms", "hit rate",
    "MiB", "seen s", "trouble",
)  # fmt: skip


def add(tree: Tree) -> None:
    """`status`."""
    tree.leaf("status", "the queue, the workers, their latencies and caches", run)


def run(asked: Asked) -> None:
    """Show what `GET /status` says."""
    status = asked.do("GET", "status")
    if asked.output.is_json:
        asked.output.json(status)
        return
    asked.output.fields(summary(asked.url, status))
    print()
    asked.output.table(COLUMNS, worker_rows(status), empty="There is no worker.")


def summary(url: str, status: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the gateway says of itself."""
    states = [worker["state"] for worker in status["workers"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    yield "gateway", url
    yield (
        "queue",
        f"{status['queue_requests_current']} of {status['queue_requests_max']}"
        f" (peak {status['queue_requests_peak']})",
    )
    yield "in progress", status["requests_in_progress"]
    yield (
        "answered",
        f"{status['count_requests_handled']}, {status['req_handling_time_avg_ms']:.4g} ms on average",
    )
    yield "workers", f"{len(states)}{f' ({counts})' if counts else ''}"
    manager = status["manager"]
    if manager and manager["max_workers"]:
        bounds = f"{manager['min_workers']} to {manager['max_workers']}"
        yield "wanted", f"{manager['wanted']} of {bounds}: {manager['because']}"
        if manager["trouble"]:
            yield "trouble", manager["trouble"]


def worker_rows(status: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What each worker says, in `COLUMNS`."""
    return [
        (
            worker["name"], worker["state"], worker["host"], worker["pid"], worker["device"],
            worker["in_flight"], worker["count_requests_handled"], worker["p50"], worker["p99"],
            hit_rate(worker["cache"]), worker["rss_mb"], worker["last_seen_s"], worker["trouble"] or None,
        )
        for worker in status["workers"]
    ]  # fmt: skip


def hit_rate(cache: dict[str, Any]) -> str | None:
    """The share of rows that were remembered; None before any was asked for."""
    asked = cache["hits"] + cache["misses"]
    return f"{cache['hits'] / asked:.0%}" if asked else None
