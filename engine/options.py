"""How one model version is served: batches, queue and cache."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import Any

from engine.cache import PredictionCache
from engine.combining import RequestQueue

CACHE_SIZE = 10_000
CACHE_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class ServingOptions:
    """`batch_size`: rows that the model is given at once, at most.
    `max_wait_time`: seconds that a batch which is not full waits for more rows. 0 waits for nobody: what
    comes while a batch runs is the next one.
    `max_queue_size`: requests that wait, at most.
    `cache_size`: rows whose answers are remembered; 0 for a model whose answers may differ for equal rows.
    `cache_bytes`: what these may take; None: no matter.
    `round_decimals`: digits after the point that the model is given of floats; None: all of them.
    """

    batch_size: int = 32
    max_wait_time: float = 0.0
    max_queue_size: int = 1000
    cache_size: int = CACHE_SIZE
    cache_bytes: int | None = CACHE_BYTES
    round_decimals: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}, and has to be at least 1")
        if not 0 <= self.max_wait_time < threading.TIMEOUT_MAX:
            raise ValueError(f"max_wait_time is {self.max_wait_time}, and has to be 0 or more seconds")
        if self.max_queue_size < 1:
            raise ValueError(f"max_queue_size is {self.max_queue_size}, and has to be at least 1")
        self.make_cache()

    def replaced(self, options: Mapping[str, Any]) -> ServingOptions:
        """These with other values; `TypeError` for what is no option."""
        unknown = sorted(options.keys() - {field.name for field in dataclasses.fields(self)})
        if unknown:
            raise TypeError(f"load_model has no option {', '.join(unknown)}")
        return dataclasses.replace(self, **options)

    def make_cache(self) -> PredictionCache:
        """An empty cache; `ValueError` where it could hold nothing meant."""
        return PredictionCache(
            self.cache_size, max_bytes=self.cache_bytes, round_decimals=self.round_decimals
        )

    def make_queue(self) -> RequestQueue:
        """An empty queue."""
        return RequestQueue(
            batch_size=self.batch_size, max_wait=self.max_wait_time, max_size=self.max_queue_size
        )
