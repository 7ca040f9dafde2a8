"""The worker's data plane: a frame of rows in, a frame of answers out."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from itertools import compress

from common import wire
from common.errors import (
    CallerError,
    Draining,
    InvalidRequest,
    LoadError,
    PipelineError,
    TooLarge,
    WireError,
    WorkerLost,
)
from common.log import OncePer, event
from common.tensor import TensorSpec, row_ends
from common.tracing import Spans
from engine.execution import Execution
from engine.planes.counters import Counters
from engine.planes.tracing import note_batch
from engine.registry import Registry
from engine.staging import Staging

log = logging.getLogger("pipeline.worker")

MAX_DIMENSIONS = 32
FRAME_HEAD = 1 << 20  # what is kept for all that is not rows


class DataPlane:
    """Answers the frames of this worker's own link. Called from several threads at once.

    `on_used` makes it one for a single batch: it is called once that has been run.
    """

    def __init__(
        self,
        registry: Registry,
        staging: Staging,
        counters: Counters,
        on_used: Callable[[], None] | None = None,
    ) -> None:
        self._registry = registry
        self._staging = staging
        self._counters = counters
        self._noted = OncePer(10.0)
        self._idle = threading.Condition()
        self._busy = 0
        self._on_used = on_used
        self._is_used = False
        self.spans: Spans | None = None  # where they are wanted
        self.draining = False

    def handle(self, frame: memoryview) -> bytes:
        """One frame's answer; a frame that cannot be used is refused, never fatal. Raises nothing."""
        received = time.monotonic()
        with self._idle:
            self._busy += 1
        try:
            message, buffers = wire.decode(frame)
            if isinstance(message, wire.Batch):
                return self._run(message, buffers, received)
            if isinstance(message, wire.Chunk):
                return self._store(message, buffers)
            raise WireError(f"a link carries batches and chunks, not {type(message).__name__}")
        except WireError as error:
            self._note(logging.WARNING, "bad frame on the link", error)
            return _refusal(error)
        except (CallerError, LoadError, Draining) as error:
            return _refusal(error)
        except MemoryError as error:  # other workers may have some, and this one is as good as gone
            self._note(logging.ERROR, "out of memory", error)
            return _refusal(WorkerLost(f"the worker is out of memory: {error}"))
        except Exception as error:  # ours: the gateway is told, so that nobody waits for an answer
            self._note(logging.ERROR, "a frame could not be answered", error)
            return _refusal(PipelineError(f"{type(error).__name__}: {error}"))
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def drain(self, grace: float) -> bool:
        """Refuse new batches and wait until those in hand are answered; whether they were in time."""
        self.draining = True
        with self._idle:
            return self._idle.wait_for(lambda: self._busy == 0, timeout=grace)

    def _run(self, batch: wire.Batch, buffers: list[memoryview], received: float) -> bytes:
        if self.draining:
            raise Draining("the worker is leaving")
        with self._registry.use(batch.model, batch.version) as execution:
            if self._on_used is None or batch.is_lookup:
                return self._run_through(execution, batch, buffers, received)
            with self._idle:
                if self._is_used:
                    raise Draining("the worker is for one batch, and has had it")
                self._is_used = True
            try:
                return self._run_through(execution, batch, buffers, received)
            finally:
                self._on_used()

    def _run_through(
        self, execution: Execution, batch: wire.Batch, buffers: list[memoryview], received: float
    ) -> bytes:
        _check_sizes(batch, buffers)
        answers: list[wire.PartAnswer] = []
        outputs: list[bytes] = []
        counts: list[int] = []
        infer = 0.0
        at = 0
        for part in batch.parts:
            own = buffers[at : at + len(part.inputs)]
            ran = execution.look_up(part, own) if batch.is_lookup else execution.run(part, own, received)
            at += len(part.inputs)
            answers.append(ran.answer)
            # A request that was looked up in vain comes again, and counts then.
            counts += compress(part.counts, ran.answer.hits) if batch.is_lookup else part.counts
            outputs += ran.buffers
            infer += ran.infer
        size = sum(map(len, outputs))
        if size > 2 * wire.MAX_BATCH_BYTES - FRAME_HEAD:
            raise TooLarge(f"the model's answers have {size} bytes, more than a frame to the gateway may")
        self._counters.count(
            requests=len(counts),
            rows=sum(counts),
            handling=time.monotonic() - received,
            infer=infer,
        )
        waited = max(0.0, time.monotonic() - received - infer)
        if self.spans is not None and batch.traces:
            note_batch(self.spans, batch, waited=waited, infer=infer)
        return wire.encode(wire.BatchAnswer(batch.id, waited, infer, answers), outputs)

    def _store(self, chunk: wire.Chunk, buffers: list[memoryview]) -> bytes:
        if len(buffers) != 1:
            raise WireError(f"a chunk has one buffer, not {len(buffers)}")
        stored = self._staging.store(chunk.sha256, chunk.size, chunk.offset, buffers[0])
        return wire.encode(wire.ChunkStored(chunk.sha256, stored))

    def _note(self, level: int, text: str, error: Exception) -> None:
        suppressed = self._noted.allow(text, time.monotonic())
        if suppressed is not None:
            event(log, level, text, error=error, more=suppressed)
            log.debug("where it happened", exc_info=error)


def _check_sizes(batch: wire.Batch, buffers: list[memoryview]) -> None:
    """A frame whose buffers are not what its header says is refused before anything is read from them."""
    inputs = [(spec, part.counts) for part in batch.parts for spec in part.inputs]
    if len(inputs) != len(buffers):
        raise WireError(f"{len(buffers)} buffers for {len(inputs)} inputs")
    for (spec, counts), buffer in zip(inputs, buffers, strict=True):
        _check_size(spec, counts, buffer)
    for part in batch.parts:
        if len(part.timeouts) != len(part.counts):
            raise WireError(f"{len(part.timeouts)} timeouts for {len(part.counts)} requests")
        if math.isnan(sum(part.timeouts)):
            raise WireError("a timeout is not a number")


def _check_size(spec: TensorSpec, counts: list[int], buffer: memoryview) -> None:
    if (
        min(counts, default=0) < 0
        or len(spec.row_shape) > MAX_DIMENSIONS
        or min(spec.row_shape, default=0) < 0
    ):
        raise WireError(
            f"rows of shape {list(spec.row_shape)[:MAX_DIMENSIONS]} in counts of {counts[:MAX_DIMENSIONS]}"
        )
    try:
        if not spec.is_sized:
            row_ends(buffer, spec.row_elements, sum(counts))
        elif buffer.nbytes != spec.row_bytes * sum(counts):
            raise WireError(
                f"a buffer of {buffer.nbytes} bytes where the header says {spec.row_bytes * sum(counts)}"
            )
    except InvalidRequest as error:
        raise WireError(str(error)) from None


def _refusal(error: PipelineError) -> bytes:
    return wire.encode(wire.Refused(error.code, str(error)))
