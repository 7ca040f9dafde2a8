"""Waiting for a `concurrent.futures.Future` under asyncio or trio: no thread, no polling.

trio is looked at only where the program has imported it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


async def wait(future: Future[T]) -> T:
    """The future's result; what it raised, it raises. Cancelling this leaves the future alone."""
    if not future.done():
        await (_wait_in_trio if _is_in_trio() else _wait_in_asyncio)(future)
    return future.result()


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Run it in a thread of the event loop's own pool of threads, and wait for its end, even when
    cancelled."""
    if _is_in_trio():
        return await _trio().to_thread.run_sync(function, *arguments)  # type: ignore[no-any-return]
    task = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _trio() -> Any:
    return sys.modules["trio"]


def _is_in_trio() -> bool:
    if "trio" not in sys.modules:
        return False
    try:
        _trio().lowlevel.current_task()
    except RuntimeError:
        return False
    return True


async def _wait_in_trio(future: Future[Any]) -> None:
    trio = _trio()
    token, event = trio.lowlevel.current_trio_token(), trio.Event()

    def tell(_: Future[Any]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(event.set)

    future.add_done_callback(tell)
    await event.wait()


async def _wait_in_asyncio(future: Future[Any]) -> None:
    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    def tell(_: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(event.set)

    future.add_done_callback(tell)
    await event.wait()
