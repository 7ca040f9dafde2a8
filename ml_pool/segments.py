"""Shared memory without names: files that exist only as long as somebody holds them open.

A segment is a memfd, handed from process to process as a file descriptor; the kernel frees it with the last
descriptor or mapping, whoever was killed. Its owner is whoever holds it: the sender fills it and lets go, and
the receiver, when it needs the data no more, keeps the memory for what it sends next.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable
from typing import NamedTuple

ALIGNMENT = 64  # of every part: what SIMD code likes, and more than any dtype asks for
# Pages of a fresh file cost as much as the copy into them: 100 MB take 35 ms, and 19 ms where they are there
# already (measured). Below a few MiB that is not worth a second descriptor.
_WORTH_KEEPING = 8 << 20
_KEEP_BYTES = 1 << 30
_KEEP_SECONDS = 2.0

Buffer = bytes | bytearray | memoryview


def offsets(lengths: Iterable[int]) -> list[int]:
    """Where each part begins, and at last where all of them end."""
    found = [0]
    for length in lengths:
        end = found[-1] + length
        found.append(end + -end % ALIGNMENT)
    return found


class _Spare(NamedTuple):
    fd: int
    size: int
    since: float


class Segments:
    """The segments that one process has to spare: big ones, at most 1 GiB, for two seconds.

    No lock: a mapping may end in any thread, in the middle of anything, so all that is done then is one
    append, and all that takes away is one pop. `keepers` are told of each append, and call `expire` when it
    is time; where there is none, nothing is kept.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.keepers: list[Callable[[], object]] = []
        self._spares: list[_Spare] = []
        self._clock = clock

    def write(self, parts: Iterable[Buffer], size: int) -> int:
        """A file descriptor of a segment with the parts, each at its offset."""
        fd = self._take(size)
        try:
            offset = 0
            for part in parts:
                offset += -offset % ALIGNMENT
                offset = _write_at(fd, part, offset)
            if os.fstat(fd).st_size < size:
                os.ftruncate(fd, size)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def map(self, fd: int, size: int) -> mmap.mmap:
        """The segment's memory, writable, and private: what is written to it nobody else sees. Takes the
        descriptor over."""
        try:
            mapping = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE)
        except BaseException:
            os.close(fd)
            raise
        if size < _WORTH_KEEPING:
            os.close(fd)
        else:
            weakref.finalize(mapping, self._keep, fd, os.getpid()).atexit = False
        return mapping

    def expire(self) -> float | None:
        """Give back what nobody wanted for two seconds; in how many seconds to call again, if at all."""
        now = self._clock()
        while self._spares and self._spares[0].since <= now - _KEEP_SECONDS:
            self._close_first()
        return _KEEP_SECONDS if self._spares else None

    def clear(self) -> None:
        """Give everything back."""
        while self._spares:
            self._close_first()

    def _take(self, size: int) -> int:
        """A spare segment that is large enough and not far too large, or a new one."""
        for spare in list(self._spares):
            if size <= spare.size <= 2 * size:
                try:
                    self._spares.remove(spare)
                except ValueError:  # another thread was faster
                    continue
                return spare.fd
        return _create()

    def _keep(self, fd: int, pid: int) -> None:
        if pid != os.getpid() or not self.keepers:  # a fork that drops what its parent had, or nobody left
            os.close(fd)
            return
        self._spares.append(_Spare(fd, os.fstat(fd).st_size, self._clock()))
        while sum(spare.size for spare in list(self._spares)) > _KEEP_BYTES:
            self._close_first()
        for tell in list(self.keepers):
            tell()

    def _close_first(self) -> None:
        with contextlib.suppress(IndexError):
            os.close(self._spares.pop(0).fd)


def _create() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("ml_pool")
    with tempfile.TemporaryFile() as file:  # unlinked as soon as it is there
        return os.dup(file.fileno())


def _write_at(fd: int, part: Buffer, offset: int) -> int:
    left = memoryview(part).cast("B")
    while left:
        written = os.pwrite(fd, left, offset)
        left = left[written:]
        offset += written
    return offset


segments = Segments()  # of this process
