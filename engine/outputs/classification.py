"""What a row is, as probabilities of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.media import OutputOptions
from common.models import ModelSettings
from engine.inputs.decoder import Decoded, Files
from engine.outputs.encoder import Named, numbers, pick
from engine.rows import Array


class ClassificationEncoder:
    """`probabilities`, FP32, one for each class; which class is called how is the door's to say."""

    def __init__(self, options: OutputOptions) -> None:
        self._options = options

    def encode(self, outputs: Named, rows: Sequence[Decoded]) -> list[tuple[str, Array]]:
        """As `Encoder` says."""
        scores = numbers(pick(outputs, self._options.name), "scores of classes")
        scores = scores.reshape(len(scores), -1)
        if self._options.activation == "softmax":
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = powers / powers.sum(axis=1, keepdims=True)
        elif self._options.activation == "sigmoid":
            scores = 0.5 * (1 + np.tanh(0.5 * scores))  # which overflows for no number
        return [("probabilities", scores)]


def make(settings: ModelSettings, files: Files) -> ClassificationEncoder:
    """The encoder of a model's settings."""
    return ClassificationEncoder(settings.output)
