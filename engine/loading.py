"""Making warm runtimes of models within the memory that there is for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from common.wire import VersionKey
from engine.budget import Tenant
from engine.cost import Meter
from engine.room import Room
from engine.runtimes.formats import detect, import_format, load_runtime
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import Runtime, warm_up, warm_up_with
from engine.runtimes.source import Source, source_size


class Wanted(NamedTuple):
    """A model, and how it is to run. `kind` is its format, None asks the file; `warmup_rows` are run before
    it serves: so many rows of zeros, or these. `finish` makes what serves of its runtime."""

    source: Source
    kind: str | None
    options: LoadOptions
    device: torch.device
    warmup_rows: int | Sequence[Sequence[float]]
    finish: Callable[[Runtime], Runtime] = lambda runtime: runtime


class Loader:
    """Knows what versions took that were loaded, also those that made room for others."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._costs: dict[VersionKey, int] = {}

    @contextlib.contextmanager
    def load(
        self, key: VersionKey, wanted: Wanted, *, staged: bool, beside: Tenant | None
    ) -> Iterator[tuple[Runtime, Tenant]]:
        """A warm runtime, and the room that it has, also afterwards where nothing is raised meanwhile."""
        size = self._expected_cost(key, wanted.source)
        with self._room.reserve(size, staged=staged, beside=beside) as tenant:
            if self._room.limit is None:
                yield wanted.finish(_warm_runtime(wanted)), tenant
                return
            import_format(wanted.kind or detect(wanted.source))  # the library stays when the model goes
            meter = Meter()
            runtime = _warm_runtime(wanted)
            cost = self._costs[key] = meter.cost(runtime, source_size(wanted.source))
            self._room.resize(tenant, cost)
            yield wanted.finish(runtime), tenant

    def forget(self, model: str, version: str) -> None:
        """A version does not come back."""
        for key in [key for key in self._costs if (key.model, key.version) == (model, version)]:
            del self._costs[key]

    def _expected_cost(self, key: VersionKey, source: Source) -> int:
        """What it took when it was loaded before, else its file: what it takes is never less."""
        if self._room.limit is None:
            return 0
        return self._costs.get(key) or source_size(source)


def _warm_runtime(wanted: Wanted) -> Runtime:
    runtime = load_runtime(wanted.source, wanted.kind, wanted.options, wanted.device)
    rows = wanted.warmup_rows
    if not isinstance(rows, int):
        warm_up_with(runtime, rows)
    elif rows > 1:  # one is what every runtime begins with by itself
        warm_up(runtime, rows)
    return runtime
