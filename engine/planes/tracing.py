"""A worker's spans: one for each request of a batch that has a trace, as long as the batch was here."""

from __future__ import annotations

import time

from common import wire
from common.tracing import Spans


def note_batch(spans: Spans, batch: wire.Batch, *, waited: float, infer: float) -> None:
    """A batch has been run, and is about to be answered."""
    ended = time.time_ns()
    began = ended - round((waited + infer) * 1e9)
    rows = sum(sum(part.counts) for part in batch.parts)
    for traceparent in batch.traces:
        sampled, parent = spans.parent_of(traceparent)
        if sampled and parent is not None:
            told = {
                "pipeline.model": batch.model, "pipeline.version": batch.version, "pipeline.batch_rows": rows,
                "pipeline.infer_seconds": infer, "pipeline.wait_seconds": waited,
            }  # fmt: skip
            spans.begin("batch", "server", parent, began, **told).end(ended)
