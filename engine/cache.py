"""PredictionCache: an LRU of one model version's answers that computes equal rows in flight once. Pure.

A key stands for a row's exact bytes (see `rows`), so two rows never share an answer by accident; each
version has a cache of its own, so a late answer of old weights can never be stored under new ones. Results
are never changed by the cache.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

Key = bytes
Value = bytes


class Claim:
    """What a look-up of several rows found, and the flight of those that nobody else computes.

    `values[i]` is row i's answer or None. Whoever made the claim computes every key of `owned` (key → a
    row that has it) and then calls `PredictionCache.fulfil` exactly once; not at all where nothing is owned.
    `waiting` are keys that another claim owns.
    """

    __slots__ = ("_computed", "_landed", "owned", "values", "waiting")

    def __init__(self, values: list[Value | None], owned: dict[Key, int]) -> None:
        self.values = values
        self.owned = owned
        self.waiting: dict[Key, Claim] = {}
        self._computed: dict[Key, Value] = {}
        self._landed: threading.Event | None = None  # made by the first that waits: nearly nobody does

    def wait(self, timeout: float) -> dict[Key, Value]:
        """What the owner computed (keys that failed are not among it); empty if it is not done in time."""
        assert self._landed is not None, "only a claim that names this one in `waiting` waits for it"
        self._landed.wait(timeout)
        return self._computed

    def will_be_awaited(self) -> None:
        """Under the cache's lock, while this claim is in flight."""
        if self._landed is None:
            self._landed = threading.Event()

    def land(self, computed: dict[Key, Value]) -> None:
        """Hand over what was computed to whoever waits."""
        self._computed = computed
        if self._landed is not None:
            self._landed.set()


class PredictionCache:
    """Thread-safe. Invariant: a key is in the entries, or owned by one claim in flight, or in neither."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.hits = 0  # rows that somebody had computed, or was computing
        self.misses = 0  # rows that whoever asked had to compute
        self._entries: OrderedDict[Key, Value] = OrderedDict()
        self._flying: list[Claim] = []  # as many as batches at once, so it is searched faster than a dict
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def claim(self, keys: Sequence[Key], *, again: bool = False) -> Claim:
        """Look all keys up, and take on those that nobody has or computes.

        `again`: the keys were counted by an earlier claim, whose wait for them was in vain.
        """
        entries = self._entries
        with self._lock:
            values = list(map(entries.get, keys))
            owned = {key: i for i, (key, value) in enumerate(zip(keys, values)) if value is None}  # noqa: B905
            claim = Claim(values, owned)
            if len(owned) < len(keys):
                for key, value in zip(keys, values):  # noqa: B905 - strict costs a fifth of this loop
                    if value is not None:
                        entries.move_to_end(key)
            if owned:
                self._share_flights(claim)
            if owned:
                self._flying.append(claim)
            self.hits += (0 if again else len(keys)) - len(owned)
            self.misses += len(owned)
        return claim

    def _share_flights(self, claim: Claim) -> None:
        for other in self._flying:
            for key in claim.owned.keys() & other.owned.keys():
                other.will_be_awaited()
                claim.waiting[key] = other
                del claim.owned[key]

    def fulfil(self, claim: Claim, computed: dict[Key, Value]) -> None:
        """Store what the claim's owner computed, and let go of what it could not compute."""
        with self._lock:
            self._flying.remove(claim)
            entries = self._entries
            surplus = len(computed) - self.capacity
            entries.update(computed if surplus <= 0 else islice(computed.items(), surplus, None))
            for _ in range(len(entries) - self.capacity):
                entries.popitem(last=False)
        claim.land(computed)
