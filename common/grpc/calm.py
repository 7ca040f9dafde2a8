"""How often a client may do what costs it nothing. Pure."""

from __future__ import annotations

from common.grpc.events import ProtocolError
from common.grpc.frames import Code


class Calm:
    """Counts what is rightly done now and then, and is an attack when done all the time: streams that are
    given up or refused (CVE-2023-44487), empty frames, new settings; at most `most` in `period` seconds."""

    def __init__(self, most: int, period: float) -> None:
        self._most = most
        self._period = period
        self._since = 0.0
        self._count = 0

    def count(self, now: float, times: int = 1) -> None:
        """It was done again; `ProtocolError` where that is too often."""
        if now - self._since >= self._period:
            self._since, self._count = now, 0
        self._count += times
        if self._count > self._most:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, "too much is begun, given up, set or left empty")
