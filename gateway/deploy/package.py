"""What is to be deployed: the model's file, its name, its version, its settings, and what travels with it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from common.errors import LoadError
from common.model_file import ModelSettingsError, read_model_settings
from common.models import ModelSettings
from gateway.deploy.config import Config
from gateway.repository import SETTINGS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PIECE = 4 << 20


class Package(NamedTuple):
    """`version` is None where whoever takes it is to number it, `settings` where nothing is said of them;
    `files` travel with the model."""

    name: str
    version: str | None
    file: Path
    settings: ModelSettings | None
    files: Mapping[str, Path]

    @property
    def size(self) -> int:
        """Bytes of the model's file."""
        return self.file.stat().st_size

    def sha256(self) -> str:
        """Of the model's file, in hex."""
        digest = hashlib.sha256()
        with self.file.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
        return digest.hexdigest()


def find_package(model: Path, name: str | None, config: Config) -> Package:
    """A model's file, or the one in a folder NAME/VERSION, beside which a model.toml may lie.

    `LoadError` has a sentence for what is wrong.
    """
    version, found, settings = None, model.stem, config.settings
    if model.is_dir():
        folder = model.resolve()
        model, version, found = _only_model(model), folder.name, folder.parent.name
        settings = settings if settings is not None else _settings_beside(folder.parent / SETTINGS)
    elif not model.exists():
        raise LoadError(f"there is no file {model}")
    try:
        with model.open("rb") as file:
            if not file.read(1):
                raise LoadError(f"{model} is empty")
    except OSError as error:
        raise LoadError(f"{model} cannot be read: {error.strerror}") from None
    for what, each in (("model", name or found), ("version", version or "1")):
        if not _NAME.fullmatch(each):
            raise LoadError(
                f"{each!r} cannot name a {what}: use 1 to 64 letters, digits and . _ -, the first of them a"
                f" letter or digit{', and say it by --name' if what == 'model' else ''}"
            )
    return Package(name or found, version, model, settings, config.files)


def _only_model(folder: Path) -> Path:
    found = sorted(each for each in folder.iterdir() if each.name.startswith("model.") and each.is_file())
    if len(found) != 1:
        there = "there is none" if not found else f"there are {', '.join(each.name for each in found)}"
        raise LoadError(
            f"{folder} should be the folder of one version, with one file called model.* in it, and {there}"
        )
    return found[0]


def _settings_beside(path: Path) -> ModelSettings | None:
    if not path.is_file():
        return None
    try:
        return read_model_settings(path.read_text("utf-8-sig"), file=str(path))
    except ModelSettingsError as error:
        raise LoadError(str(error)) from None
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from None
