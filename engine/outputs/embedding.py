"""What a row means, as a vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.errors import ModelError
from common.media import OutputOptions
from common.models import ModelSettings
from engine.inputs.decoder import Decoded, Files
from engine.outputs.encoder import Floats, Named, numbers, pick
from engine.rows import Array


class EmbeddingEncoder:
    """`embedding`, FP32, one vector a row: of a model that gives one for each token, what pooling makes of
    those that count."""

    def __init__(self, options: OutputOptions) -> None:
        self._options = options

    def encode(self, outputs: Named, rows: Sequence[Decoded]) -> list[tuple[str, Array]]:
        """As `Encoder` says."""
        vectors = numbers(pick(outputs, self._options.name), "embeddings")
        if vectors.ndim == 3:
            vectors = self._pooled(vectors, rows)
        if vectors.ndim != 2:
            raise ModelError(
                "an embedding is a vector, or one for each token, and the model gives"
                f" {list(vectors.shape[1:])}"
            )
        if self._options.normalise:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.maximum(lengths, np.float32(1e-12))
        return [("embedding", vectors)]

    def _pooled(self, vectors: Floats, rows: Sequence[Decoded]) -> Floats:
        if self._options.pooling == "cls":
            return vectors[:, 0]
        counts = np.ones(vectors.shape[:2], np.float32)
        for at, row in enumerate(rows):
            if row.mask is not None and len(row.mask) == vectors.shape[1]:
                counts[at] = row.mask
        weights = counts[:, :, np.newaxis]
        if self._options.pooling == "max":
            greatest: Floats = np.where(weights > 0, vectors, np.float32(-np.inf)).max(axis=1)
            return greatest
        pooled: Floats = (vectors * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), np.float32(1e-9))
        return pooled


def make(settings: ModelSettings, files: Files) -> EmbeddingEncoder:
    """The encoder of a model's settings."""
    return EmbeddingEncoder(settings.output)
