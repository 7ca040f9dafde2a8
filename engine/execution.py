"""Running one part of a batch through one model version: deadlines, cache, equal rows, faults row by row.

Rows are bytes from the frame they came in to the frame they leave in; arrays are views made for the model
alone. The order of things:

1. Requests whose deadline has passed are left out. Rows are rounded where the cache says so.
2. Rows known to the cache are answered from it; equal rows, also those of other batches, are computed once.
3. The rest goes through the model together, at most `max_batch` at a time. If the model fails on rows
   together, those at fault are found out and fail alone (`batching`).
4. What another batch was computing is taken from it; what it left undone gets its own try.
5. A request with a failed row fails with that row's error; the others get their outputs (`answering`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from common.errors import ModelError, NotCached
from common.tensor import Buffer, TensorSpec
from common.wire import Part, RequestError
from engine.answering import Answering, Ran, answer_known, refuse_all
from engine.batching import Layout, Outcome, failure, run_rows
from engine.cache import Claim, PredictionCache, Value
from engine.rounding import round_columns
from engine.rows import Rows, digest, row_key
from engine.runtimes.runtime import Runtime, check_inputs

MAX_SHAPES = 1024  # shapes of input rows that a model of free shapes is remembered by


class Execution:
    """One loaded model version: its runtime, its cache, and the lock that lets one batch in at a time."""

    def __init__(self, runtime: Runtime, cache: PredictionCache, *, max_batch: int) -> None:
        self.cache = cache
        self._runtime = runtime
        self._max_batch = max_batch
        self._turn = threading.Lock()
        # What the outputs are for input rows of each shape. It only grows, so whoever finds a row in the
        # cache finds its layout here.
        self._layouts: dict[bytes, Layout] = {}
        self._is_shape_known = runtime.inputs is not None
        self._has_free_shapes = any(-1 in spec.row_shape for spec in runtime.inputs or ())
        self._signatures: dict[tuple[TensorSpec, ...], bytes] = {}

    @property
    def inputs(self) -> tuple[TensorSpec, ...] | None:
        """What one row of each input is, where the format says so."""
        return self._runtime.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...] | None:
        """What one row of each output is, where the format says so."""
        return self._runtime.outputs

    def known(self, inputs: tuple[TensorSpec, ...], columns: Sequence[bytes]) -> tuple[Layout, Value] | None:
        """One row's outputs, one after the other, where the cache has them; waits for nobody's batch.

        `inputs` are as the model takes them. Only what is known counts among the cache's figures.
        """
        cache = self.cache
        if not cache.capacity:
            return None
        signature = self._signature(inputs)
        layout = self._layouts.get(signature)
        if layout is None:
            return None
        if cache.round_decimals is not None:
            columns = [bytes(each) for each in round_columns(inputs, columns, cache.round_decimals)]
        value = cache.peek(row_key(signature, columns))
        return None if value is None else (layout, value)

    def run(self, part: Part, buffers: Sequence[Buffer], received: float) -> Ran:
        """Answer every request of the part, whose buffers are as long as it says.

        `received` is when its frame came, on `time.monotonic`.
        """
        try:
            check_inputs(self._runtime.inputs, part.inputs)
        except ModelError as error:
            return refuse_all(part, failure(error))
        buffers = round_columns(part.inputs, buffers, self.cache.round_decimals)
        signature = self._signature(part.inputs)
        rows = Rows(part.inputs, buffers, sum(part.counts))
        cache = self._cache_of(signature)
        keys = rows.keys(signature, is_kept=bool(cache.capacity))
        asked = time.perf_counter()
        claim = cache.claim(keys)
        lookup = time.perf_counter() - asked
        answering = Answering(part, keys, claim.values, received)
        self._compute(cache, claim, rows, answering, signature)
        undone = answering.collect(claim.waiting) if claim.waiting else {}
        while undone:
            claim = cache.claim(list(undone), again=True)
            answering.learn(undone, claim.values)
            claim.owned = {key: undone[key] for key in claim.owned}
            self._compute(cache, claim, rows, answering, signature)
            undone = answering.collect(claim.waiting)
        return answering.answer(self._layouts.get(signature), lookup)

    def look_up(self, part: Part, buffers: Sequence[Buffer]) -> Ran:
        """Answer the requests of the part whose rows the cache knows, and wait for nobody; the others get the
        error `not_cached`, also where the model would refuse them."""
        missing = RequestError(0, NotCached.code, "the row is not in the cache")
        signature = self._signature(part.inputs)
        layout = self._layouts.get(signature)
        try:
            check_inputs(self._runtime.inputs, part.inputs)
        except ModelError:
            layout = None
        if layout is None:
            return refuse_all(part, missing)
        buffers = round_columns(part.inputs, buffers, self.cache.round_decimals)
        keys = Rows(part.inputs, buffers, sum(part.counts)).keys(signature)
        asked = time.perf_counter()
        values = self.cache.peek_whole(keys, part.counts)
        return answer_known(part, values, layout, missing, time.perf_counter() - asked)

    def _compute(
        self, cache: PredictionCache, claim: Claim, rows: Rows, answering: Answering, signature: bytes
    ) -> None:
        """Run what the claim owns, as far as a request in time wants it."""
        if not claim.owned:
            return
        outcome = Outcome(self._layouts.get(signature))
        try:
            with self._turn:
                answering.note_time()
                wanted = answering.wanted(claim.owned)
                run_rows(self._runtime, rows, wanted, outcome, max_batch=self._max_batch)
                if outcome.layout is not None and cache is self.cache:
                    self._layouts[signature] = outcome.layout
        finally:
            cache.fulfil(claim, outcome.values)
        answering.take(outcome)

    def _cache_of(self, signature: bytes) -> PredictionCache:
        """Where rows of this shape are looked up: shapes beyond so many are not remembered at all."""
        if signature in self._layouts or len(self._layouts) < MAX_SHAPES:
            return self.cache
        return PredictionCache(0)

    def _signature(self, inputs: tuple[TensorSpec, ...]) -> bytes:
        """What tells rows of equal bytes and unlike shape apart: nothing, where all shapes are fixed."""
        if self._is_shape_known and not self._has_free_shapes:
            return b""
        signature = self._signatures.get(inputs)
        if signature is None:
            said = repr([spec.row_shape for spec in inputs] if self._is_shape_known else inputs)
            if len(self._signatures) >= MAX_SHAPES:
                self._signatures.clear()
            signature = self._signatures[inputs] = digest(said.encode())
        return signature
