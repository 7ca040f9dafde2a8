"""Settings that are read again, as on SIGHUP: what may change at once does, and one line says the rest.

Settings that make no sense change nothing.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Generic, NamedTuple

from common.flags import SettingsError, options_of
from common.log import event
from common.settings import Settings

log = logging.getLogger("pipeline.settings")


class Difference(NamedTuple):
    """A setting that is other than it was, as people write its values."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.name} {self.before} -> {self.after}"


class Reloading(Generic[Settings]):
    """`settings` are those that the process goes by now; `read` reads them anew, and raises `SettingsError`;
    `is_live` says whether a setting can be another one at once, and `change` makes it so."""

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        is_live: Callable[[str, Settings], bool],
        change: Callable[[Collection[str], Settings], None],
    ) -> None:
        self.settings = settings
        self._read = read
        self._is_live = is_live
        self._change = change

    def reload(self) -> None:
        """Read the settings again, and go by them as far as that is possible."""
        try:
            after = self._read()
            found = differences(self.settings, after)
            now = {each.name: getattr(after, each.name) for each in found if self._is_live(each.name, after)}
            settled = dataclasses.replace(self.settings, **now)
        except SettingsError as error:
            event(log, logging.ERROR, "settings stay as they are", because="; ".join(error.mistakes))
            return
        self._change(now.keys(), settled)
        self.settings = settled
        waits = [str(each) for each in found if each.name not in now]
        event(
            log, logging.WARNING if waits else logging.INFO, "settings read again",
            changed=", ".join(str(each) for each in found if each.name in now) or "nothing",
            needs_restart=", ".join(waits) or "nothing",
        )  # fmt: skip


def differences(before: Settings, after: Settings) -> list[Difference]:
    """What differs between two of a process's settings, in their order."""
    cls = type(before)
    pairs = [(name, getattr(before, name), getattr(after, name)) for name in options_of(cls)]
    return [
        Difference(name, shown(cls, name, old), shown(cls, name, new))
        for name, old, new in pairs
        if old != new
    ]


def shown(cls: type[Any], name: str, value: Any) -> str:
    """A value as people write it; `none` where there is none."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ",".join(f"{key}={each:g}" for key, each in value.items())
    return options_of(cls)[name].kind.show(value)
