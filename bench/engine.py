"""The engine's promises without any network: `python -m bench.engine`. Prints a table.

Exit codes: 0 every bound reached, 1 one missed.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import torch

from bench.figures import Figure, exit_code, table
from bench.programs import ROOT
from bench.run import SAMPLE
from bench.weights_file import state_dict
from common import wire
from common.tensor import vector_spec
from engine.planes.counters import Counters
from engine.planes.data import DataPlane
from engine.registry import Registry
from engine.runtimes.networks import SampleNetwork
from engine.server import ModelServer
from engine.staging import Staging

THREADS = 64
ROWS = 32
MODELS = 100
SMALL, LARGE = 250_000, 25_000_000  # float32 numbers in a file: 1 MB and 100 MB


class Bench:
    """The sample network, bare and served; `seconds` is how long one run of a load takes."""

    def __init__(self, directory: Path, seconds: float, repeats: int) -> None:
        self.directory = directory
        self.seconds = seconds
        self.repeats = repeats
        (file,) = (ROOT / "data").glob(f"{SAMPLE}_*.b64")
        self.weights = base64.b64decode(file.read_bytes())
        (directory / "sample.pt").write_bytes(self.weights)
        self.network = SampleNetwork().eval()
        self.network.load_state_dict(torch.load(directory / "sample.pt", weights_only=True))
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    def row(self) -> list[float]:
        """Another row each time, also for many threads: no cache knows it."""
        return [next(self._numbers) * 1e-4, 0.5]

    def bare(self) -> float:
        """One row through the bare model, from a list to a number."""
        with torch.inference_mode():
            return float(self.network(torch.tensor([[0.3, 0.7]])).item())

    def under_lock(self) -> float:
        """The same as threads do it that share a model."""
        with self._lock:
            return self.bare()

    def file(self, numbers: int, seed: int = 0) -> Path:
        """Weights of the sample network in a file of so many float32 numbers."""
        storage = torch.randn(numbers, generator=torch.Generator().manual_seed(seed))
        path = self.directory / f"{numbers}-{seed}.pt"
        torch.save(state_dict(storage), path)
        return path

    def medians(self, *calls: Callable[[], object], number: int = 2000) -> list[float]:
        """Microseconds that each takes: the median of many runs, taken in turns."""
        took: list[list[float]] = [[] for _ in calls]
        for _ in range(5 * self.repeats):
            for call, into in zip(calls, took, strict=True):
                began = time.perf_counter()
                for _ in range(number):
                    call()
                into.append((time.perf_counter() - began) / number * 1e6)
        return [statistics.median(each) for each in took]

    def rate(self, call: Callable[[], object]) -> float:
        """Calls a second of many threads."""
        counts = [0] * THREADS
        is_over = threading.Event()

        def repeat(index: int) -> None:
            while not is_over.is_set():
                call()
                counts[index] += 1

        threads = [threading.Thread(target=repeat, args=(index,)) for index in range(THREADS)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        time.sleep(self.seconds)
        is_over.set()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - began)

    def wakes(self) -> float:
        """How often a second one thread can wake many that do nothing else than wait for it."""
        waiting: SimpleQueue[threading.Lock | None] = SimpleQueue()

        def wake_all() -> None:
            while (asleep := waiting.get()) is not None:
                asleep.release()

        def sleep() -> None:
            asleep = threading.Lock()
            asleep.acquire()
            waiting.put(asleep)
            asleep.acquire()

        waker = threading.Thread(target=wake_all)
        waker.start()
        rate = self.rate(sleep)
        waiting.put(None)
        waker.join()
        return rate


def one_row(bench: Bench) -> Iterator[Figure]:
    """What a prediction costs beside the model's own time."""
    with ModelServer() as server:
        server.load_model("sample", bench.weights)
        bare, ours, known = bench.medians(
            bench.bare,
            lambda: server.predict("sample", bench.row()),
            lambda: server.predict("sample", [0.3, 0.7]),
        )
    note = f"{ours:.1f} µs, the bare model {bare:.1f} µs"
    yield Figure("one-row predict over the bare model", ours - bare, "µs", at_most=60, note=note)
    yield Figure("  a row that the cache knows", known, "µs")


def many_threads(bench: Bench) -> Iterator[Figure]:
    """Threads that predict, beside threads that call the model under a lock."""
    locked, served = [], []
    for _ in range(bench.repeats):
        locked.append(bench.rate(bench.under_lock))
        with ModelServer() as server:
            server.load_model("sample", bench.weights)
            served.append(bench.rate(lambda: server.predict("sample", bench.row())))
            size = server.get_metrics()["batches"]["mean_size"]
    ratio = statistics.median(ours / theirs for ours, theirs in zip(served, locked, strict=True))
    note = (
        f"{statistics.median(served):,.0f}/s in batches of {size:.0f}, "
        f"the model under a lock {statistics.median(locked):,.0f}/s"
    )
    yield Figure(f"{THREADS} threads over a lock", ratio, "times", at_least=3, note=note)
    floor = statistics.median(locked) / bench.wakes() * 100
    note = "threads that only block and are woken, of a call of the model under the lock; 3 times are 33 %"
    yield Figure("  floor: a wake alone", floor, "%", note=note)


