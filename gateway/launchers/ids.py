"""The ids of workers that a launcher starts: `SERVICE-SLOT.INCARNATION`, as `pipeline-3.1795278459123`.

Pure. A slot is a place in the fleet: `pipeline-3` is the worker's name. Of two workers in one slot (an engine
gave one up, and the network brought it back) the newest incarnation is the one that counts, so incarnations
grow: they are the milliseconds of the clock, or one more than the last that is known.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from gateway.launchers.launcher import Launched, LaunchState

_ID = re.compile(r"(?P<service>.+)-(?P<slot>\d{1,9})\.(?P<incarnation>\d{1,18})", re.ASCII)


class WorkerId(NamedTuple):
    """An id, taken apart."""

    service: str
    slot: int
    incarnation: int

    @property
    def name(self) -> str:
        """What people call the worker."""
        return f"{self.service}-{self.slot}"

    def __str__(self) -> str:
        return f"{self.name}.{self.incarnation}"


def parse_id(text: str) -> WorkerId | None:
    """An id's parts; None for what no launcher of ours made."""
    match = _ID.fullmatch(text)
    return WorkerId(match["service"], int(match["slot"]), int(match["incarnation"])) if match else None


def fresh_ids(n: int, service: str, known: dict[str, Launched], now: float) -> list[WorkerId]:
    """n ids in the lowest slots that are free, of incarnations after all that are known. `now` is the time of
    day, in seconds since 1970."""
    ids = {each: parse_id(each) for each in known}
    ours = {text: each for text, each in ids.items() if each is not None and each.service == service}
    taken = {each.slot for text, each in ours.items() if known[text].state is not LaunchState.GONE}
    incarnation = max([int(now * 1000), *(each.incarnation + 1 for each in ours.values())])
    return [WorkerId(service, slot, incarnation) for slot in _lowest(n, taken)]


def _lowest(n: int, taken: Collection[int]) -> list[int]:
    free: list[int] = []
    slot = 0
    while len(free) < n:
        if slot not in taken:
            free.append(slot)
        slot += 1
    return free
