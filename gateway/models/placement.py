"""Which workers hold which model. Pure.

A model may be limited to so many instances, and a worker to models whose names fit its patterns. The workers
of a model are the best of those that may hold it by rendezvous hashing (see `routing`): a worker that comes
or goes moves only what it takes or leaves.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from gateway.scheduling.routing import score


def may_hold(model: str, patterns: Collection[str]) -> bool:
    """Whether a worker with these name patterns (shell style; none at all: everything) may hold a model."""
    return not patterns or any(fnmatchcase(model, pattern) for pattern in patterns)


def place(model: str, instances: int | None, workers: Mapping[str, Collection[str]]) -> frozenset[str]:
    """The workers that should hold a model: all that may, or the best `instances` of them.

    `workers` are patterns by worker id. Fewer than `instances` where there are not as many.
    """
    fit = [worker for worker, patterns in workers.items() if may_hold(model, patterns)]
    if instances is None or len(fit) <= instances:
        return frozenset(fit)
    seed = zlib.crc32(model.encode()).to_bytes(4, "little")
    fit.sort(key=lambda worker: (score(worker, seed), worker), reverse=True)
    return frozenset(fit[:instances])
