"""PredictionCache: an LRU of one model version's answers that computes equal rows in flight once. Pure.

A row's key is its exact bytes where they are short, and a 128-bit digest where they are not, so two rows
never share an answer by accident; each version has a cache of its own, so a late answer of old weights
can never be stored under new ones. Results are never changed by the cache.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

EXACT_KEY_BYTES = 64
FLIGHT_TIMEOUT = 60.0  # how long a row waits for another batch's computation before it is computed anew

Key = bytes
Value = bytes


class Flight:
    """Rows being computed now by one caller; others who need them wait for it instead."""

    __slots__ = ("_landed", "values")

    def __init__(self) -> None:
        self._landed = threading.Event()
        self.values: dict[Key, Value] = {}

    def land(self, values: dict[Key, Value]) -> None:
        """Hand the values to whoever waits. Keys that failed are not among them."""
        self.values = values
        self._landed.set()

    def wait(self) -> dict[Key, Value]:
        """The values, when the flight has landed; empty if it never does."""
        self._landed.wait(FLIGHT_TIMEOUT)
        return self.values


class Claim:
    """What a look-up of several rows found.

    `values[i]` is row i's answer or None. The caller must compute every key of `owned` and then call
    `PredictionCache.fulfil` exactly once; `waiting` are keys that another caller is computing.
    """

    __slots__ = ("flight", "owned", "values", "waiting")

    def __init__(self, values: list[Value | None]) -> None:
        self.values = values
        self.flight = Flight()
        self.owned: dict[Key, int] = {}  # key → first row that has it
        self.waiting: dict[Key, Flight] = {}


class PredictionCache:
    """Thread-safe. Invariant: a key is in the entries, or in flight, or in neither; never in both."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.hits = 0  # rows answered without being computed for their own sake
        self.misses = 0  # rows that had to be computed
        self._entries: OrderedDict[Key, Value] = OrderedDict()
        self._flying: dict[Key, Flight] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def claim(self, keys: Sequence[Key]) -> Claim:
        """Look all keys up, and take on those that nobody has or computes."""
        claim = Claim([None] * len(keys))
        values, owned, waiting, flight = claim.values, claim.owned, claim.waiting, claim.flight
        entries, flying = self._entries, self._flying
        with self._lock:
            for i, key in enumerate(keys):
                value = entries.get(key)
                if value is not None:
                    entries.move_to_end(key)
                    values[i] = value
                elif (other := flying.get(key)) is None:
                    flying[key] = flight
                    owned[key] = i
                elif other is not flight:
                    waiting[key] = other
            self.hits += len(keys) - len(owned)
            self.misses += len(owned)
        return claim

    def fulfil(self, claim: Claim, values: dict[Key, Value]) -> None:
        """Store what the claim's owner computed, and let go of what it could not compute."""
        with self._lock:
            for key in claim.owned:
                self._flying.pop(key, None)
            if self.capacity:
                self._entries.update(values)
                while len(self._entries) > self.capacity:
                    self._entries.popitem(last=False)
        claim.flight.land(values)


def row_keys(buffers: Sequence[bytes], row_bytes: Sequence[int], rows: int, signature: bytes) -> list[Key]:
    """The key of each row of a request's inputs.

    `signature` tells apart rows of equal bytes and other shape. `row_bytes[k]` is input k's bytes per row.
    """
    if len(buffers) == 1:
        data, width = buffers[0], row_bytes[0]
        keys = [signature + data[i : i + width] for i in range(0, rows * width, width)]
    else:
        keys = [
            signature + b"".join(b[i * w : (i + 1) * w] for b, w in zip(buffers, row_bytes, strict=True))
            for i in range(rows)
        ]
    if keys and len(keys[0]) > EXACT_KEY_BYTES:
        return [hashlib.blake2b(key, digest_size=16).digest() for key in keys]
    return keys
