"""One job from where it is to its last row: read, compute, keep, and write the file that was asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import BinaryIO, TypeVar

import trio

from common.errors import ModelError
from common.tensor import TensorSpec
from gateway.catalog import Version
from gateway.doors.inputs import Signature
from gateway.jobs.computing import Computing, Piece
from gateway.jobs.job import BatchFiles, Job, next_chunk
from gateway.jobs.outputs import write_output
from gateway.jobs.pace import chunk_rows
from gateway.jobs.rows import Read, Result, pack_results, results_of, unpack_results
from gateway.jobs.sources import CsvLines, JsonLines, Parquet, Sent, Source
from gateway.jobs.storage import Facts, Storage, StorageError
from gateway.jobs.store import JobStore

T = TypeVar("T")

FIRST_ROWS = 64
MOST_ROWS = 8192
FILE_TIME = 120.0  # for one read of a chunk's rows: S3 answers in seconds or not at all


class Going:
    """What a running job needs of the gateway."""

    def __init__(self, computing: Computing, store: JobStore, storage: Storage) -> None:
        self.storage = storage
        self._computing = computing
        self._store = store

    async def run(self, job: Job, version: Version, moved: Callable[[Job], None]) -> None:
        """Compute what is left of a job, whose `moved` is called with each chunk further. `StorageError`, and
        `InvalidRequest` for an input that is not what it was."""
        with ExitStack() as stack:
            source = await _in_thread(self._open, job, version.inputs, stack)
            count = FIRST_ROWS
            while True:
                rows, position = await _in_thread(source.read, job.position, count)
                if not rows and position == job.position:
                    break
                began = trio.current_time()
                pieces = await self._computing.compute(version, rows)
                with trio.CancelScope(shield=True):  # what is computed is kept
                    job = await trio.to_thread.run_sync(self._keep, job, rows, pieces, position)
                moved(job)
                count = chunk_rows(max(1, len(rows)), trio.current_time() - began, most=MOST_ROWS)
        if job.files is not None:
            await self._write(job)

    def _open(self, job: Job, wanted: Signature, stack: ExitStack) -> Source:
        if job.files is None:
            return Sent(self._store.rows(job.id))
        if self.storage.facts(job.files.input) != Facts(job.files.size, job.files.stamp):
            raise ModelError(f"{job.files.input} is not what it was when the job was accepted")
        return open_file(stack.enter_context(self.storage.reading(job.files.input)), job.files, wanted)

    def _keep(self, job: Job, rows: Sequence[Read], pieces: Sequence[Piece], position: int) -> Job:
        outputs, results = gathered(job.outputs, rows, pieces)
        if job.files is None and (wrong := [r for r in results if isinstance(r, str)]):
            raise ModelError(f"row {job.rows_done + results.index(wrong[0])}: {wrong[0]}")
        failed = sum(isinstance(result, str) for result in results)
        chunk = next_chunk(job, len(rows), failed, position)
        return self._store.put_chunk(job, chunk, pack_results(results), outputs)

    async def _write(self, job: Job) -> None:
        stop = threading.Event()
        try:
            await trio.to_thread.run_sync(self._write_file, job, stop, abandon_on_cancel=True)
        finally:
            stop.set()

    def _write_file(self, job: Job, stop: threading.Event) -> None:
        assert job.files is not None
        with self.storage.replacing(job.files.output, job.id) as file:
            write_output(job, self._chunks(job, stop), file)

    def _chunks(self, job: Job, stop: threading.Event) -> Iterator[list[Result]]:
        for number in range(job.chunks):
            if stop.is_set():
                raise StorageError("the job was stopped")
            yield list(unpack_results(self._store.answers(job.id, number)))

    def answers(self, job: Job) -> list[Result]:
        """Every row's answer. Blocks."""
        return [result for chunk in self._chunks(job, threading.Event()) for result in chunk]


def open_file(file: BinaryIO, files: BatchFiles, wanted: Signature) -> Source:
    """The rows of a file; `InvalidRequest` where it has not what was asked for."""
    if files.format == "csv":
        return CsvLines(file, wanted, files.columns, files.header)
    if files.format == "parquet":
        return Parquet(file, wanted, files.columns)
    return JsonLines(file, wanted)


def gathered(
    known: tuple[TensorSpec, ...], rows: Sequence[Read], pieces: Sequence[Piece]
) -> tuple[tuple[TensorSpec, ...], list[Result]]:
    """(what one row's answer is, as far as is known; every row's own)."""
    results: list[Result] = [row if isinstance(row, str) else "it was not answered" for row in rows]
    for piece, answered in pieces:
        if isinstance(answered, str):
            own: list[Result] = [answered] * len(piece.at)
        else:
            known = known or answered.outputs
            own = results_of(answered, len(piece.at))
            if answered.outputs != known:
                own = ["the model's answer has another form than those before"] * len(piece.at)
        for at, result in zip(piece.at, own, strict=True):
            results[at] = result
    return known, results


async def _in_thread(read: Callable[..., T], *told: object) -> T:
    with trio.move_on_after(FILE_TIME) as scope:
        return await trio.to_thread.run_sync(partial(read, *told), abandon_on_cancel=True)
    assert scope.cancelled_caught
    raise StorageError(f"a file did not answer within {FILE_TIME:.0f} s")
