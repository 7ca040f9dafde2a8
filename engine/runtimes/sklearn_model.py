"""Runtime of a scikit-learn estimator or pipeline: saved by skops, or pickled, where pickles are allowed."""

from __future__ import annotations

import io
from typing import Any

import joblib
import numpy as np
import torch
from skops.io import get_untrusted_types
from skops.io import loads as read_skops

from common.errors import LoadError
from common.tensor import TensorSpec
from engine.rows import Array
from engine.runtimes.archives import check_archive
from engine.runtimes.filling import Outputs, choose_multiple, run_filled
from engine.runtimes.options import LoadOptions
from engine.runtimes.runtime import Specs, first_line, layout_of, warm_up
from engine.runtimes.source import Source, read_source

_METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")
_ZIP_MAGIC = b"PK\x03\x04"


class SklearnRuntime:
    """An estimator; each of its methods asked for is an output of that name."""

    def __init__(
        self, estimator: Any, inputs: Specs | None, methods: tuple[str, ...], rows_multiple: int
    ) -> None:
        self.inputs = inputs
        self.device = torch.device("cpu")
        self._methods = [(name, getattr(estimator, name)) for name in methods]
        self._rows_multiple = rows_multiple
        self.outputs = warm_up(self, rows_multiple)

    def run(self, arrays: list[Array]) -> tuple[Specs, list[Array]]:
        return layout_of(run_filled(self._call, arrays, self._rows_multiple))

    def _call(self, arrays: list[Array]) -> Outputs:
        (rows,) = arrays
        return [(name, np.asarray(method(rows))) for name, method in self._methods]


def load(source: Source, options: LoadOptions, device: torch.device) -> SklearnRuntime:
    """A warm runtime of float64 rows, unless `options.inputs` says otherwise, on the CPU.

    `LoadError` for a pickle where none is allowed, for types that are not trusted, for what is no
    estimator, and for one that answers with words.
    """
    options.refuse("architecture", "arguments", because="a scikit-learn model has no use for it")
    data = read_source(source)
    estimator = _read_trusted(data, options) if data.startswith(_ZIP_MAGIC) else _read_pickle(data, options)
    methods = options.methods or ("predict",)
    for name in methods:
        if name not in _METHODS or not callable(getattr(estimator, name, None)):
            raise LoadError(f"the file holds a {type(estimator).__name__}, which has no {name[:40]!r}")
    if "predict" in methods:
        _refuse_words(estimator)
    features = getattr(estimator, "n_features_in_", None)
    inputs = (TensorSpec("x", "FP64", (int(features),)),) if features is not None else None
    return SklearnRuntime(estimator, options.inputs or inputs, methods, choose_multiple(options, len(data)))


def _read_trusted(data: bytes, options: LoadOptions) -> Any:
    try:
        check_archive(io.BytesIO(data))
        untrusted = sorted(set(get_untrusted_types(data=data)) - set(options.trusted))
        if untrusted:
            raise LoadError(
                f"the file asks for types that nobody said to trust: {', '.join(untrusted)[:400]}; "
                "if each of them may be made of what a file says, list them as trusted"
            )
        return read_skops(data, trusted=list(options.trusted))
    except LoadError:
        raise
    except Exception as error:  # skops raises whatever its own pieces or the types' code do
        raise LoadError(f"the file is not what skops wrote, or not all of it: {first_line(error)}") from error


def _read_pickle(data: bytes, options: LoadOptions) -> Any:
    if not options.allow_pickle:
        raise LoadError(
            "the file is a pickle, which can run any code as it loads: save the model with skops, "
            "or start the worker with --allow-pickle"
        )
    try:
        return joblib.load(io.BytesIO(data))  # reads what pickle wrote as well
    except Exception as error:  # a pickle may raise anything
        raise LoadError(f"the pickle does not load: {first_line(error)}") from error


def _refuse_words(estimator: Any) -> None:
    classes = np.asarray(getattr(estimator, "classes_", 0))
    if classes.dtype.kind not in "biuf":
        raise LoadError(
            f"its predict answers with words ({', '.join(map(str, classes.flat[:3]))}…), and answers are "
            "numbers: ask for the method predict_proba instead"
        )
