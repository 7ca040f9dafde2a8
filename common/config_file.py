"""A file of settings: TOML with a table for each group of a program's flags.

    [limits]
    queue_max = 5000

What a value means, and whether it makes sense, is the flag's own; here is where each stands.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from common import toml
from common.flags import AMOUNTS, GROUPS, Option, SettingsError, options_of
from common.given import FROM_FILE, Given
from common.model_file import MAX_CHARACTERS, find_line, not_toml

Groups = Mapping[str, Mapping[str, Option]]

_NEVER = "config"  # a file names no other


class ConfigFile(NamedTuple):
    """What a file gives: settings by name, the tables that are not of settings, and what is wrong with it."""

    given: Mapping[str, Given]
    tables: Mapping[str, dict[str, Any]]
    mistakes: list[str]


def read_config_file(cls: type[Any], path: Path, tables: Collection[str] = ()) -> ConfigFile:
    """What a file says of a program's settings. `tables` are those that may stand beside them.

    Raises `SettingsError` for a file that cannot be read or is no TOML.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise SettingsError([f"{path} cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{path}:1: this is not TOML: it is not UTF-8"]) from None
    if len(text) > MAX_CHARACTERS:
        raise SettingsError([f"{path}:1: this is longer than {MAX_CHARACTERS} characters"])
    try:
        said = toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise SettingsError([f"{path}:{not_toml(str(error), text)}"]) from None
    except RecursionError:
        raise SettingsError([f"{path}:1: this is not TOML: it is nested too deeply"]) from None
    given: dict[str, Given] = {}
    mistakes: list[tuple[int, str]] = []
    groups = _groups(cls)
    for group, name, value in _entries(said, groups, tables):
        line = find_line(text, (group,) if name is None else (group, name))
        sentence = _mistake(group, name, value, groups, tables)
        if sentence:
            mistakes.append((line, f"{path}:{line}: {sentence}"))
        elif name is not None:
            given[name] = Given(_text(value), f"{path}:{line}: {name}", FROM_FILE, f"{path}:{line}")
    others = {name: said[name] for name in tables if isinstance(said.get(name), dict)}
    return ConfigFile(given, others, [sentence for _, sentence in sorted(mistakes)])


def _entries(
    said: Mapping[str, Any], groups: Groups, tables: Collection[str]
) -> Iterator[tuple[str, str | None, Any]]:
    """(table, key, value) of every setting; without a key for what is none, or a table that nobody knows."""
    for group, table in said.items():
        if group in tables and isinstance(table, dict):
            continue
        if not isinstance(table, dict) or not table or group not in groups:
            yield group, None, table
        else:
            yield from ((group, name, value) for name, value in table.items())


def _mistake(group: str, name: str | None, value: Any, groups: Groups, tables: Collection[str]) -> str:
    """What is wrong with one key; nothing if nothing is."""
    if name is None and not isinstance(value, dict):
        return f"{group} stands in no table: there are {', '.join([*tables, *groups])}"
    if group not in groups:
        return f"there is no table [{group}]{_hint(group, [*tables, *groups])}"
    if name is None:
        return ""
    if name not in groups[group]:
        return f"there is no {name} in [{group}]{_elsewhere(name, groups) or _hint(name, groups[group])}"
    parts = value.values() if groups[group][name].kind is AMOUNTS and isinstance(value, dict) else [value]
    items = [item for part in parts for item in (part if isinstance(part, list) else [part])]
    if any(isinstance(item, dict | list) for item in items):
        return f"{name} in [{group}] should be one value, not a table"
    return ""


def _text(value: Any) -> str:
    """A value as a flag would have it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(map(_text, value))
    if isinstance(value, dict):
        return ",".join(f"{name}={_text(each)}" for name, each in value.items())
    return str(value)


def _groups(cls: type[Any]) -> Groups:
    options = {name: each for name, each in options_of(cls).items() if each.help and name != _NEVER}
    groups = {
        group: {name: each for name, each in options.items() if each.group == group} for group in GROUPS
    }
    return {group: named for group, named in groups.items() if named}


def _elsewhere(name: str, groups: Groups) -> str:
    return next((f": it is in [{group}]" for group, names in groups.items() if name in names), "")


def _hint(key: str, allowed: Iterable[str]) -> str:
    allowed = list(allowed)
    near = difflib.get_close_matches(key.lower().replace("-", "_"), allowed, 1)
    return (f": did you mean {near[0]}? " if near else ": ") + f"Allowed are {', '.join(allowed)}"
