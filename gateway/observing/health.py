"""Whether the gateway lives, has started, and can answer: what probes ask, whichever protocol they speak."""

from __future__ import annotations

from collections import Counter

from gateway.autoscaler.autoscaler import Autoscaler
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import State
from gateway.models.catalog import DEFAULT_MODEL, Catalog, Version
from gateway.models.holders import Holders
from gateway.scheduling.predictions import Predictions
from gateway.scheduling.requests import ModelKey


class Health:
    """Reads; changes nothing but `starting`, which whoever starts the gateway takes away.

    Ready is who can answer the default model now. Where there is none and others serve, one of these is
    enough. A gateway that has scaled to zero is ready, too: were it sent nothing, it would stay at zero.
    """

    def __init__(self, catalog: Catalog, holders: Holders, fleet: Fleet, predictions: Predictions) -> None:
        self.starting = ""  # what is still being done, if anything is
        self.autoscaler: Autoscaler | None = None  # where workers are started
        self._catalog = catalog
        self._holders = holders
        self._fleet = fleet
        self._predictions = predictions

    def why_not_ready(self) -> str:
        """A sentence; "" where it is ready."""
        if self._predictions.draining:
            return "the gateway is shutting down"
        default = self._catalog.get(DEFAULT_MODEL)
        active = [found for name in self._catalog.models() if (found := self._catalog.get(name))]
        wanted = active if default is None else [default]
        if not wanted:
            return self.starting or "no weights are set: PUT /set_weights, or add a model at /models"
        if any(self.is_held(version.key) for version in wanted) or self._starts_on_demand:
            return ""
        return self._lack(wanted[0])

    def is_held(self, key: ModelKey) -> bool:
        """Whether a worker that is ready holds a version, or loads it again for who asks."""
        holders = self._holders.of(key) | self._holders.evicted_at(key)
        return bool(holders & self._fleet.ids(State.READY))

    @property
    def _starts_on_demand(self) -> bool:
        """Whether there is no worker, and the first request starts one, as far as anybody knows."""
        if self.autoscaler is None or self._fleet.ids(State.READY):
            return False
        scaling = self.autoscaler.scaling
        starts = scaling.bounds.may_be_none and not scaling.paused
        return starts and not self.autoscaler.workforce.counts().failing

    def _lack(self, version: Version) -> str:
        states = Counter(worker.state.value for worker in self._fleet.roster)
        if not states[State.READY.value]:
            others = ", ".join(f"{count} {state}" for state, count in states.items())
            sentence = f"no worker is ready: {others or 'none has come'}"
        else:
            sentence = f"none of the workers that are ready holds version {version.key.version} of"
            sentence += f" {version.key.model}"
        trouble = next((worker.trouble for worker in self._fleet.roster if worker.trouble), "")
        if not trouble and self.autoscaler is not None:
            trouble = self.autoscaler.workforce.trouble
        return f"{sentence} ({trouble})" if trouble else sentence
