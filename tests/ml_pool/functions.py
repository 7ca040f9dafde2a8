"""What the tests' workers load and run; they import it by its name."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import ml_pool


class Adder:
    """A model; `loaded_in` is the process that loaded it."""

    def __init__(self, term: float = 1.0) -> None:
        self.term = term
        self.loaded_in = os.getpid()


def load_adder(term: float = 1.0) -> Adder:
    return Adder(term)


def load_nothing() -> None:
    return None


def load_and_raise() -> None:
    raise ValueError("the weights are gone")


def load_and_crash() -> None:
    ctypes.string_at(0)


def load_if_there(path: str) -> Adder:
    return Adder(float(Path(path).read_text()))


def load_once(path: str) -> Adder:
    """Loads; whoever comes later is killed."""
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        os.kill(os.getpid(), signal.SIGKILL)
    return Adder()


def load_with_torch() -> Any:
    import torch

    return torch.nn.Linear(3, 1).eval()


def torch_threads(model: Any) -> tuple[int, float]:
    import torch

    with torch.inference_mode():
        return torch.get_num_threads(), float(model(torch.ones(512, 3)).sum())


def add(model: Adder, value: float, *, twice: bool = False) -> float:
    return value + model.term * (1 + twice)


def pid(model: Adder) -> int:
    return os.getpid()


def pids(model: Adder) -> tuple[int, int]:
    """This worker, and who loaded its model."""
    return os.getpid(), model.loaded_in


def echo(model: Adder, value: Any) -> Any:
    return value


def zeros(model: Adder, size: int) -> Any:
    return np.zeros(size, np.uint8)


def write_into(model: Adder, array: Any) -> float:
    array[:] = 7
    return float(array.sum())


def block(model: Adder, *_: Any) -> None:
    """Says that it has begun, and ends only with its process."""
    ml_pool.report("begun")
    threading.Event().wait()


def block_stubbornly(model: Adder) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    block(model)


def block_with_cleanup(model: Adder, path: str) -> None:
    try:
        block(model)
    finally:
        Path(path).write_text("cleaned up")


def block_with_a_child(model: Adder) -> None:
    """Blocks while a child of its own holds all of its sockets open."""
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    block(model)


def die(model: Adder, *_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


def crash(model: Adder) -> None:
    ctypes.string_at(0)


def leave(model: Adder) -> None:
    os._exit(3)


def die_once(model: Adder, path: str) -> str:
    """Dies the first time, whoever runs it."""
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return "alive"
    os.kill(os.getpid(), signal.SIGKILL)
    return "dead"


def divide(model: Adder, by: float) -> float:
    return 1 / by


def close_everything(model: Adder) -> None:
    """Goes on without its socket."""
    os.closerange(3, 1000)
    time.sleep(30)


class Unpicklable(Exception):
    """An exception that needs two arguments and says nothing of it to pickle."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__("unpicklable")
        self.lock = threading.Lock()


def raise_unpicklable(model: Adder) -> None:
    raise Unpicklable(1, 2)


def raise_system_exit(model: Adder) -> None:
    sys.exit(3)


def return_unpicklable(model: Adder) -> Any:
    return threading.Lock()


class Poisonous:
    """Pickles, and fails to be unpickled."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise RuntimeError("refused to be unpickled")


def return_poison(model: Adder) -> Any:
    return Poisonous()


def report_steps(model: Adder, steps: int) -> str:
    for step in range(steps):
        ml_pool.report((step + 1) / steps)
    return "done"


def sleep(model: Adder, seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def draw(model: Adder) -> float:
    return float(np.random.random())


def environment(model: Adder, name: str) -> tuple[str | None, str]:
    return os.environ.get(name), os.getcwd()


def signal_ignored(model: Adder) -> bool:
    """Whether a Ctrl-C at the terminal leaves this worker alone."""
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    return True


def print_line(model: Adder) -> None:
    print("a worker's line")


def run_true(model: Adder) -> int:
    """A program of the worker's own, whose end is none of the pool's business."""
    return subprocess.run(["true"], check=True).returncode
