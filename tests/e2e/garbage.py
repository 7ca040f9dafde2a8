"""What fuzzing sends: random bytes, and real frames that were damaged. Seeded by whoever asks."""

from __future__ import annotations

import random

from common import wire
from common.errors import WireError


def nonsense(chance: random.Random) -> bytes:
    """Random bytes of any length from none to some thousands."""
    return chance.randbytes(int(2 ** chance.uniform(0, 13)) - 1)


def mutated(chance: random.Random, frame: bytes) -> bytes:
    """A real frame with a few bytes changed, added, left out, doubled or cut off."""
    raw = bytearray(frame)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(raw) + 1)
        change = chance.randrange(5)
        if change == 0 and at < len(raw):
            raw[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            raw[at:at] = chance.randbytes(chance.randint(1, 9))
        elif change == 2:
            del raw[at : at + chance.randint(1, 9)]
        elif change == 3:
            raw += raw[at:]
        else:
            del raw[at:]
    return bytes(raw)


def is_frame(raw: bytes) -> bool:
    """Whether it decodes, whatever it says."""
    try:
        wire.decode(raw)
    except WireError:
        return False
    return True
