"""Which local workers outlive the gateway: a file beside its state, for the next one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import msgspec

from common.log import event
from common.processes import start_time

log = logging.getLogger("pipeline.launcher")


class Record(NamedTuple):
    """A worker's process, and when that started, in ticks since the machine did."""

    id: str
    pid: int
    started: int


class Records:
    """Without a path nothing is remembered."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self) -> list[Record]:
        """The workers that were written down and run."""
        try:
            data = self._path.read_bytes() if self._path is not None else b"[]"
            records = msgspec.json.decode(data, type=list[Record])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            event(log, logging.ERROR, "who was kept cannot be read", file=self._path, error=error)
            return []
        return [each for each in records if start_time(each.pid) == each.started]

    def write(self, records: list[Record]) -> None:
        """Write these down in place of what was there."""
        if self._path is None:
            return
        new = self._path.with_suffix(".new")
        try:
            new.write_bytes(msgspec.json.encode(records))
            new.replace(self._path)
        except OSError as error:  # the next gateway starts others in their place, and these are told to leave
            event(log, logging.ERROR, "who is kept cannot be written down", file=self._path, error=error)
