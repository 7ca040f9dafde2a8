"""Which arm of an experiment a key belongs to, and how to change the weights so that few keys move. Pure.

A key is hashed to one of a fixed number of buckets; each bucket belongs to one arm.

1. The weights say how many buckets each arm has (largest remainder).
2. When weights change, an arm that has too many gives up what is over, and those that have too few take it.
   Nothing else moves, which is as little as can be: half the sum of the changes.
3. An arm gives up first what it took last, so that going up and back again is where it began.

What an arm has depends on the changes so far and not on the weights alone (no function of the weights can
move as little, with three arms), so whoever keeps an experiment keeps its split.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

BUCKETS = 10_000  # one is a hundredth of a percent

Run = tuple[int, int]  # buckets one after the other: the first and the last, which may be the lower one


class Split:
    """Every bucket belongs to exactly one arm. Immutable: `changed` gives another.

    `runs` is each arm's buckets in the order it took them.
    """

    def __init__(self, runs: Mapping[str, Sequence[Run]]) -> None:
        self.runs = {arm: tuple(runs[arm]) for arm in sorted(runs)}
        table = [""] * BUCKETS
        count = 0
        for arm, taken in self.runs.items():
            for bucket in _buckets(taken):
                if not 0 <= bucket < BUCKETS:
                    raise ValueError(f"a bucket is from 0 to {BUCKETS - 1}, not {bucket}")
                table[bucket] = arm
                count += 1
        if count != BUCKETS or "" in table:
            raise ValueError("each bucket should belong to one arm")
        self._table = table

    @classmethod
    def new(cls, weights: Mapping[str, float]) -> Split:
        """The split of an experiment that begins; `ValueError` for weights that are none (`counts_of`)."""
        runs: dict[str, list[Run]] = {}
        at = 0
        for arm, count in counts_of(weights).items():
            runs[arm] = [(at, at + count - 1)] if count else []
            at += count
        return cls(runs)

    def changed(self, weights: Mapping[str, float]) -> Split:
        """The split by other weights, or other arms, that differs in as few buckets as can be."""
        counts = counts_of(weights)
        stacks = {arm: _buckets(runs) for arm, runs in self.runs.items()}
        free: list[int] = []
        for arm, stack in stacks.items():
            keeps = counts.get(arm, 0)
            free += reversed(stack[keeps:])
            del stack[keeps:]
        at = 0
        for arm, count in counts.items():
            stack = stacks.setdefault(arm, [])
            lacks = count - len(stack)
            stack += free[at : at + lacks]
            at += lacks
        return Split({arm: _runs(stacks[arm]) for arm in counts})

    def arm(self, bucket: int) -> str:
        """Whose a bucket is."""
        return self._table[bucket]

    def count(self, arm: str) -> int:
        """How many buckets an arm has."""
        return sum(abs(last - first) + 1 for first, last in self.runs.get(arm, ()))


def bucket_of(experiment: str, key: str) -> int:
    """The bucket of a key, the same on every machine, and independent between experiments.

    A 64-bit BLAKE2b of both; its upper part as a fraction of all buckets, so that none is likelier by more
    than one part in 10^15.
    """
    text = f"{experiment}\0{key}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest, "big") * BUCKETS >> 64


def counts_of(weights: Mapping[str, float]) -> dict[str, int]:
    """Buckets of each arm, by its part of all the weight (largest remainder; of equals the first by name).

    An arm of weight 0 has none, any other at least one. `ValueError`, with a sentence, for weights that are
    negative, not finite, all 0, or less than a bucket's part.
    """
    for arm, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"the weight of {arm} should be a number of 0 or more, not {weight}")
    largest = max(weights.values(), default=0)
    if largest == 0:
        raise ValueError("one arm at least should have a weight above 0")
    scaled = {arm: weights[arm] / largest for arm in sorted(weights)}  # their sum would overflow otherwise
    total = math.fsum(scaled.values())
    exact = {arm: weight / total * BUCKETS for arm, weight in scaled.items()}
    for arm, part in exact.items():
        if weights[arm] > 0 and part < 1:
            raise ValueError(f"the weight of {arm} is below a {BUCKETS}th of all: give it more, or 0")
    counts = {arm: math.floor(part) for arm, part in exact.items()}
    order = sorted(exact, key=lambda arm: (counts[arm] - exact[arm], arm))
    for arm in order[: BUCKETS - sum(counts.values())]:
        counts[arm] += 1
    return counts


def _buckets(runs: Sequence[Run]) -> list[int]:
    """Every bucket of runs, in their order."""
    buckets: list[int] = []
    for first, last in runs:
        if max(abs(first), abs(last)) > BUCKETS:
            raise ValueError(f"a bucket is from 0 to {BUCKETS - 1}, not {first} or {last}")
        step = 1 if first <= last else -1
        buckets += range(first, last + step, step)
    return buckets


def _runs(buckets: Sequence[int]) -> list[Run]:
    """The same buckets in the same order, in as few runs as can be."""
    runs: list[Run] = []
    for bucket in buckets:
        if runs:
            first, last = runs[-1]
            step = bucket - last
            if abs(step) == 1 and (first == last or (last > first) == (step > 0)):
                runs[-1] = (first, bucket)
                continue
        runs.append((bucket, bucket))
    return runs
