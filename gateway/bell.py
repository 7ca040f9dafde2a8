"""A bell: whoever notices something rings it, and who waits looks at everything."""

from __future__ import annotations

import trio


class Bell:
    """Rung by whoever notices something; a ring while nobody listens is kept for the next who does."""

    def __init__(self) -> None:
        self._rung = trio.Event()

    def ring(self) -> None:
        """Wake who waits, or will."""
        self._rung.set()

    async def wait(self) -> None:
        """Until it was rung since the last time."""
        await self._rung.wait()
        self._rung = trio.Event()
