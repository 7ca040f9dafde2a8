"""Runtime of a LightGBM model in its own text format."""

from __future__ import annotations

import lightgbm
import numpy as np
import torch

from common.errors import LoadError
from common.tensor import TensorSpec
from engine.rows import Array
from engine.runtimes.lightgbm_check import checked_lightgbm
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import Specs, first_line, layout_of, warm_up
from engine.runtimes.source import Source, read_source


class LightgbmRuntime:
    """A booster; it answers what its `predict` would. A value that is missing is NaN."""

    def __init__(self, booster: lightgbm.Booster, inputs: Specs, threads: int) -> None:
        self.inputs: Specs | None = inputs
        self.device = torch.device("cpu")
        self._booster = booster
        self._threads = threads
        self.outputs = warm_up(self, 2)

    def run(self, arrays: list[Array]) -> tuple[Specs, list[Array]]:
        (rows,) = arrays
        return layout_of([("result", np.asarray(self._booster.predict(rows, num_threads=self._threads)))])


def load(source: Source, options: LoadOptions, device: torch.device) -> LightgbmRuntime:
    """A warm runtime of float64 rows of as many numbers as the model has features, on the CPU.

    `LoadError` for what is no such model, or not all of it.
    """
    options.refuse("architecture", "arguments", "methods", because="LightGBM has no use for it")
    try:
        text = read_source(source).decode()
    except UnicodeDecodeError as error:
        raise LoadError("the file is no LightGBM model: it is no text") from error
    text = checked_lightgbm(text)
    try:
        booster = lightgbm.Booster(model_str=text)
        features = booster.num_feature()
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise LoadError(f"the file is no LightGBM model, or not all of it: {first_line(error)}") from error
    inputs = options.inputs or (TensorSpec("x", "FP64", (features,)),)
    return LightgbmRuntime(booster, inputs, torch.get_num_threads())
