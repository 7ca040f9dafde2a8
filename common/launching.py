"""What a gateway and the fork server of its local workers say to each other, in frames of `common.channel`.
Pure."""

from __future__ import annotations

import enum

import msgspec


class Kind(enum.IntEnum):
    """What a frame is about; its body is the struct of that name."""

    FORK = (
        1  # to the fork server; with a descriptor whose end is the worker's, unless that outlives the gateway
    )
    FORKED = 2
    ENDED = 3


class Fork(msgspec.Struct, frozen=True):
    """Start a worker, by the flags of `worker.py`."""

    id: str
    arguments: list[str]
    environment: dict[str, str]


class Forked(msgspec.Struct, frozen=True):
    """Its process, and when that started (`processes.start_time`)."""

    id: str
    pid: int
    started: int


class Ended(msgspec.Struct, frozen=True):
    """It has ended, or could not be started."""

    id: str
    how: str
