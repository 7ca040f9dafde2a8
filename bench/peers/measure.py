"""Measures one server that runs: under load, and by one client alone."""

from __future__ import annotations

import resource
import time
from typing import NamedTuple

import psutil

from bench.peers.load import Generator, Load
from bench.peers.plan import Times
from bench.peers.served import Served, count_wrong
from bench.peers.tree import used
from bench.peers.workloads import POOL, inputs

CLIENTS = 32


class Bench(NamedTuple):
    """What every measurement is given."""

    generator: Generator
    times: Times


Figures = dict[str, float]


def load(bench: Bench, server: Served) -> Figures:
    """Reference answers, 32 clients, memory, one client."""
    rows, times = inputs(POOL), bench.times
    wrong = count_wrong(server)
    bench.generator.run(server, rows, clients=CLIENTS, seconds=times.warm_up)
    many, figures = loaded(bench, server, rows, seconds=times.load_of(server.workload))
    memory = server.tree.memory()
    one = bench.generator.run(server, rows, clients=1, seconds=times.alone)
    return figures | {
        "ready": server.ready,
        "wrong": wrong,
        "rss": memory.rss,
        "pss": memory.pss,
        "alone_rate": one.rate,
        "alone_p50": one.p50,
        "alone_p99": one.p99,
        "alone_errors": one.errors,
        "errors": many.errors + one.errors,
    }


def loaded(
    bench: Bench, server: Served, rows: list[str], *, seconds: float, first: int = 0
) -> tuple[Load, Figures]:
    """32 clients, and the CPU that the server's processes and all others took meanwhile."""
    before, busy, own, began = server.tree.cpu(), _busy(), _own(), time.monotonic()
    many = bench.generator.run(server, rows, clients=CLIENTS, seconds=seconds, first=first)
    spent, took = used(before, server.tree.cpu()), time.monotonic() - began
    others = _busy() - busy - spent - (_own() - own)
    return many, {
        "rate": many.rate,
        "p50": many.p50,
        "p99": many.p99,
        "answered": many.answered,
        "errors": many.errors,
        "cpu_per_1000": 1000 * spent / max(1, many.answered),
        "others": max(0.0, others / took),
    }


def _busy() -> float:
    """CPU seconds of this machine that were not idle."""
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice + times.irq + times.softirq)


def _own() -> float:
    """Ours and of the load generators that have ended."""
    whos = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(each.ru_utime + each.ru_stime for each in map(resource.getrusage, whos))
