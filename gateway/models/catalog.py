"""Which versions of each model serve, and which one answers who names none: the one pointer that a rollout
switches, or the arm of an experiment. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from common.errors import NotFound, NoWeights
from common.models import DEFAULTS, ModelSettings
from common.tensor import TensorSpec
from common.wire import VersionKey
from gateway.experiments.experiments import Arm, Experiment
from gateway.scheduling.requests import ModelKey

DEFAULT_MODEL = "default"


class Part(NamedTuple):
    """What a request takes part in."""

    experiment: Experiment
    arm: Arm


class Version(NamedTuple):
    """One version of a model: `nn_id` is what its uploader called it, `file` what the file was called.

    `part` is there in what `choose` gives a request that takes part in an experiment.
    """

    key: ModelKey
    nn_id: str
    sha256: str
    size: int
    file: str = ""
    settings: ModelSettings = DEFAULTS
    inputs: tuple[TensorSpec, ...] = ()  # what one row of each is, where a worker has said so
    outputs: tuple[TensorSpec, ...] = ()
    part: Part | None = None

    @property
    def loaded_as(self) -> VersionKey:
        """What a worker says that holds it as it should be."""
        return VersionKey(*self.key, self.sha256, self.settings.loaded_as)


class Catalog:
    """Every request asks here once, as it is admitted, and keeps the version it was told.

    Invariant: a model's active version is one of those that serve.
    """

    def __init__(self, experiments: Mapping[str, Experiment] | None = None) -> None:
        self._experiments = experiments if experiments is not None else {}  # the active one of each model
        self._requests = itertools.count(1)
        self.generations: Counter[str] = Counter()  # by model: how often another version became active
        self._active: dict[str, Version] = {}
        self._serving: dict[ModelKey, Version] = {}

    def active(self, model: str = DEFAULT_MODEL) -> Version:
        """The version that answers who names none; `NoWeights` where there is none, `NotFound` for a model
        nobody knows."""
        try:
            return self._active[model]
        except KeyError:
            raise self._missing(model) from None

    def find(self, model: str, version: str) -> Version:
        """A version that serves; `NotFound` says which ones there are."""
        found = self._serving.get(ModelKey(model, version))
        if found is None:
            there = ", ".join(each.key.version for each in self.of(model))
            if not there:
                raise self._missing(model)
            raise NotFound(f"version {version} of {model} does not serve: there are {there}")
        return found

    def named(self, model: str, version: str | None) -> Version:
        """What somebody asks for who may name a version: `find`, or `active`."""
        return self.active(model) if version is None else self.find(model, version)

    def choose(self, model: str, header: Callable[[bytes], bytes | None]) -> Version:
        """What answers a request that names no version: the arm it belongs to where there is an experiment,
        by the header that says who asks, else `active`."""
        experiment = self._experiments.get(model)
        if experiment is None:
            return self.active(model)
        name = experiment.plan.header
        user = header(name) if name is not None else None
        # A request that is nobody's is on its own. No user is called like one: a header has no such byte.
        key = user.decode("latin-1") if user else f"\0{next(self._requests)}"
        arm = experiment.choose(key)
        found = self._serving.get(ModelKey(model, arm.name))
        return self.active(model) if found is None else found._replace(part=Part(experiment, arm))

    def peek(self, model: str, version: str | None) -> Version | None:
        """What most probably answers who asks so; nothing is counted, or refused."""
        return self._active.get(model) if version is None else self._serving.get(ModelKey(model, version))

    def get(self, model: str) -> Version | None:
        """The active version, if there is one."""
        return self._active.get(model)

    def serves(self, key: ModelKey) -> bool:
        """Whether a version serves, active or by its name."""
        return key in self._serving

    def add(self, version: Version) -> None:
        """From now on this version serves who names it."""
        self._serving[version.key] = version

    def describe(self, version: Version) -> None:
        """More is known of a version that serves."""
        key = version.key
        if key in self._serving:
            self._serving[key] = version
        active = self._active.get(key.model)
        if active is not None and active.key == key:
            self._active[key.model] = version

    def switch(self, version: Version) -> None:
        """From now on this version serves, also who names none."""
        self.add(version)
        before = self._active.get(version.key.model)
        if before is None or before.key != version.key:
            self.generations[version.key.model] += 1
        self._active[version.key.model] = version

    def remove(self, key: ModelKey) -> None:
        """From now on this version serves nobody."""
        self._serving.pop(key, None)
        active = self._active.get(key.model)
        if active is not None and active.key == key:
            del self._active[key.model]

    def of(self, model: str) -> list[Version]:
        """The versions of a model that serve, the one added last at the end."""
        return [version for key, version in self._serving.items() if key.model == model]

    def models(self) -> list[str]:
        """Every model of which a version serves."""
        return sorted({key.model for key in self._serving})

    def all(self) -> list[Version]:
        """Every version that serves."""
        return list(self._serving.values())

    def _missing(self, model: str) -> NotFound | NoWeights:
        if model == DEFAULT_MODEL or self.of(model):
            return NoWeights("No weights loaded")
        return NotFound(f"there is no model {model}: GET /models says which there are")
