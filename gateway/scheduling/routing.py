"""Which worker a row belongs to: rendezvous hashing with bounded load. Pure.

Each worker scores each bucket of the key space; a row's workers, best first, are those of its bucket by
falling score (highest random weight: Thaler and Ravishankar, "Using name-based mappings to increase hit
rates", 1998). A worker that comes or goes moves only its own share of the rows. A row leaves its first
worker only while that one is busier than a set factor of the mean ("consistent hashing with bounded
loads", Mirrokni, Thorup and Zadimoghaddam, 2018).
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping

BUCKETS = 4096
BALANCE = 2.0  # a worker may hold this many times the mean before rows go to their second choice
SLACK = 4  # … and never fewer than this many rows, or the first few requests would be spread for nothing


def key_of(buffers: Collection[bytes | bytearray | memoryview]) -> int:
    """A number for a request's input bytes: equal inputs have equal numbers, on every gateway."""
    key = 0
    for buffer in buffers:
        key = zlib.crc32(buffer, key)
    return key


class Preferences:
    """Every bucket's workers, best first; worked out when first asked for, forgotten when workers change."""

    def __init__(self) -> None:
        self._workers: tuple[str, ...] = ()
        self._orders: dict[int, tuple[str, ...]] = {}

    def set_workers(self, workers: Collection[str]) -> None:
        """Route over exactly these workers from now on."""
        self._workers = tuple(sorted(workers))
        self._orders.clear()

    def order(self, key: int) -> tuple[str, ...]:
        """The workers of a key's bucket, best first."""
        bucket = key % BUCKETS
        order = self._orders.get(bucket)
        if order is None:
            seed = bucket.to_bytes(4, "little")
            order = tuple(sorted(self._workers, key=lambda w: score(w, seed), reverse=True))
            self._orders[bucket] = order
        return order


def score(worker: str, seed: bytes) -> int:
    """How much a worker is the one for what `seed` stands for: the highest of all workers' scores has it."""
    # CRC-32 alone is linear: workers whose ids differ would all rank buckets by one rotated pattern. The
    # multiplication (Knuth's 2^32 / golden ratio) breaks that.
    mixed = zlib.crc32(seed, zlib.crc32(worker.encode())) * 2654435761 & 0xFFFFFFFF
    return (mixed ^ mixed >> 15) * 2246822519 & 0xFFFFFFFF


def choose(order: tuple[str, ...], loads: Mapping[str, int], rows: int, total: int) -> str:
    """The first worker of `order` with room for `rows` more; the least busy one when none has.

    `loads` is rows waiting for or running at each worker, `total` their sum over all of them.
    """
    limit = max(SLACK, BALANCE * (total + rows) / len(order))
    for worker in order:
        if loads[worker] + rows <= limit:
            return worker
    return least_busy(order, loads)


def least_busy(workers: Collection[str], loads: Mapping[str, int]) -> str:
    """The worker with the fewest rows; the first named of equals."""
    return min(workers, key=loads.__getitem__)
