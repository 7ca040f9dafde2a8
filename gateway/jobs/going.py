"""One job from where it is to its last row: read, compute, keep, and write the file that was asked for."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import chain, islice
from typing import Any, BinaryIO, TypeVar

import trio

from common.errors import InvalidRequest, ModelError
from common.tensor import TensorSpec
from gateway.doors.json import JsonReader
from gateway.doors.predict.inputs import Signature
from gateway.jobs.computing import Computing, Piece
from gateway.jobs.job import BatchFiles, Job, next_chunk
from gateway.jobs.outputs import WRITERS, Writer
from gateway.jobs.pace import chunk_rows
from gateway.jobs.rows import Read, Result, pack_results, size_of, unpack_results
from gateway.jobs.sources import MAX_BYTES, CsvLines, JsonLines, Parquet, Sent, Source
from gateway.jobs.storage import Facts, Storage, StorageError
from gateway.jobs.store import JobStore
from gateway.models.catalog import Version

T = TypeVar("T")

FIRST_ROWS = 64
MOST_ROWS = 8192
CLOSE_TIME = 5.0
FILE_TIME = 120.0  # for one read of a chunk's rows: S3 answers in seconds or not at all


class Going:
    """What a running job needs of the gateway."""

    def __init__(
        self, computing: Computing, store: JobStore, storage: Storage, json: JsonReader | None = None
    ) -> None:
        self.storage = storage
        self._json = json or JsonReader()
        self._computing = computing
        self._store = store

    async def run(self, job: Job, version: Version, moved: Callable[[Job], None]) -> None:
        """Compute what is left of a job, whose `moved` is called with each chunk further. `StorageError`, and
        `InvalidRequest` for an input that is not what it was."""
        stack = ExitStack()
        try:
            source = await _in_thread(self._open, job, version.inputs, stack)
            job = await self._compute(job, version, source, moved)
        finally:
            await _close(stack)
        if job.files is not None:
            await self._write(job)

    async def _compute(self, job: Job, version: Version, source: Source, moved: Callable[[Job], None]) -> Job:
        count = FIRST_ROWS
        while True:
            began = trio.current_time()
            rows, position = await self._read(source, job.position, count)
            if not rows and position == job.position:
                return job
            pieces = await self._computing.compute(version, rows)
            with trio.CancelScope(shield=True):  # what is computed is kept
                job = await trio.to_thread.run_sync(self._keep, job, rows, pieces, position)
            moved(job)
            count = chunk_rows(max(1, len(rows)), trio.current_time() - began, most=MOST_ROWS)

    def _open(self, job: Job, wanted: Signature, stack: ExitStack) -> Source:
        if job.files is None:
            return Sent(self._store.rows(job.id))
        if self.storage.facts(job.files.input) != Facts(job.files.size, job.files.stamp):
            raise InvalidRequest(f"{job.files.input} is not what it was when the job was accepted")
        return self.open_file(stack.enter_context(self.storage.reading(job.files.input)), job.files, wanted)

    def open_file(self, file: BinaryIO, files: BatchFiles, wanted: Signature) -> Source:
        """The rows of a file; `InvalidRequest` where it has not what was asked for."""
        if files.format == "csv":
            return CsvLines(file, wanted, files.columns, files.header)
        if files.format == "parquet":
            return Parquet(file, wanted, files.columns)
        return JsonLines(file, wanted, self._json)

    def _keep(self, job: Job, rows: Sequence[Read], pieces: Sequence[Piece], position: int) -> Job:
        outputs, results = gathered(job.outputs, rows, pieces)
        if job.files is None and (wrong := [r for r in results if isinstance(r, str)]):
            raise ModelError(f"row {job.rows_done + results.index(wrong[0])}: {wrong[0]}")
        failed = sum(isinstance(result, str) for result in results)
        chunk = next_chunk(job, len(rows), failed, position)
        return self._store.put_chunk(job, chunk, pack_results(results), outputs)

    async def _read(self, source: Source, position: int, count: int) -> tuple[list[Read], int]:
        """A chunk's rows, a few at a time, and where to go on."""
        rows: list[Read] = []
        taken = 0
        while len(rows) < count and taken < MAX_BYTES:
            wanted = min(count - len(rows), self._computing.step)
            more, after = await _bounded(self._computing.gently(source.read, position, wanted))
            rows += more
            taken += sum(map(size_of, more))
            if after == position:
                break
            position = after
        return rows, position

    async def _write(self, job: Job) -> None:
        """The file of all answers, from those that are kept."""
        assert job.files is not None
        stack = ExitStack()
        try:
            place = self.storage.replacing(job.files.output, job.id)
            file = await _in_thread(stack.enter_context, place)
            writer = await _in_thread(WRITERS[job.files.format], file, job.outputs)
            for number in range(job.chunks):
                results = unpack_results(await _in_thread(self._store.answers, job.id, number))
                while await self._computing.gently(_copy, results, writer, self._computing.step):
                    pass
            await _in_thread(writer.close)
        except BaseException:
            await _close(stack, *sys.exc_info())
            raise
        await _in_thread(stack.close)

    def answers(self, job: Job) -> list[Result]:
        """Every row's answer. Blocks."""
        chunks = (unpack_results(self._store.answers(job.id, number)) for number in range(job.chunks))
        return list(chain.from_iterable(chunks))


def _copy(results: Iterator[Result], writer: Writer, count: int) -> int:
    some = list(islice(results, count))
    writer.write(some)
    return len(some)


def gathered(
    known: tuple[TensorSpec, ...], rows: Sequence[Read], pieces: Sequence[Piece]
) -> tuple[tuple[TensorSpec, ...], list[Result]]:
    """(what one row's answer is, as far as is known; every row's own)."""
    results: list[Result] = [row if isinstance(row, str) else "it was not answered" for row in rows]
    for at, own, outputs in pieces:
        known = known or outputs
        is_alike = not outputs or outputs == known
        for n, result in zip(at, own, strict=True):
            results[n] = result if is_alike else "the model's answer has another form than those before"
    return known, results


async def _in_thread(work: Callable[..., T], *told: object) -> T:
    return await _bounded(trio.to_thread.run_sync(partial(work, *told), abandon_on_cancel=True))


async def _bounded(reading: Awaitable[T]) -> T:
    with trio.move_on_after(FILE_TIME):
        return await reading
    raise StorageError(f"a file did not answer within {FILE_TIME:.0f} s")


async def _close(stack: ExitStack, *because: Any) -> None:
    """Close files, whatever else is cancelled; those that do not let themselves be closed are left."""
    with trio.move_on_after(CLOSE_TIME, shield=True), suppress(Exception):
        await trio.to_thread.run_sync(stack.__exit__, *(because or (None,) * 3), abandon_on_cancel=True)
