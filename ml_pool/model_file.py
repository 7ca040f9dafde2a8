"""Models that the engine loads from files, for a pool: the formats, checks and caches of Pipeline's workers.

    with MLPool({"iris": ModelFile("iris.skops")}) as pool:
        pool.submit(predict, "iris", [5.1, 3.5, 1.4, 0.2]).result()

The program itself imports nothing of the engine, nor torch; its workers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from engine.server import ModelServer

_NAME = "model"


@dataclass(frozen=True)
class ModelFile:
    """A file that each worker loads. `model_type` and `options` are those of `ModelServer.load_model`."""

    path: str | Path
    model_type: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    needed_modules: ClassVar[tuple[str, ...]] = ("engine.server",)

    def __call__(self) -> ModelServer:
        from engine.server import ModelServer

        server = ModelServer(device=self.options.get("device", "cpu"))
        options = {name: value for name, value in self.options.items() if name != "device"}
        server.load_model(_NAME, self.path, self.model_type, **options)
        server.start()
        return server


def predict(model: ModelServer, features: Any) -> Any:
    """A scoring function: one row's prediction, as `ModelServer.predict` gives it."""
    return model.predict(_NAME, features)


def predict_batch(model: ModelServer, rows: Any) -> list[Any]:
    """A scoring function: each row's prediction; the error of a row that failed is in its place."""
    return list(model.predict_batch(_NAME, rows))
