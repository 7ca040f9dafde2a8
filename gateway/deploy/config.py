"""`deploy.toml`: a table of the model's settings, and one for each group of `gw.py`'s flags.

    [model]                      what a model.toml may hold, and:
    labels_file = "labels.txt"   its labels, one a line
    [model.text]
    tokenizer = "tokenizer.json" a file, which travels with the model
    [manager]
    min_workers = 1              flags, by the group that `gw.py -h` shows them in

The paths of the model's table are relative to the file itself. The gateway reads the flags' tables, as those
of any file that `--config` names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from common.config_file import read_config_file
from common.errors import LoadError
from common.flags import SettingsError
from common.model_file import ModelSettingsError, read_labels, settings_of
from common.models import ModelSettings
from common.settings import GatewaySettings

MODEL, LABELS_FILE = "model", "labels_file"
TABLES = (MODEL,)  # beside those of flags


class Config(NamedTuple):
    """What the file says. `settings` is None where it says nothing of the model; `files` travel with it, by
    the names that its settings have for them; `names` are the flags of `gw.py` that it gives."""

    settings: ModelSettings | None
    files: Mapping[str, Path]
    names: tuple[str, ...]


NOTHING = Config(None, {}, ())


def read_config(path: Path) -> Config:
    """What a deploy.toml says; `LoadError` has a sentence for everything that is wrong."""
    try:
        file = read_config_file(GatewaySettings, path, TABLES)
    except SettingsError as error:
        raise LoadError(str(error)) from None
    if file.mistakes:
        raise LoadError("\n".join(file.mistakes))
    names = tuple(file.given)
    if MODEL not in file.tables:
        return Config(None, {}, names)
    settings, files = _model(path, file.tables[MODEL])
    return Config(settings, files, names)


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
