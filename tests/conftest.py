"""What collaboration tests share: virtual time, and threads that take none of it. A file asks
for it with `pytestmark = pytest.mark.usefixtures("virtual_time")`. And in which order files run.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import outcome
import pytest
import trio
from hypothesis import settings
from trio.testing import MockClock

# How long an example takes says how busy the machine is, and no test here is about that. CI judges a commit,
# so there its examples are the same each time; new ones are looked for everywhere else.
settings.register_profile("untimed", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("untimed")

T = TypeVar("T")


async def _run_here(function: Callable[..., T], *arguments: Any, **_how: Any) -> T:
    await trio.lowlevel.checkpoint_if_cancelled()
    result = function(*arguments)
    await trio.lowlevel.cancel_shielded_checkpoint()
    return result


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Mains that a test calls set it up for their process, which goes on with other tests."""
    root, ours = logging.getLogger(), logging.getLogger("pipeline")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock begins at 0 and jumps whenever nothing can run. It would also jump while a thread runs, so
    none does."""
    monkeypatch.setattr(trio.to_thread, "run_sync", _run_here)
    monkeypatch.setattr(
        trio.lowlevel, "start_thread_soon", lambda function, deliver: deliver(outcome.capture(function))
    )


def _run(main: Callable[..., Awaitable[Any]], *, clock: object, instruments: Sequence[Any]) -> Any:
    return trio.run(main, clock=MockClock(autojump_threshold=0), instruments=instruments)


def _is_async(item: pytest.Function) -> bool:
    return inspect.iscoroutinefunction(item.function)


def _starts_programs(item: pytest.Item) -> bool:
    """Whether its file says so in its first line, where each says at which altitude it tests."""
    return isinstance(item, pytest.Function) and "end to end" in (item.module.__doc__ or "").lower()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # First what takes longest: so at the end no file keeps one process busy when the others are done.
    items.sort(key=lambda item: not _starts_programs(item))
    # pytest-trio takes a clock only from a test's own arguments, where it would stand in every signature.
    for item in items:
        if isinstance(item, pytest.Function) and "virtual_time" in item.fixturenames and _is_async(item):
            item.add_marker(pytest.mark.trio(run=_run), append=False)
