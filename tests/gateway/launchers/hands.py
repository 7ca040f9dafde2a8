"""What the contract's tests are given of each launcher."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from gateway.launchers.launcher import Launcher, WorkerSpec


class Hands(NamedTuple):
    """A launcher, what its workers are, how to kill one behind its back, and how to open it again as after a
    restart of the gateway, where workers survive that."""

    launcher: Launcher
    spec: WorkerSpec
    kill: Callable[[str], None]
    again: Callable[[], AbstractAsyncContextManager[Launcher]] | None = None
    patience: float = 30.0
