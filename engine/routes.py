"""Which `Serving` answers for a model and version."""

from __future__ import annotations

from common.errors import ModelNotFound
from engine.registry import Registry
from engine.serving import Serving


class Routes:
    """`find` may be called at any time; whoever owns it serialises the rest.

    Invariant: under (model, None) is the serving of the version that the registry says is active.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.leaving: list[Serving] = []  # removed; whoever empties one takes it from here
        self._servings: dict[tuple[str, str | None], Serving] = {}

    def find(self, model_id: str, version: str | None) -> Serving:
        """The one of this version, None: of the active one; `ModelNotFound` where there is none."""
        serving = self._servings.get((model_id, version))
        if serving is None:
            raise self._not_found(model_id, version)
        return serving

    def loaded(self) -> dict[tuple[str, str], Serving]:
        """All of them, under (model, version)."""
        return {
            (model, version): each for (model, version), each in self._servings.items() if version is not None
        }

    def add(self, model_id: str, version: str, serving: Serving) -> None:
        """Have a version that the registry holds answered."""
        self._servings[model_id, version] = serving
        self.follow(model_id)

    def remove(self, model_id: str, version: str | None) -> list[Serving]:
        """Forget a version, or all of a model, here and in the registry; those that answered for them."""
        found = {
            key: serving
            for key, serving in self.loaded().items()
            if key[0] == model_id and version in (None, key[1])
        }
        if not found:
            raise self._not_found(model_id, version)
        for key, serving in found.items():
            self._registry.drop(*key)
            del self._servings[key]
            if self._servings.get((model_id, None)) is serving:
                del self._servings[model_id, None]
        self.follow(model_id)
        self.leaving += found.values()
        return list(found.values())

    def follow(self, model_id: str) -> None:
        """The registry may have another active version."""
        active = self._registry.active(model_id)
        serving = None if active is None else self._servings.get((model_id, active))
        if serving is not None:  # else it is still on its way here
            self._servings[model_id, None] = serving

    def _not_found(self, model_id: str, version: str | None) -> ModelNotFound:
        if version is None or (model_id, None) not in self._servings:
            return ModelNotFound(f"no model {model_id!r} is loaded")
        return ModelNotFound(f"model {model_id!r} has no version {version!r} loaded")
