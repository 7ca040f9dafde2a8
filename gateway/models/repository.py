"""The model repository: what a look at its folder says is there, and what changed since the last look. Pure.

    models/<name>/model.toml            settings, if any
    models/<name>/labels.txt            what its classes are called, a line each, if the settings do not say
    models/<name>/<version>/model.*     the model, one file
    models/<name>/<version>/tokenizer.json, say: a file that the settings name, if it is there

1. `watching` lists the folder: a `Look`.
2. `Settling` keeps back what is still being copied: a file counts once two looks saw it alike.
3. `read` makes models of what is left, and a sentence of everything that is wrong.
4. What is there but cannot be used now is *held*: `keeping` leaves it as it was before.
5. `changes` says what to load and what to forget.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from common.model_file import ModelSettingsError, read_labels, read_model_settings
from common.models import RUNTIMES, ModelSettings, runtime_of

SETTINGS = "model.toml"
LABELS = "labels.txt"
NAME = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,63}")
# What tools that copy call a file until they are done with it.
UNFINISHED = ("~", ".tmp", ".part", ".partial", ".filepart", ".crdownload")

Key = tuple[str, str]  # a model and a version of it


class Stamp(NamedTuple):
    """What tells that a file changed, without reading it."""

    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Look:
    """What one look at the folder saw, by path within it; a folder has no stamp.

    `settings` is the text of each model's `model.toml`, `labels` that of its `labels.txt`, `unreadable` what
    could not be read, and why.
    """

    files: Mapping[str, Stamp | None]
    settings: Mapping[str, bytes] = field(default_factory=dict)
    labels: Mapping[str, bytes] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


class Version(NamedTuple):
    """One version: `file` is its path within the folder, `runtime` what executes it, `others` the files that
    lie beside it and travel with it, by name."""

    name: str
    file: str
    runtime: str
    stamp: Stamp
    others: tuple[tuple[str, Stamp], ...] = ()


@dataclass(frozen=True)
class Model:
    """A model that can be served: its settings, and its versions, oldest first, of which the last serves."""

    name: str
    settings: ModelSettings
    versions: tuple[Version, ...]

    @property
    def kept(self) -> tuple[Version, ...]:
        """The versions to have loaded: the newest `keep_versions`."""
        return self.versions[-self.settings.keep_versions :]


@dataclass(frozen=True)
class Reading:
    """The models that are fine, and a sentence for everything that is not.

    `held` is what is there and cannot be used now: a version, or with the version "" a whole model.
    """

    models: Mapping[str, Model] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    held: frozenset[Key] = frozenset()

    def keeping(self, before: Reading) -> Reading:
        """The same, with what is held as it was before: a broken change takes nothing away that serves."""
        models = dict(self.models)
        for name, old in before.models.items():
            if (name, "") in self.held:
                models[name] = old
                continue
            now = models.get(name)
            have = {version.name: version for version in now.versions} if now else {}
            for version in old.versions:
                if (name, version.name) in self.held:
                    have.setdefault(version.name, version)
            if have:
                versions = tuple(sorted(have.values(), key=lambda each: version_order(each.name)))
                models[name] = Model(name, now.settings if now else old.settings, versions)
        return Reading(models, self.problems, self.held)


class Changes(NamedTuple):
    """What differs between two readings: versions by key, and models whose settings differ."""

    added: list[Key]
    changed: list[Key]
    removed: list[Key]
    settings: list[str]


class Settling:
    """Keeps back what is still being copied. The first look settles nothing."""

    def __init__(self) -> None:
        self._last: Mapping[str, Stamp | None] = {}

    def unsettled(self, look: Look) -> frozenset[str]:
        """The files that were not there, or not the same, at the last look."""
        last, self._last = self._last, look.files
        return frozenset(
            path for path, stamp in look.files.items() if stamp is not None and last.get(path) != stamp
        )


def version_order(version: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts versions as people count: 9 before 10, 1.9 before 1.10, v9 before v10, numbers before text."""
    parts = re.findall(r"[0-9]+|[^0-9]+", version)
    natural = [(0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts]
    return (*natural, (-1, 0, version))  # 1 and 01 count alike, and still have an order


def read(look: Look, *, folder: str, unsettled: frozenset[str] = frozenset()) -> Reading:
    """What is in a model repository; sentences call it `folder`."""
    models: dict[str, Model] = {}
    problems: list[str] = [f"{folder}/{path}: {why}" for path, why in sorted(look.unreadable.items())]
    held: set[Key] = set()
    for path in look.unreadable:
        name, _, rest = path.partition("/")
        held.add((name, "" if rest in ("", SETTINGS, LABELS) else rest.partition("/")[0]))
    tree = _tree(look.files)
    for name in sorted(tree.get("", [])):
        if look.files[name] is not None or name.startswith("."):
            continue  # a README beside the models is nobody's mistake
        model = _ModelReader(look, folder, unsettled, name, tree)
        found = model.read()
        problems += model.problems
        held |= model.held
        if found is not None and (name, "") not in held:
            models[name] = found
    return Reading(models, tuple(problems), frozenset(held))


class _ModelReader:
    """Reads one model's folder, and gathers what is wrong there."""

    def __init__(
        self,
        look: Look,
        folder: str,
        unsettled: frozenset[str],
        name: str,
        tree: Mapping[str, list[str]],
    ) -> None:
        self.problems: list[str] = []
        self.held: set[Key] = set()
        self._look = look
        self._folder = folder
        self._unsettled = unsettled
        self._name = name
        self._tree = tree

    def read(self) -> Model | None:
        """The model, if it can be served; all of it is held where its settings cannot be used."""
        name = self._name
        if not NAME.fullmatch(name):
            self._problem(name, _BAD_NAME.format("a model"))
            return None
        settings = self._settings()
        names = sorted(self._tree.get(name, []), key=version_order)
        versions = [version for each in names for version in self._version(each, settings)]
        if settings is None:
            self.held.add((name, ""))
            return None
        if not versions:
            if not self.held and not self.problems:
                self._problem(name, "there is no version: the model goes into a folder like 1/model.onnx")
            return None
        return Model(name, settings, tuple(versions))

    def _settings(self) -> ModelSettings | None:
        paths = {f"{self._name}/{file}" for file in (SETTINGS, LABELS)}
        if paths & (self._unsettled | self._look.unreadable.keys()):
            return None
        settings = self._said()
        labels = self._look.labels.get(self._name)
        if settings is None or settings.labels or labels is None:
            return settings
        path = f"{self._folder}/{self._name}/{LABELS}"
        try:
            return replace(settings, labels=read_labels(labels, file=path))
        except ModelSettingsError as error:
            self.problems += error.mistakes
        return None

    def _said(self) -> ModelSettings | None:
        """What the `model.toml` says."""
        path = f"{self._name}/{SETTINGS}"
        text = self._look.settings.get(self._name)
        if text is None:
            return ModelSettings()
        try:
            return read_model_settings(text.decode("utf-8-sig"), file=f"{self._folder}/{path}")
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            self.problems.append(f"{self._folder}/{path}:{line}: this is not UTF-8 text")
        except ModelSettingsError as error:
            self.problems += error.mistakes
        return None

    def _version(self, version: str, settings: ModelSettings | None) -> Iterator[Version]:
        """The version, or none and why not."""
        where = f"{self._name}/{version}"
        if self._look.files[where] is not None:
            if version.startswith("model.") and version != SETTINGS:
                self._problem(where, f"a model goes into its version's folder, like {self._name}/1/{version}")
            return
        if version.startswith("."):
            return
        if not NAME.fullmatch(version):
            self._problem(where, _BAD_NAME.format("a version"))
            return
        key = (self._name, version)
        there = self._tree.get(where, [])
        files = [each for each in there if each.startswith(("model.", ".model."))]
        others = [each for each in (settings.files if settings else ()) if each in there]
        unsettled = [each for each in (*files, *others) if f"{where}/{each}" in self._unsettled]
        if unsettled or any(_is_unfinished(each) for each in files):
            self.held.add(key)  # still being copied
        elif len(files) != 1:
            self.held.add(key)
            found = "there is none" if not files else f"there are {', '.join(sorted(files))}"
            self._problem(where, f"a version has exactly one file called model.*, and {found}")
        else:
            yield from self._found(key, f"{where}/{files[0]}", settings, others)

    def _found(
        self, key: Key, path: str, settings: ModelSettings | None, others: list[str]
    ) -> Iterator[Version]:
        stamp = self._look.files[path]
        ending = path.rpartition(".")[2]
        runtime = (settings.runtime if settings else "") or runtime_of(ending)
        if stamp is None:
            self.held.add(key)
            self._problem(path, "the model should be a file, not a folder")
        elif runtime is None:
            self.held.add(key)
            self._problem(
                path,
                f"no runtime is known by the ending .{ending}: say runtime in {self._folder}/{self._name}/"
                f"{SETTINGS}, one of {', '.join(RUNTIMES)}",
            )
        else:
            folder = path.rpartition("/")[0]
            stamps = [(each, self._look.files[f"{folder}/{each}"]) for each in others]
            found = tuple([(each, own) for each, own in stamps if own is not None])
            yield Version(key[1], path, runtime, stamp, found)

    def _problem(self, path: str, sentence: str) -> None:
        self.problems.append(f"{self._folder}/{path}: {sentence}")


_BAD_NAME = "the name of {} has up to 64 of a-z, 0-9 and . _ -, and does not begin with a dot"


def _is_unfinished(name: str) -> bool:
    return name.startswith(".") or name.endswith(UNFINISHED)


def changes(before: Reading, after: Reading) -> Changes:
    """What to do to get from one reading to another; versions in their order."""
    old = {(model.name, each.name): each for model in before.models.values() for each in model.versions}
    new = {(model.name, each.name): each for model in after.models.values() for each in model.versions}
    return Changes(
        added=[key for key in new if key not in old],
        changed=[key for key in new if key in old and new[key] != old[key]],
        removed=[key for key in old if key not in new],
        settings=[
            name
            for name, model in after.models.items()
            if name in before.models and before.models[name].settings != model.settings
        ],
    )


def _tree(files: Mapping[str, Stamp | None]) -> dict[str, list[str]]:
    """What each folder holds, by name."""
    tree: dict[str, list[str]] = {}
    for path in files:
        folder, _, name = path.rpartition("/")
        tree.setdefault(folder, []).append(name)
    return tree
