"""A turn that one takes alone, or several take together: changes of what serves, and workers that are brought
up to date meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Turn:
    """`async with turn` waits until nobody has it, `async with turn.shared()` until nobody has it alone.
    First come, first served: whoever waits for it alone is not overtaken by those who would share it.

    Nothing is awaited on the way out, so what was found out in a turn still holds right after it.
    """

    def __init__(self) -> None:
        self._door = trio.Lock()  # held while somebody has the turn alone, or waits for those who share it
        self._sharing = 0
        self._left = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        await self._door.acquire()
        try:
            while self._sharing:
                await self._left.park()
        except BaseException:
            self._door.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._door.release()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Take it together with others who do."""
        async with self._door:
            self._sharing += 1
        try:
            yield
        finally:
            self._sharing -= 1
            if not self._sharing:
                self._left.unpark_all()
