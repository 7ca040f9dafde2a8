"""Frames that carry a number, which comes once, and a seal over it and all of them. Pure."""

from __future__ import annotations

import hmac
import itertools
import threading

from common import wire

_WINDOW = 4096  # how far numbers may overtake each other: a busy thread answers late

QUESTION, ANSWER = b"question", b"answer"


class Session:
    """What two processes have in common once both have proved themselves. Thread-safe."""

    def __init__(self, secret: bytes) -> None:
        self._keyed = {use: hmac.new(hmac_of(secret, use), b"", "sha256") for use in (QUESTION, ANSWER)}
        self._numbers = itertools.count(1)
        self._asked = Window()

    def seal(self, use: bytes, worker: str, frame: bytes, number: int | None = None) -> tuple[int, bytes]:
        """A frame sealed: the number it carries (a new one, for a question), and its bytes."""
        number = next(self._numbers) if number is None else number
        return number, wire.encode(
            wire.Sealed(worker, number, self._mac(use, worker, number, frame)), [frame]
        )

    def fits(self, use: bytes, sealed: wire.Sealed, frame: memoryview) -> bool:
        """Whether the other end sealed this."""
        return hmac.compare_digest(sealed.mac, self._mac(use, sealed.worker, sealed.number, frame))

    def open_question(self, sealed: wire.Sealed, frame: memoryview) -> bool:
        """Whether it is one of the other end's, for the first time."""
        return self.fits(QUESTION, sealed, frame) and self._asked.is_new(sealed.number)

    def _mac(self, use: bytes, worker: str, number: int, frame: bytes | memoryview) -> bytes:
        keyed = self._keyed[use].copy()
        keyed.update(eight_of(number) + len(worker).to_bytes(8, "little") + worker.encode())
        keyed.update(frame)
        return keyed.digest()


class Window:
    """Which numbers came already; of those long before the highest, all did. Thread-safe."""

    def __init__(self) -> None:
        self._highest = 0
        self._seen = 0  # bit i: the one i below the highest
        self._lock = threading.Lock()

    def is_new(self, number: int) -> bool:
        """Whether it came now for the first time."""
        with self._lock:
            ahead = number - self._highest
            if number < 0:
                return False
            if ahead > 0:
                kept = self._seen << ahead if ahead < _WINDOW else 0
                self._seen = (kept | 1) & ((1 << _WINDOW) - 1)
                self._highest = number
                return True
            if -ahead >= _WINDOW or self._seen >> -ahead & 1:
                return False
            self._seen |= 1 << -ahead
            return True


def eight_of(number: int) -> bytes:
    """Any integer of msgpack's, by its bits."""
    return (number % 2**64).to_bytes(8, "little")


def hmac_of(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA256."""
    return hmac.digest(key, data, "sha256")
