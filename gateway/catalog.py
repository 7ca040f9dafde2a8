"""Which version of each model serves: the one pointer that a rollout switches. Pure."""

from __future__ import annotations

from typing import NamedTuple

from common.errors import NoWeights
from gateway.requests import ModelKey

DEFAULT_MODEL = "default"


class Active(NamedTuple):
    """The version that serves a model; `nn_id` is what its uploader called it."""

    key: ModelKey
    nn_id: str
    sha256: str
    size: int


class Catalog:
    """Every request asks here once, as it is admitted, and keeps the version it was told."""

    def __init__(self) -> None:
        self._active: dict[str, Active] = {}

    def active(self, model: str = DEFAULT_MODEL) -> Active:
        """The version that serves; `NoWeights` where none does."""
        try:
            return self._active[model]
        except KeyError:
            raise NoWeights("No weights loaded") from None

    def get(self, model: str) -> Active | None:
        """The version that serves, if any does."""
        return self._active.get(model)

    def switch(self, active: Active) -> None:
        """From now on this version serves its model."""
        self._active[active.key.model] = active

    def clear(self, model: str) -> None:
        """From now on no version serves the model."""
        self._active.pop(model, None)

    def all(self) -> list[Active]:
        """What serves now, of every model."""
        return list(self._active.values())
