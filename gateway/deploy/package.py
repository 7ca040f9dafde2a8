"""What is to be deployed: the model's file, its name, its version, its settings, and what travels with it."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from common.bundle import pack_bundle
from common.errors import LoadError
from common.model_file import ModelSettingsError, read_labels, read_model_settings
from common.models import DEFAULTS, ModelSettings
from gateway.deploy.config import Config
from gateway.models.repository import LABELS, SETTINGS

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Package(NamedTuple):
    """`version` is None where whoever takes it is to number it, `settings` where nothing is said of them;
    `files` travel with the model, by the names that its settings have for them."""

    name: str
    version: str | None
    file: Path
    settings: ModelSettings | None
    files: Mapping[str, Path]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(each.stat().st_size for each in (self.file, *self.files.values()))

    @contextlib.contextmanager
    def as_one_file(self) -> Iterator[Path]:
        """The model's file, or, of several, all of them as one; `LoadError` where one cannot be read."""
        if not self.files:
            yield self.file
            return
        with contextlib.ExitStack() as stack:
            try:
                whole = stack.enter_context(tempfile.NamedTemporaryFile(prefix="pipeline-"))
                named = [(f"model{self.file.suffix}", self.file), *self.files.items()]
                for piece in pack_bundle(
                    [(name, stack.enter_context(each.open("rb"))) for name, each in named]
                ):
                    whole.write(piece)
                whole.flush()
            except OSError as error:
                raise LoadError(f"{self.file} and the files beside it cannot be read: {error}") from None
            yield Path(whole.name)


def find_package(model: Path, name: str | None, config: Config) -> Package:
    """A model's file, or the one in a folder NAME/VERSION, beside which a model.toml may lie.

    `LoadError` has a sentence for what is wrong.
    """
    version, found, settings = None, model.stem, config.settings
    if model.is_dir():
        folder = model.resolve()
        model, version, found = _only_model(model), folder.name, folder.parent.name
        settings = settings if settings is not None else _settings_beside(folder.parent)
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
    wanted = settings.files if settings is not None else ()
    beside = {each: model.with_name(each) for each in wanted if model.with_name(each).is_file()}
    return Package(name or found, version, model, settings, beside | dict(config.files))


def _only_model(folder: Path) -> Path:
    found = sorted(each for each in folder.iterdir() if each.name.startswith("model.") and each.is_file())
    if len(found) != 1:
        there = "there is none" if not found else f"there are {', '.join(each.name for each in found)}"
        raise LoadError(
            f"{folder} should be the folder of one version, with one file called model.* in it, and {there}"
        )
    return found[0]


def _settings_beside(folder: Path) -> ModelSettings | None:
    """What the model.toml and the labels in a model's folder say, if they are there."""
    said, labels = folder / SETTINGS, folder / LABELS
    try:
        settings = (
            read_model_settings(said.read_text("utf-8-sig"), file=str(said)) if said.is_file() else None
        )
        if labels.is_file() and not (settings or DEFAULTS).labels:
            found = read_labels(labels.read_bytes(), file=str(labels))
            settings = replace(settings or DEFAULTS, labels=found)
    except ModelSettingsError as error:
        raise LoadError(str(error)) from None
    except (OSError, ValueError) as error:
        raise LoadError(f"what lies in {folder} cannot be read: {error}") from None
    return settings
