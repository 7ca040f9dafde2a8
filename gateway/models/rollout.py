"""What can be done to models and versions: each a change of what serves, all or nothing (see `switching`)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec
import trio

from common.errors import Conflict, NotFound
from common.log import event
from common.models import ModelSettings
from gateway.models.catalog import DEFAULT_MODEL, Catalog, Version
from gateway.models.switching import Rolled, Switching
from gateway.state.blobs import Blob
from gateway.state.state import State, VersionRecord

log = logging.getLogger("pipeline.rollout")

# What `set_weights` replaces is gone.
WEIGHTS = ModelSettings(runtime="torch", architecture="sample", keep_versions=1)


class Rollouts:
    """Changes come one at a time, each in its `turn`."""

    def __init__(self, switching: Switching, catalog: Catalog, state: State) -> None:
        self.turn = switching.turn
        self._switching = switching
        self._catalog = catalog
        self._state = state

    async def restore(self) -> None:
        """Serve what the state directory says was served last."""
        for record in await trio.to_thread.run_sync(self._state.all_serving):
            self._catalog.add(as_version(record))
        for record in (await trio.to_thread.run_sync(self._state.all_active)).values():
            self._switching.switch(as_version(record))

    # --- what doors ask for

    async def set_weights(self, nn_id: str, blob: Blob) -> Rolled:
        """Make a stored blob the default model's weights. After this returns ok, only they answer.

        A version never changes its bytes: the nn_id names it, with a digest behind it where that name is
        taken by other bytes. Raises `StateError` if the change cannot be made durable; then the old weights
        serve on.
        """

        def record() -> VersionRecord:
            known = self._state.version(DEFAULT_MODEL, nn_id)
            is_taken = known is not None and known.sha256 != blob.sha256
            version = f"{nn_id}.{blob.sha256[:16]}" if is_taken else nn_id
            said = self._state.settings(DEFAULT_MODEL)
            settings = _of_weights(said)
            if said is not None and said != settings:
                self._state.set_settings(DEFAULT_MODEL, settings, {})
            return VersionRecord(
                DEFAULT_MODEL, version, nn_id, blob.sha256, blob.size, time.time(), settings=settings
            )

        return await self._change(record, activate=True)

    async def add(self, record: VersionRecord, *, activate: bool) -> Rolled:
        """Have the workers that should hold a version load it, and serve it: by its name, and, to `activate`
        it or where the model has no other, also who names none.

        Raises `Conflict` if its name is taken by other bytes, `StateError` if the change cannot be made
        durable.
        """
        return await self._change(lambda: record, activate=activate)

    async def activate(self, model: str, version: str) -> Rolled:
        """Make a version that was added before the one that answers who names none; loaded again if it is no
        longer served. `NotFound` if there is none of that name."""
        return await self._change(lambda: self._known(model, version), activate=True)

    async def rollback(self, model: str) -> Rolled:
        """Activate the version that was active before; `NotFound` if there was none."""

        def previous() -> VersionRecord:
            record = self._state.previous(model)
            if record is None:
                raise NotFound(f"no version of {model} was active before the one that is")
            return record

        return await self._change(previous, activate=True)

    async def remove(self, model: str, version: str) -> None:
        """Forget a version for good; `NotFound`, or `Conflict` while it is active or a job needs it."""

        def forget() -> None:
            record = self._known(model, version)
            if self._switching.is_kept(record.key):
                raise Conflict(f"version {version} of {model} is needed by a job: wait or cancel it first")
            self._state.forget_version(model, version)

        async with self.turn:
            await trio.to_thread.run_sync(forget)
            old = [each for each in self._catalog.of(model) if each.key.version == version]
            self._switching.stop_serving(old)
        await self._switching.retire(old)

    async def unload(self, model: str) -> None:
        """Have no version of a model serve until one is loaded, activated or added; what was admitted is
        answered. `NotFound`, or `Conflict` while an experiment needs one."""

        def write() -> None:
            if not self._state.versions(model):
                raise NotFound(f"there is no model {model}")
            for version in old:
                self._state.set_serving(*version.key, False)
            self._state.activate(model, None)

        async with self.turn:
            old = self._catalog.of(model)
            for version in old:
                if self._switching.is_held(version.key):
                    raise Conflict(f"version {version.key.version} of {model} is an arm of an experiment")
            await trio.to_thread.run_sync(write)
            self._switching.stop_serving(old)
            event(log, logging.INFO, "model unloaded", model=model, versions=len(old))
        await self._switching.retire(old)

    async def load(self, model: str) -> Rolled:
        """Have a model serve again: the version that was active last, and beside it the newest of the others,
        as many as its settings keep. `NotFound` for a model of which no version is known."""
        rolled = await self._change(lambda: self._last_active(model), activate=True)
        active = self._catalog.get(model)
        if not rolled.ok or active is None:
            return rolled
        records = await trio.to_thread.run_sync(self._state.versions, model)
        others = [record for record in records if record.key != active.key]
        for record in others[::-1][: active.settings.keep_versions - 1]:
            if not self._catalog.serves(record.key):
                await self.add(record, activate=False)
        return rolled

    def _last_active(self, model: str) -> VersionRecord:
        records = self._state.versions(model)
        if not records:
            raise NotFound(f"there is no model {model}")
        return self._state.active(model) or self._state.previous(model) or records[-1]

    def _known(self, model: str, version: str) -> VersionRecord:
        record = self._state.version(model, version)
        if record is None:
            raise NotFound(f"there is no version {version} of {model}")
        return record

    async def _change(self, make: Callable[[], VersionRecord], *, activate: bool) -> Rolled:
        """Roll out the version that `make`, called in a thread when it is our turn, says."""

        def stored() -> Version:
            record = make()
            self._state.add_version(record)
            return as_version(self._known(record.model, record.version))

        async with self.turn:
            new = await trio.to_thread.run_sync(stored)
            rolled, old = await self._switching.roll(new, activate=activate)
        await self._switching.retire(old)
        return rolled


def _of_weights(said: ModelSettings | None) -> ModelSettings:
    """How `set_weights` has weights loaded: as was said of the model, but for what makes them weights."""
    if said is None:
        return WEIGHTS
    architecture = said.architecture or WEIGHTS.architecture
    return msgspec.structs.replace(
        said, runtime=WEIGHTS.runtime, architecture=architecture, keep_versions=WEIGHTS.keep_versions
    )


def as_version(record: VersionRecord) -> Version:
    """A version as the catalog knows it."""
    return Version(
        record.key,
        record.nn_id,
        record.sha256,
        record.size,
        record.file,
        record.settings,
        record.inputs,
        record.outputs,
    )
