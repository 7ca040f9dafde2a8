"""What the gateway's collaboration tests share: virtual time, and threads that take none of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import trio

T = TypeVar("T")


async def _run_here(function: Callable[..., T], *arguments: Any, **_how: Any) -> T:
    await trio.lowlevel.checkpoint_if_cancelled()
    result = function(*arguments)
    await trio.lowlevel.cancel_shielded_checkpoint()
    return result


@pytest.fixture
def virtual_time(autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumps whenever nothing can run. It would also jump while a thread runs, so none does."""
    monkeypatch.setattr(trio.to_thread, "run_sync", _run_here)
