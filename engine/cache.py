"""PredictionCache: an LRU of one model version's answers that computes equal rows in flight once. Pure.

A key stands for a row's exact bytes (see `rows`), so two rows never share an answer by accident; each
version has a cache of its own, so a late answer of old weights can never be stored under new ones. Results
are never changed by the cache, unless it was told to round.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import torch

from engine.rounding import round_tensor

Key = bytes
Value = bytes

TensorModel = Callable[[torch.Tensor], torch.Tensor]

# What an entry takes beside the bytes of its key and its value: the heads of two bytes objects, its place in
# the dict and that in its order (measured with tracemalloc, CPython 3.11: 141 to 171).
ENTRY_BYTES = 170


class CacheFigures(NamedTuple):
    """What caches hold now, and what they did since the worker started: of `hits`, `coalesced` waited for
    somebody who was computing the row; `evicted` entries made room, `forgotten` ones went with their
    weights."""

    size: int = 0
    capacity: int = 0
    hits: int = 0
    misses: int = 0
    bytes: int = 0
    coalesced: int = 0
    evicted: int = 0
    forgotten: int = 0

    def of_past(self) -> CacheFigures:
        """The same of caches that are gone: all that they held went with them."""
        return self._replace(size=0, capacity=0, bytes=0, forgotten=self.forgotten + self.size)

    def plus(self, other: CacheFigures) -> CacheFigures:
        """Both together."""
        return CacheFigures(*[sum(pair) for pair in zip(self, other, strict=True)])


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
    """Thread-safe. Invariant: a key is in the entries, or owned by one claim in flight, or in neither.

    Holds at most `capacity` entries, and at most `max_bytes` of keys, values and what holds them. With
    `round_decimals` set, input rows are rounded as `torch.round(decimals=…)` does before they are looked up
    or run: the model sees the rounded row, and rows that are equal then share an answer.

    `claim` and `fulfil` are for rows; `Predict` is for whole tensors, which `model` answers.
    """

    def __init__(
        self,
        capacity: int,
        *,
        max_bytes: int | None = None,
        round_decimals: int | None = None,
        model: TensorModel | None = None,
    ) -> None:
        if capacity < 0 or (max_bytes is not None and max_bytes < 0):
            raise ValueError(f"a cache cannot hold {capacity} entries in {max_bytes} bytes: give 0 or more")
        self.capacity = capacity
        self.max_bytes = max_bytes
        self.round_decimals = round_decimals
        self.hits = 0  # rows that somebody had computed, or was computing
        self.misses = 0  # rows that whoever asked had to compute
        self.coalesced = 0  # of the hits, rows that somebody was computing
        self.evictions = 0  # entries that made room for others
        self.forgotten = 0  # entries that went with their weights
        self.size_bytes = 0  # of all entries, as `max_bytes` counts them
        self._model = model
        self._entries: OrderedDict[Key, Value] = OrderedDict()
        self._flying: list[Claim] = []  # as many as batches at once, so it is searched faster than a dict
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def peek(self, key: Key) -> Value | None:
        """A row's answer where it is there; that counts as a hit, and None does not count: claim it then."""
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
                self.hits += 1
        return value

    def peek_whole(self, keys: Sequence[Key], counts: Sequence[int]) -> list[Value | None]:
        """As `peek`, for requests of so many rows each: where one of them is not there all are None, and none
        counts."""
        with self._lock:
            values = list(map(self._entries.get, keys))
            at = 0
            for count in counts:
                if None in values[at : at + count]:
                    values[at : at + count] = [None] * count
                else:
                    for key in keys[at : at + count]:
                        self._entries.move_to_end(key)
                    self.hits += count
                at += count
        return values

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
            self.coalesced += 0 if again else len(claim.waiting)
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
            if claim in self._flying:  # else it was invalidated meanwhile
                self._flying.remove(claim)
                if self.capacity and computed:
                    self._store(computed)
        claim.land(computed)

    def _store(self, computed: dict[Key, Value]) -> None:
        entries = self._entries
        entries.update(computed)
        size = ENTRY_BYTES * len(computed) + sum(map(len, computed)) + sum(map(len, computed.values()))
        self.size_bytes += size
        limit = self.size_bytes if self.max_bytes is None else self.max_bytes
        while len(entries) > self.capacity or self.size_bytes > limit:
            key, value = entries.popitem(last=False)
            self.size_bytes -= ENTRY_BYTES + len(key) + len(value)
            self.evictions += 1

    def invalidate(self) -> None:
        """Forget everything, also what is being computed now: those who wait for it get it, nobody later."""
        with self._lock:
            self._forget()

    def use(self, model: TensorModel) -> None:
        """Have `Predict` ask this model from now on: whoever asks after this gets no answer of another."""
        with self._lock:
            self._model = model
            self._forget()

    def figures(self) -> CacheFigures:
        """What it holds and did."""
        with self._lock:
            return CacheFigures(
                len(self._entries), self.capacity, self.hits, self.misses, self.size_bytes, self.coalesced,
                self.evictions, self.forgotten,
            )  # fmt: skip

    def _forget(self) -> None:
        self.forgotten += len(self._entries)
        self._entries.clear()
        self._flying.clear()
        self.size_bytes = 0

    def Predict(self, X: torch.Tensor) -> tuple[torch.Tensor, bool]:  # noqa: N802, N803 - server.py's contract
        """(`model(X)`, whether it was known): a CPU tensor of any shape and dtype, looked up as a whole.

        Equal tensors asked for at once are computed once. The answer is the caller's own, to change at will.
        Raises what the model raises, and remembers no failure.
        """
        rounded = round_tensor(X.detach(), self.round_decimals)
        key = _tensor_key(rounded)
        claim = self.claim([key])
        while claim.waiting:
            known = claim.waiting[key].wait(threading.TIMEOUT_MAX).get(key)
            if known is not None:
                return _unpacked(known), True
            claim = self.claim([key], again=True)
        known = claim.values[0]
        if known is not None:
            return _unpacked(known), True
        computed: dict[Key, Value] = {}
        try:
            # Only now: a model that is replaced before the claim must not answer under its successor.
            if self._model is None:
                raise RuntimeError("this cache was given no model: Predict needs one")
            computed[key] = _packed(self._model(rounded))
        finally:
            self.fulfil(claim, computed)
        return _unpacked(computed[key]), False


def _tensor_key(tensor: torch.Tensor) -> Key:
    digest = hashlib.blake2b(repr((tensor.dtype, tuple(tensor.shape))).encode(), digest_size=16)
    digest.update(_raw(tensor))
    return digest.digest()


def _packed(tensor: torch.Tensor) -> Value:
    name = str(tensor.dtype).removeprefix("torch.")
    return msgspec.msgpack.encode((name, tuple(tensor.shape), _raw(tensor)))


def _unpacked(value: Value) -> torch.Tensor:
    name, shape, data = msgspec.msgpack.decode(value, type=tuple[str, tuple[int, ...], bytearray])
    dtype = getattr(torch, name)
    flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    return flat.reshape(shape)


def _raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
