"""Runtime of an XGBoost model in its own formats, JSON and UBJSON."""

from __future__ import annotations

import torch
import xgboost
from xgboost.core import XGBoostError

from common.errors import LoadError
from common.tensor import TensorSpec
from engine.rows import Array
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import Specs, first_line, layout_of, warm_up
from engine.runtimes.source import Source, read_source
from engine.runtimes.xgboost_check import check_xgboost


class XgboostRuntime:
    """A booster. It answers what its `predict` would: with early stopping, of the best iteration, as
    XGBoost's scikit-learn classes do. A value that is missing is NaN."""

    def __init__(self, booster: xgboost.Booster, inputs: Specs, kind: str) -> None:
        self.inputs: Specs | None = inputs
        self.device = torch.device("cpu")
        self._booster = booster
        # A matrix costs a copy; without one, linear models are not taken and dart's trees summed otherwise.
        self._needs_matrix = kind != "gbtree"
        best = booster.attr("best_iteration")
        self._iterations = (0, 0 if best is None or kind == "gblinear" else int(best) + 1)
        self.outputs = warm_up(self, 2)

    def run(self, arrays: list[Array]) -> tuple[Specs, list[Array]]:
        (rows,) = arrays
        if self._needs_matrix:
            matrix = xgboost.DMatrix(rows)
            answers = self._booster.predict(matrix, iteration_range=self._iterations, validate_features=False)
        else:
            answers = self._booster.inplace_predict(
                rows, iteration_range=self._iterations, validate_features=False
            )
        return layout_of([("result", answers)])


def load(source: Source, options: LoadOptions, device: torch.device) -> XgboostRuntime:
    """A warm runtime of float32 rows of as many numbers as the model has features, on the CPU.

    `LoadError` for what is no such model, or has trees that lead nowhere.
    """
    options.refuse("architecture", "arguments", "methods", because="XGBoost has no use for it")
    data = read_source(source)
    try:
        kind = check_xgboost(data)
        booster = xgboost.Booster({"nthread": torch.get_num_threads()})
        booster.load_model(bytearray(data))
        features = int(booster.num_features())
    except (XGBoostError, ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        raise LoadError(f"the file is no XGBoost model, or not all of it: {first_line(error)}") from error
    inputs = options.inputs or (TensorSpec("x", "FP32", (features,)),)
    return XgboostRuntime(booster, inputs, kind)
