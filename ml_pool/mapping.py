"""Results in order, a bounded number of jobs at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future
from typing import Any


def map_in_order(
    submit: Callable[[Any], Future[Any]],
    values: Iterable[Any],
    window: int,
    on_progress: Callable[[int, int | None], object] | None,
) -> Iterator[Any]:
    """Yield each value's result; jobs that nobody will take any more are cancelled."""
    total = len(values) if isinstance(values, Sized) else None
    source = iter(values)
    futures: deque[Future[Any]] = deque()
    taken = 0
    try:
        while True:
            while len(futures) < window:
                try:
                    value = next(source)
                except StopIteration:
                    break
                futures.append(submit(value))
            if not futures:
                return
            result = futures[0].result()
            futures.popleft()
            taken += 1
            if on_progress is not None:
                on_progress(taken, total)
            yield result
            del result  # it is the caller's: a large one is not kept here
    finally:
        for future in futures:
            future.cancel()
