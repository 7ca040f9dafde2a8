"""Serving a model repository: what is in its folder as the gateway starts, and what changes later."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio

from common.bundle import pack_bundle
from common.errors import LoadError, PipelineError
from common.log import event
from common.models import DEFAULTS, ModelSettings
from gateway.models.catalog import Catalog
from gateway.models.configuring import Configuring, settings_of_next
from gateway.models.repository import SETTINGS, Key, Model, Reading, Stamp, Version
from gateway.models.rollout import Rollouts
from gateway.models.switching import Rolled
from gateway.models.watching import read_settled, watch
from gateway.state.blobs import Blob
from gateway.state.state import State, VersionRecord

log = logging.getLogger("pipeline.models")

_PIECE = 4 << 20

Others = tuple[tuple[str, Stamp], ...]


class ModelFolder:
    """The newest versions of each model serve, as many as its settings keep; the last of them is active."""

    def __init__(
        self,
        directory: Path,
        rollouts: Rollouts,
        configuring: Configuring,
        catalog: Catalog,
        state: State,
    ) -> None:
        self.problems: list[str] = []
        self._directory = directory
        self._rollouts = rollouts
        self._configuring = configuring
        self._catalog = catalog
        self._state = state
        self._reading = Reading()
        self._configured: dict[str, ModelSettings] = {}  # what each model.toml said last
        self._refused: dict[Key, str] = {}
        self._said: set[str] = set()

    async def load(self) -> None:
        """Serve what is there now; what cannot be served is logged, and the rest serves."""
        await self._follow(await read_settled(self._directory))

    async def run(self) -> None:
        """Follow changes until cancelled."""
        async for reading in watch(self._directory, self._reading):
            await self._follow(reading)

    async def load_again(self, model: str) -> bool:
        """Serve what the folder holds of a model now; whether it holds any. `LoadError` says why not."""
        try:
            reading = await read_settled(self._directory)
        except OSError as error:
            raise LoadError(f"{self._directory} cannot be read: {error.strerror}") from error
        problems = [each for each in reading.problems if each.startswith(f"{self._directory}/{model}/")]
        if problems:
            raise LoadError("; ".join(problems))
        found = reading.models.get(model)
        if found is None:
            return False
        await self._configure(found)
        for version in found.kept:
            await self._add((model, version.name), found, version)
        wrong = [self._refused[key] for key in self._refused if key[0] == model]
        if wrong:
            raise LoadError("; ".join(wrong))
        return True

    # --- inside

    async def _follow(self, reading: Reading) -> None:
        """Bring what serves from the last reading to this one."""
        before, self._reading = self._reading, reading
        kept = _kept(self._reading)
        was = _kept(before)
        for key in was.keys() - kept.keys():
            await self._remove(key)
        for name in before.models.keys() - reading.models.keys():
            self._configured.pop(name, None)
            self._refused.pop((name, ""), None)
        for model in reading.models.values():
            await self._configure(model)
        for key, (model, version) in kept.items():
            then, same = was.get(key, (None, None))
            if same != version or (key in self._refused and then != model):
                await self._add(key, model, version)
        self._say([*reading.problems, *self._refused.values()])

    async def _configure(self, model: Model) -> None:
        """Its `model.toml`, if there is one, has the last word. A version that serves and does not load as it
        says serves on as it is; the next one is loaded so."""
        where = model.name, ""
        settings = model.settings
        if settings == self._configured.get(model.name, DEFAULTS):
            return
        self._refused.pop(where, None)
        try:
            _, rolled = await self._configuring.change(model.name, lambda before: settings)
            if not rolled.ok:
                self._refused[where] = (
                    f"{self._directory / model.name / SETTINGS}: what serves does not load so,"
                    f" and serves on as it is: {rolled.reason}"
                )
                await self._configuring.change(model.name, lambda before: settings, reload=False)
        except PipelineError as error:
            self._refused[where] = f"{self._directory / model.name / SETTINGS}: {error}"
            return
        self._configured[model.name] = settings

    async def _add(self, key: Key, model: Model, version: Version) -> None:
        """Roll out what is new; the model's last version becomes the active one."""
        path = self._directory / version.file
        self._refused.pop(key, None)
        try:
            rolled = await self._roll(key, path, version.others, activate=version == model.versions[-1])
        except (PipelineError, OSError) as error:
            self._refused[key] = f"{path}: {error}"
            return
        if not rolled.ok:
            self._refused[key] = f"{path} does not load: {rolled.reason}"

    async def _roll(self, key: Key, path: Path, others: Others, *, activate: bool) -> Rolled:
        blob = await trio.to_thread.run_sync(self._store, path, [name for name, _ in others])
        settings = await trio.to_thread.run_sync(settings_of_next, self._state, key[0])
        record = VersionRecord(
            *key, key[1], blob.sha256, blob.size, time.time(), file=path.name, settings=settings
        )
        return await self._rollouts.add(record, activate=activate)

    def _store(self, path: Path, others: list[str]) -> Blob:
        """The model's file as a blob, together with those beside it, if there are any."""
        with ExitStack() as stack:
            writer = stack.enter_context(self._state.blobs.new())
            files = [(name, stack.enter_context((path.parent / name).open("rb"))) for name in others]
            file = stack.enter_context(path.open("rb"))
            pieces = (
                pack_bundle([(path.name, file), *files]) if files else iter(partial(file.read, _PIECE), b"")
            )
            for piece in pieces:
                writer.write(piece)
            return writer.commit()

    async def _remove(self, key: Key) -> None:
        """Its file is gone, or too old: so is the version, but for the last one that its model has."""
        self._refused.pop(key, None)
        active = self._catalog.get(key[0])
        if active is not None and active.key == key:
            model = self._reading.models.get(key[0])
            if model is None:
                event(log, logging.WARNING, "active version has no file any more", model=key[0])
                return
            newest = model.versions[-1]
            await self._add((model.name, newest.name), model, newest)
        try:
            await self._rollouts.remove(*key)
        except PipelineError as error:
            event(log, logging.WARNING, "version not removed", model=key[0], version=key[1], error=error)

    def _say(self, problems: list[str]) -> None:
        """Log what was not said before: a file that is being written hides what was wrong with it."""
        for problem in problems:
            if problem not in self._said:
                event(log, logging.ERROR, "model not served", problem=problem)
        self._said.update(problems)
        self.problems = problems


def _kept(reading: Reading) -> Mapping[Key, tuple[Model, Version]]:
    """The versions to have loaded, oldest first in each model."""
    return {
        (model.name, version.name): (model, version)
        for model in reading.models.values()
        for version in model.kept
    }
