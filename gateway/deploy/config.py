"""`deploy.toml`: a table of the model's settings, and one for each group of `gw.py`'s flags.

    [model]                      what a model.toml may hold, and:
    labels_file = "labels.txt"   its labels, one a line
    [model.text]
    tokenizer = "tokenizer.json" a file, which travels with the model
    [manager]
    min_workers = 1              flags, by the group that `gw.py -h` shows them in

Paths are relative to the file itself.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import LoadError
from common.model_file import ModelSettingsError, read_labels, settings_of
from common.models import ModelSettings
from common.settings import GatewaySettings

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - which of the two is there depends on the Python
    import tomli as tomllib

MODEL, LABELS_FILE = "model", "labels_file"


class Config(NamedTuple):
    """What the file says. `settings` is None where it says nothing of the model; `files` travel with it, by
    the names that its settings have for them."""

    settings: ModelSettings | None
    files: Mapping[str, Path]
    flags: list[str]


NOTHING = Config(None, {}, [])


def read_config(path: Path) -> Config:
    """What a deploy.toml says; `LoadError` has a sentence for what is wrong."""
    table = _read_toml(path)
    groups = _flags_by_group()
    flags = []
    for name, value in table.items():
        if not isinstance(value, dict):
            raise LoadError(f"{path}: {name} stands in no table: there are {_listed([MODEL, *groups])}")
        if name == MODEL:
            continue
        if name not in groups:
            raise LoadError(f"{path}: there is no table [{name}]{_hint(name, [MODEL, *groups])}")
        flags += [flag for key, each in value.items() for flag in _flag(path, name, key, each, groups[name])]
    said = table.get(MODEL)
    if said is None:
        return Config(None, {}, flags)
    settings, files = _model(path, said)
    return Config(settings, files, flags)


def _model(path: Path, table: dict[str, Any]) -> tuple[ModelSettings, dict[str, Path]]:
    said, files = dict(table), {}
    labels = said.pop(LABELS_FILE, None)
    if labels is not None:
        if "labels" in said:
            raise LoadError(f"{path}: [model] has both labels and {LABELS_FILE}: leave one out")
        said["labels"] = _labels_of(path, labels)
    text = said.get("text")
    if isinstance(text, dict) and isinstance(text.get("tokenizer"), str) and text["tokenizer"]:
        tokenizer = path.parent / text["tokenizer"]
        if not tokenizer.is_file():
            raise LoadError(f"{path}: [model.text] tokenizer: there is no file {tokenizer}")
        files[tokenizer.name] = tokenizer
        said["text"] = {**text, "tokenizer": tokenizer.name}
    try:
        return settings_of(said), files
    except ModelSettingsError as error:
        raise LoadError("\n".join(f"{path}: [model]: {each}" for each in error.mistakes)) from None


def _labels_of(path: Path, name: object) -> list[str]:
    if not isinstance(name, str):
        raise LoadError(f"{path}: [model] {LABELS_FILE} should be the path of a text file, not {name!r}")
    file = path.parent / name
    try:
        return list(read_labels(file.read_bytes(), file=str(file)))
    except ModelSettingsError as error:
        raise LoadError(str(error)) from None
    except OSError as error:
        raise LoadError(f"{path}: [model] {LABELS_FILE} cannot be read: {error}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # tomllib's own is a ValueError
        raise LoadError(f"{path} is not TOML: {error}") from None
    return table


def _flags_by_group() -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for each in fields(GatewaySettings):
        groups.setdefault(each.metadata["option"].group, []).append(each.name)
    return groups


def _flag(path: Path, group: str, key: str, value: object, allowed: list[str]) -> Iterable[str]:
    """The flag that says the same; the checks are the flag's own."""
    if key not in allowed:
        raise LoadError(f"{path}: there is no {key} in [{group}]{_hint(key, allowed)}")
    if isinstance(value, bool):
        return [f"--{key}"] if value else []
    if isinstance(value, list):
        return [f"--{key}={','.join(map(str, value))}"]
    if isinstance(value, dict):
        raise LoadError(f"{path}: {key} in [{group}] should be one value, not a table")
    return [f"--{key}={value}"]


def _hint(key: str, allowed: Iterable[str]) -> str:
    near = difflib.get_close_matches(key.lower().replace("-", "_"), list(allowed), 1)
    return (f": did you mean {near[0]}? " if near else ": ") + f"Allowed are {_listed(allowed)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