def cache_hits(bench: Bench) -> Iterator[Figure]:
    """A worker's frame of rows that its cache knows, beside one of rows that it does not."""
    registry = Registry(device=torch.device("cpu"), cache_size=10_000)
    registry.load(wire.VersionKey("default", "1", "0"), bench.weights)
    staging = Staging()
    plane = DataPlane(registry, staging, Counters())

    def frame(rows: Sequence[Sequence[float]]) -> memoryview:
        part = wire.Part(vector_spec(2), [1] * len(rows), [30.0] * len(rows))
        data = b"".join(struct.pack("<2f", *row) for row in rows)
        return memoryview(wire.encode(wire.Batch(1, "default", "1", [part]), [data]))

    known = frame([bench.row() for _ in range(ROWS)])
    plane.handle(known)
    hits, misses = bench.medians(
        lambda: plane.handle(known),
        lambda: plane.handle(frame([bench.row() for _ in range(ROWS)])),
        number=200,
    )
    staging.close()
    note = f"in frames of {ROWS}, decoding and encoding included; a miss {misses / ROWS:.2f} µs"
    yield Figure("cache hit in the worker", hits / ROWS, "µs a row", at_most=3, note=note)


def loading(bench: Bench) -> Iterator[Figure]:
    """Predictions of one model while another of 100 MB is loaded again and again."""
    path = bench.file(LARGE)
    with ModelServer(cache_size=0) as server:
        server.load_model("sample", bench.weights)
        is_over = threading.Event()
        loads: list[float] = []

        def load() -> None:
            while not is_over.is_set():
                began = time.perf_counter()
                server.load_model("large", path if len(loads) % 2 else path.read_bytes())
                server.unload_model("large")
                loads.append(time.perf_counter() - began)

        alone = _p99(server, bench)
        loader = threading.Thread(target=load)
        loader.start()
        beside = _p99(server, bench)
        is_over.set()
        loader.join()
    path.unlink()
    each = statistics.median(loads)
    note = f"p99 {beside:.2f} ms beside {len(loads)} loads of {each:.2f} s, {alone:.2f} alone"
    yield Figure("a load delays another model by", beside - alone, "ms at p99", at_most=50, note=note)


def _p99(server: ModelServer, bench: Bench) -> float:
    took = []
    end = time.perf_counter() + 2 * bench.seconds
    while (began := time.perf_counter()) < end:
        server.predict("sample", bench.row())
        took.append(time.perf_counter() - began)
        time.sleep(0.0005)
    return float(np.percentile(took, 99)) * 1e3


def many_models(bench: Bench) -> Iterator[Figure]:
    """The first model alone, beside the hundredth of a hundred."""
    paths = [bench.file(SMALL, seed) for seed in range(MODELS)]
    with ModelServer() as alone, ModelServer() as crowded:
        alone.load_model("model-0", paths[0])
        loads = []
        for index, path in enumerate(paths):
            began = time.perf_counter()
            crowded.load_model(f"model-{index}", path)
            loads.append((time.perf_counter() - began) * 1e3)
        last = f"model-{MODELS - 1}"
        first_hit, last_hit, first_miss, last_miss = bench.medians(
            lambda: alone.predict("model-0", [0.3, 0.7]),
            lambda: crowded.predict(last, [0.3, 0.7]),
            lambda: alone.predict("model-0", bench.row()),
            lambda: crowded.predict(last, bench.row()),
        )
    note = f"{last_hit:.2f} µs, the only one {first_hit:.2f} µs (rows in the cache: all of it is routing)"
    yield Figure(
        f"model {MODELS} of {MODELS} over the only one", last_hit / first_hit, "times", at_most=1.1, note=note
    )
    note = f"{last_miss:.1f} µs and {first_miss:.1f} µs"
    yield Figure("  and with the model run", last_miss / first_miss, "times", note=note)
    early, late = statistics.median(loads[:10]), statistics.median(loads[-10:])
    yield Figure(
        "  loading the last ten, over the first ten",
        late / early,
        "times",
        note=f"{late:.1f} and {early:.1f} ms",
    )


MEASUREMENTS = {each.__name__: each for each in (one_row, many_threads, cache_hits, loading, many_models)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; an exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.engine", description="Measure the engine, here and now."
    )
    parser.add_argument(
        "--only", action="append", choices=MEASUREMENTS, metavar="NAME",
        help=f"one of {', '.join(MEASUREMENTS)}; may be given again",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="short runs: figures to look at, not to quote")
    arguments = parser.parse_args(argv)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as directory:
        bench = Bench(Path(directory), *((0.5, 1) if arguments.quick else (2.0, 3)))
        for name in arguments.only or MEASUREMENTS:
            print(f"{name} …", file=sys.stderr, flush=True)
            figures += MEASUREMENTS[name](bench)
    print(table(figures))
    return exit_code(figures)


if __name__ == "__main__":
    sys.exit(main())
