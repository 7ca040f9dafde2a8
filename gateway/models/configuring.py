"""Changing a model's settings while it serves, and what its next version is loaded by.

1. What a worker loads a version by (`models.LOADED_BY`) is tried first: every worker that holds a version of
   the model loads it once more, beside the one that serves; where all have let it go to make room for others,
   the one does that would load it first. Who holds it no more loads it as it is then, when it is asked for.
2. If one refuses, nothing has changed. If none does, the settings are kept, and all of them count at once.
3. Workers are told which of the two stays, and forget the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import trio

from common import wire
from common.log import event
from common.models import DEFAULTS, ModelSettings
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import State as Life
from gateway.models.catalog import Catalog, Version
from gateway.models.delivery import Delivery
from gateway.models.holders import Holders
from gateway.models.switching import SILENT, Rolled, Switching
from gateway.state.state import State, VersionRecord

log = logging.getLogger("pipeline.rollout")

Make = Callable[[ModelSettings], ModelSettings]


class _Change(NamedTuple):
    """`versions` are the settings of every version by name, `serving` those that serve as they are to, and
    `reloads` which of these workers have to load again: as they are, and as they are to be."""

    before: ModelSettings
    settings: ModelSettings
    versions: Mapping[str, ModelSettings]
    serving: list[Version]
    reloads: list[tuple[Version, Version]]


class _Tried(NamedTuple):
    """A version, as workers have it loaded now beside what serves."""

    version: Version
    workers: set[str]


class Configuring:
    """A change of settings has its turn like a rollout. `moved` is called when other workers may have to hold
    the model."""

    def __init__(
        self,
        switching: Switching,
        catalog: Catalog,
        holders: Holders,
        fleet: Fleet,
        delivery: Delivery,
        state: State,
    ) -> None:
        self.moved: Callable[[], None] = lambda: None
        self._switching = switching
        self._catalog = catalog
        self._holders = holders
        self._fleet = fleet
        self._delivery = delivery
        self._state = state

    async def change(self, model: str, make: Make, *, reload: bool = True) -> tuple[ModelSettings, Rolled]:
        """Give a model the settings that `make` makes of those it has: (those it has now, what became of it).

        Without `reload` the versions that are there stay loaded as they are. Raises what `make` does, and
        `StateError` if the change cannot be made durable; then all is as it was.
        """
        async with self._switching.turn:
            change = await self._planned(model, make, reload=reload)
            stays = [old for old, _ in change.reloads]
            old: list[Version] = []
            try:
                rolled, tried = await self._try([new for _, new in change.reloads])
                if rolled.ok:
                    old = await self._take(model, change, tried)
                    stays = [each.version for each in tried]
            finally:
                await self._settle(stays)
        level, what = (logging.INFO, "changed") if rolled.ok else (logging.WARNING, "refused")
        event(log, level, f"settings {what}", model=model, reloaded=len(stays))
        self.moved()
        await self._switching.retire(old)
        return change.settings if rolled.ok else change.before, rolled

    # --- inside

    async def _planned(self, model: str, make: Make, *, reload: bool) -> _Change:
        def is_reloaded(record: VersionRecord) -> bool:
            """What serves no more is known to load as it did, unless nobody ever loaded it."""
            return reload and (self._catalog.serves(record.key) or not record.checked)

        def plan() -> _Change:
            before = settings_of_next(self._state, model)
            settings = make(before)
            versions = {
                record.version: settings if is_reloaded(record) else settings.loaded_like(record.settings)
                for record in self._state.versions(model)
            }
            old = self._catalog.of(model)
            new = [each._replace(settings=versions[each.key.version]) for each in old]
            reloads = [pair for pair in zip(old, new, strict=True) if pair[0].loaded_as != pair[1].loaded_as]
            return _Change(before, settings, versions, new, reloads)

        return await trio.to_thread.run_sync(plan)

    async def _try(self, versions: Iterable[Version]) -> tuple[Rolled, list[_Tried]]:
        """Have who holds these load them again: (what each worker says, what was loaded)."""
        results: dict[str, tuple[bool, str]] = {}
        tried: list[_Tried] = []
        for new in versions:
            answers = await self._delivery.load(new, self._triers(new), staged=True)
            for worker, answer in answers.items():
                said = answer or SILENT
                results[worker] = said.ok, said.trace
                described = new._replace(inputs=said.inputs, outputs=said.outputs)
            if answers:
                tried.append(_Tried(described, set(answers)))
            if not all(loaded for loaded, _ in results.values()):
                break
        return Rolled([results[worker] for worker in sorted(results)]), tried

    def _triers(self, version: Version) -> set[str]:
        holders = self._holders.of(version.key) & self._fleet.ids(Life.READY)
        best = self._holders.best(version)
        return holders or ({best} if best is not None else set())

    async def _take(self, model: str, change: _Change, tried: list[_Tried]) -> list[Version]:
        """The durable change, then the one that requests see; the versions that serve no more."""
        described = {version.key: version for version, _ in tried}
        loaded = {version.key: workers for version, workers in tried}
        serve = [described.get(version.key, version) for version in change.serving]
        reloads = {new.key for _, new in change.reloads}
        active = self._catalog.get(model)
        now = next((each for each in serve if active is not None and each.key == active.key), None)
        old = [] if now is None else self._switching.surplus(now, becomes_active=True)

        def write() -> None:
            for version in described.values():
                self._state.mark_checked(*version.key, version.inputs, version.outputs)
            self._state.set_settings(
                model,
                change.settings,
                change.versions,
                untried=[key.version for key in reloads - loaded.keys()],
            )
            for version in old:
                self._state.set_serving(*version.key, False)

        await trio.to_thread.run_sync(write)
        for version in serve:
            self._catalog.add(version)
            if version.key in reloads:
                self._holders.reload(version, loaded.get(version.key, set()))
            else:
                self._holders.set(version, self._holders.of(version.key))
        if now is not None:
            self._switching.switch(now)
        self._switching.stop_serving(old)
        return old

    async def _settle(self, versions: Iterable[Version]) -> None:
        """Tell workers how these stay loaded, also where whoever asked for the change has gone."""
        workers = self._fleet.ids(Life.READY, Life.SYNCING)
        with trio.CancelScope(shield=True):
            for version in versions:
                message = wire.Commit(sorted(workers), *version.key, version.settings.loaded_as)
                await self._switching.tell(message, workers)


def settings_of_next(state: State, model: str) -> ModelSettings:
    """What a model's next version is given: the model's settings, or while nothing was said of them those of
    its newest version."""
    said = state.settings(model)
    if said is not None:
        return said
    records = state.versions(model)
    return records[-1].settings if records else DEFAULTS
