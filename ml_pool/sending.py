"""What a program gives its workers: itself, so that they can import what it can, and calls to make.

Functions go by their names: a worker imports the module they are in. So lambdas, functions that were
defined in functions, and those of an interactive session cannot be sent, but for models of a pool that
forks.
"""

from __future__ import annotations

import inspect
import io
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from multiprocessing import process
from pathlib import Path
from typing import Any

from ml_pool.child import WorkerConfig
from ml_pool.exceptions import CallableCannotBeSent, UserProvidedCallableError
from ml_pool.payload import Encoded, encode

Load = Callable[[], Any]
Score = Callable[..., Any]


def configure(
    loaders: dict[str, Load], start_method: str, threads: int, share_models: bool
) -> tuple[WorkerConfig, set[str]]:
    """What the workers are told, and the modules that the loaders need; `MLPool` says what this raises."""
    for name, load in loaders.items():
        if not callable(load):
            raise UserProvidedCallableError(f"what should load model {name!r} cannot be called: {load!r}")
    preparation = _describe_program()
    if start_method == "fork":
        return WorkerConfig(preparation, loaders, threads, share_models), set()
    modules: set[str] = set()
    for name, load in loaders.items():
        try:
            check_importable(load)
            modules |= _modules_of(load)
        except Exception as error:
            raise CallableCannotBeSent(
                f"the function that should load model {name!r} cannot be sent to a worker ({error}): it has "
                "to be importable, so no lambda, and nothing that was defined in a function"
            ) from error
        modules |= set(getattr(load, "needed_modules", ()))
    return WorkerConfig(preparation, pickle.dumps(loaders), threads, share_models), modules


class Calls:
    """Pickles calls of scoring functions for the models of a pool."""

    def __init__(self, models: Iterable[str], start_method: str) -> None:
        self._models = frozenset(models)
        self._is_forked = start_method == "fork"

    def encode(
        self,
        number: int,
        function: Score,
        model_name: str,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
    ) -> Encoded:
        """The call as a job's content; `ValueError` for what no worker could run."""
        if model_name not in self._models:
            known = ", ".join(repr(name) for name in sorted(self._models)) or "none"
            raise ValueError(f"there is no model {model_name!r}; the pool has {known}")
        if not callable(function):
            raise ValueError(f"a scoring function can be called, {function!r} cannot")
        if inspect.iscoroutinefunction(function):
            raise ValueError(f"a scoring function is a plain function, {function!r} is a coroutine function")
        try:
            self._check(function)
            return encode((function, model_name, number, tuple(args or ()), dict(kwargs or {})))
        except Exception as error:
            raise self._why_not(function, error) from error

    def _check(self, function: Score) -> None:
        if not self._is_forked:
            check_importable(function)

    def _why_not(self, function: Score, error: Exception) -> CallableCannotBeSent:
        try:
            self._check(function)
            pickle.dumps(function)
        except Exception:
            return CallableCannotBeSent(
                f"{function!r} cannot be sent to a worker ({error}): a scoring function has to be "
                "importable, so no lambda, and nothing that was defined in a function"
            )
        return CallableCannotBeSent(f"an argument cannot be sent to a worker: {error}")


def check_importable(function: Any) -> None:
    """Raise `ValueError` for a function of a main module that no worker could import."""
    while isinstance(function, partial):
        function = function.func
    if getattr(function, "__module__", None) == "__main__" and not _main_is_importable():
        raise ValueError("the program's main module is no file that a worker could import")


def _main_is_importable() -> bool:
    main = sys.modules["__main__"]
    return _spec_name(main) is not None or getattr(main, "__file__", None) is not None


def _spec_name(module: Any) -> str | None:
    name: str | None = getattr(getattr(module, "__spec__", None), "name", None)
    return name


def _describe_program() -> dict[str, Any]:
    """What `forking.prepare` makes another process like this one with.

    `RuntimeError` while this very program is imported by one of its workers.
    """
    if getattr(process.current_process(), "_inheriting", False):
        raise RuntimeError(
            "a pool was made while a worker imported this program: make it under "
            '`if __name__ == "__main__":`, or in a function that is called from there'
        )
    preparation: dict[str, Any] = {
        "environ": dict(os.environ),
        "sys_path": list(sys.path),
        "sys_argv": list(sys.argv),
        "dir": str(Path.cwd()),
    }
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if (name := _spec_name(main)) is not None:
        preparation["init_main_from_name"] = name
    elif file is not None:
        began_in = getattr(process, "ORIGINAL_DIR", None) or "."
        preparation["init_main_from_path"] = str(Path(began_in, file))
    return preparation


def _modules_of(value: Any) -> set[str]:
    """The modules that unpickling a value imports. Raises what pickling raises."""
    pickler = _ModulesPickler(io.BytesIO(), protocol=5)
    pickler.dump(value)
    return pickler.modules - {"__main__", "builtins"}


class _ModulesPickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.modules: set[str] = set()

    def reducer_override(self, value: Any) -> Any:
        module = getattr(value, "__module__", None)
        if isinstance(module, str):
            self.modules.add(module)
        return NotImplemented
