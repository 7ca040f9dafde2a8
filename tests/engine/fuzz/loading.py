"""A worker's planes in a process of their own, and what it makes of a file. Nothing here is a test."""

from __future__ import annotations

import hashlib
import math
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from common import wire
from common.channel import Channel
from common.models import ModelInput, ModelSettings
from common.tensor import TensorSpec, pack_elements
from common.wire import Batch, BatchAnswer, Load, LoadAnswer, Part, VersionKey
from engine.rows import NUMPY_TYPES
from tests.engine.runtimes.conftest import Sample, make_sample
from tests.services.loading_worker import BATCH, SURVEY

ROOT = Path(__file__).resolve().parents[3]
SERVICE = ROOT / "tests" / "services" / "loading_worker.py"
TIME = 120.0  # for one answer; a trial is given 60
MOST_MEMORY = 1 << 30  # that the worker may have beyond what it began with
ITS_FAULT = ("model_error", "bad_request")
NUMBERS = (0.0, 1.0, -1.0, math.nan, math.inf, 1e38, -1e38, 2.0**31)


@dataclass
class Loaded:
    """What became of a file: a sentence, or that it serves."""

    refusal: str = ""


class LoadingWorker:
    """Holds one good model all along, and asks it after each file."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(TIME)
        command = [sys.executable, str(SERVICE), str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
        )
        theirs.close()
        self._channel = Channel(ours)
        self._id = self._survey(wire.Hello("gateway")).worker
        self._good = make_sample("torch state_dict")
        assert self.load(self._good) == Loaded()
        self._expected = self._answer("good", self._good)
        self._began_with = self._rss()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._channel.close()
        self._process.wait(TIME)

    def load(self, sample: Sample, *, name: str = "", version: str = "good") -> Loaded:
        """Have a file loaded by the name that it had where it came from."""
        key = VersionKey("m", version, hashlib.sha256(sample.data).hexdigest())
        given = tuple(
            ModelInput(name=spec.name, datatype=spec.datatype, shape=spec.row_shape)
            for spec in sample.options.inputs or ()
        )
        load = Load([self._id], key, len(sample.data), file=name, settings=ModelSettings(inputs=given))
        answer = self._survey(load, sample.data)
        assert isinstance(answer, LoadAnswer), f"a load is answered with {answer}"
        if not answer.ok:
            last = answer.trace.strip().splitlines()[-1]
            assert "common.errors.LoadError: " in answer.trace, answer.trace
            return Loaded(last)
        self._inputs = answer.inputs
        return Loaded()

    def serves(self, sample: Sample) -> None:
        """Rows of all kinds are answered, or refused one by one as the model's fault."""
        specs = tuple(_of_least_size(spec) for spec in self._inputs)
        for fill in NUMBERS:
            self._ask("damaged", specs, [_filled(spec, fill) for spec in specs])
        if [spec.datatype for spec in specs] == [_name(rows) for rows in sample.rows]:
            own = tuple(
                TensorSpec(spec.name, spec.datatype, rows.shape[1:])
                for spec, rows in zip(specs, sample.rows, strict=True)
            )
            self._ask("damaged", own, [rows[:1].tobytes() for rows in sample.rows])
        self._survey(wire.Drop([self._id], "m", "damaged"))

    def is_well(self) -> None:
        """The good model answers as it did, and nothing was kept of the others."""
        assert self._answer("good", self._good) == self._expected
        grown = self._rss() - self._began_with
        assert grown < MOST_MEMORY, f"the worker has grown by {grown >> 20} MiB"

    def _answer(self, version: str, sample: Sample) -> list[bytes]:
        return self._ask(version, self._inputs_of(sample), [sample.rows[0][:1].tobytes()])

    def _inputs_of(self, sample: Sample) -> tuple[TensorSpec, ...]:
        return (TensorSpec("vector", "FP32", sample.rows[0].shape[1:]),)

    def _ask(self, version: str, specs: tuple[TensorSpec, ...], buffers: list[bytes]) -> list[bytes]:
        batch = Batch(1, "m", version, [Part(specs, [1], [30.0])])
        answer, outputs = self._exchange(BATCH, wire.encode(batch, buffers))
        if isinstance(answer, wire.Refused):  # a model's answer may be too large to be sent
            assert answer.code == "too_large", answer
            return []
        assert isinstance(answer, BatchAnswer), answer
        [part] = answer.parts
        assert all(error.code in ITS_FAULT for error in part.errors), part.errors
        return [bytes(each) for each in outputs]

    def _survey(self, message: wire.Message, *buffers: bytes) -> Any:
        return self._exchange(SURVEY, wire.encode(message, buffers))[0]

    def _exchange(self, kind: int, frame: bytes) -> tuple[wire.Message, list[memoryview]]:
        try:
            self._channel.send(kind, frame)
            answer = self._channel.receive()
        except TimeoutError:
            self._process.kill()
            raise AssertionError(f"the worker takes longer than {TIME} s") from None
        if answer is None:
            raise AssertionError(f"the file ended the worker: {self._process.wait(TIME)}")
        assert answer.body, "the worker has no answer, and said why in its log"
        return wire.decode(answer.body)

    def _rss(self) -> int:
        return psutil.Process(self._process.pid).memory_info().rss


def _of_least_size(spec: TensorSpec) -> TensorSpec:
    """A row that a request may have: a model says -1 where a size is free, and each row has one."""
    return TensorSpec(spec.name, spec.datatype, tuple(abs(size) for size in spec.row_shape))


def _filled(spec: TensorSpec, fill: float) -> bytes:
    """A row of this number."""
    if not spec.is_sized:
        return pack_elements([b"%f" % fill] * math.prod(spec.row_shape))
    with np.errstate(all="ignore"):
        return np.full(spec.row_shape, fill).astype(NUMPY_TYPES[spec.datatype]).tobytes()


def _name(rows: Any) -> str:
    return {"float32": "FP32", "float64": "FP64"}[str(rows.dtype)]
