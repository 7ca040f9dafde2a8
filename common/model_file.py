"""`model.toml`, or JSON of its keys, to settings. Every mistake is a sentence with what is allowed. Pure.

What the settings are, and their limits, stands in `models`; here is how they are read from text.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from common import toml
from common.media import Options
from common.models import MAX_LABEL, MAX_LABELS, ModelInput, ModelSettings

MAX_CHARACTERS = 262_144  # a thousand labels take a tenth of it
SHOWN = 60

_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")

Path = tuple[str | int, ...]


class ModelSettingsError(ValueError):
    """Raised when settings cannot be used; `mistakes` holds every sentence, the message all of them."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class Mistake(NamedTuple):
    """What is wrong, and the way to the key that it is about."""

    path: Path
    sentence: str


def read_model_settings(text: str, *, file: str) -> ModelSettings:
    """The settings that the text of a `model.toml` gives; `file` is what sentences call it.

    Raises `ModelSettingsError` with a sentence for every mistake, in the order of their lines, like
    `models/iris/model.toml:7: max_batch should be a whole number from 1 to 65536, not "many"`.
    """
    if len(text) > MAX_CHARACTERS:
        raise ModelSettingsError([f"{file}:1: this is longer than {MAX_CHARACTERS} characters"])
    try:
        table = toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise ModelSettingsError([f"{file}:{not_toml(str(error), text)}"]) from None
    except RecursionError:
        raise ModelSettingsError([f"{file}:1: this is not TOML: it is nested too deeply"]) from None
    mistakes = list(_find_mistakes(ModelSettings, table, ()))
    if mistakes:
        placed = sorted((find_line(text, path), sentence) for path, sentence in mistakes)
        raise ModelSettingsError([f"{file}:{line}: {sentence}" for line, sentence in placed])
    return msgspec.convert(table, ModelSettings)


def settings_of(table: Mapping[str, Any]) -> ModelSettings:
    """The settings that a table of them says, as read from JSON; those it leaves out are the defaults.

    Raises `ModelSettingsError` with a sentence for every mistake.
    """
    mistakes = list(_find_mistakes(ModelSettings, table, ()))
    if mistakes:
        raise ModelSettingsError([each.sentence for each in mistakes])
    return msgspec.convert(table, ModelSettings)


def read_labels(text: bytes, *, file: str) -> tuple[str, ...]:
    """What the lines of a labels file say, the first one of class 0; empty lines at its end are none.

    Raises `ModelSettingsError` with a sentence like `models/digits/labels.txt:7: …`.
    """
    try:
        labels = text.decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ModelSettingsError([f"{file}:{line}: this is not UTF-8 text"]) from None
    if len(labels) > MAX_LABELS:
        raise ModelSettingsError(
            [f"{file}:1: there are {len(labels)} labels: at most {MAX_LABELS} are allowed"]
        )
    wrong = [n for n, label in enumerate(labels, 1) if not 1 <= len(label.strip()) <= MAX_LABEL]
    if wrong:
        raise ModelSettingsError([f"{file}:{wrong[0]}: a label has 1 to {MAX_LABEL} characters"])
    return tuple([label.strip() for label in labels])


def find_line(text: str, path: Path) -> int:
    """The line, from 1, on which the key at the end of a path is written in valid TOML.

    tomllib tells no lines. It reads every run of whole lines from the top, unless that ends within a value;
    so the key's line is the one after the longest run that reads and does not have the key yet. Only lines
    with a word of the path in them can be it.
    """
    words = [str(part) for part in path if isinstance(part, str)]
    lines = text.split("\n")
    for number in range(len(lines), 0, -1):
        if not any(word in lines[number - 1] for word in words):
            continue
        try:
            before = toml.loads("\n".join(lines[: number - 1]) + "\n")
        except toml.TOMLDecodeError:
            continue
        if not _has(before, path):
            return number
    return 1  # its name is written with escapes


def _has(value: Any, path: Path) -> bool:
    for part in path:
        if isinstance(part, int):
            if not isinstance(value, list) or part >= len(value):
                return False
        elif not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def not_toml(reason: str, text: str) -> str:
    """The line, and what is wrong there, of what tomllib says of a text."""
    place = _PLACE.search(reason)
    what = _PLACE.sub("", reason)
    what = what[:1].lower() + what[1:]
    if place is None or place[1] is None:
        return f"{max(1, len(text.rstrip().splitlines()))}: this is not TOML: {what} at the end of the file"
    return f"{place[1]}: this is not TOML: {what} (column {place[2]})"


def _find_mistakes(kind: type[msgspec.Struct], table: Mapping[str, Any], path: Path) -> Iterator[Mistake]:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        here = (*path, key)
        if key not in fields:
            yield Mistake(here, _unknown(here, list(fields)))
        elif key == "inputs" and _is_list_of_tables(value):
            yield from _find_mistakes_in_inputs(value, here)
        elif isinstance(fields[key].default, Options) and isinstance(value, dict):
            yield from _find_mistakes(type(fields[key].default), value, here)
        elif not _fits(kind, fields[key], value):
            yield Mistake(here, f"{_shown_path(here)} should be {_allowed(fields[key])}, not {_shown(value)}")
    for name, field in fields.items():
        if field.required and name not in table:
            yield Mistake(path, f"{_shown_path(path)} has no {name}: it should be {_allowed(field)}")


def _find_mistakes_in_inputs(inputs: list[dict[str, Any]], path: Path) -> Iterator[Mistake]:
    names = [each.get("name") for each in inputs]
    for index, each in enumerate(inputs):
        here = (*path, index)
        yield from _find_mistakes(ModelInput, each, here)
        if names[index] is not None and names[index] in names[:index]:
            yield Mistake(
                (*here, "name"), f"two inputs are called {_shown(names[index])}: names should differ"
            )


def _is_list_of_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _fits(kind: type[msgspec.Struct], field: msgspec.structs.FieldInfo, value: Any) -> bool:
    """Whether a field takes the value: its type does, and so does the struct with nothing else said."""
    try:
        taken = msgspec.convert(value, field.type)
        others = {"name": "x", "shape": (1,)} if kind is ModelInput else {}
        kind(**(others | {field.name: taken}))
    except (ValueError, RecursionError):  # msgspec's own is a ValueError
        return False
    return True


def _allowed(field: msgspec.structs.FieldInfo) -> str:
    description: str = field.type.__metadata__[-1].description
    return description


def _unknown(path: Path, allowed: list[str]) -> str:
    key = path[-1]
    near = difflib.get_close_matches(str(key).lower().replace("-", "_"), allowed, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"there is no setting {_shown_path(path)}{hint}: allowed are {', '.join(allowed)}"


def _shown_path(path: Path) -> str:
    shown = ""
    for part in path:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}" if shown else part
    return shown


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
