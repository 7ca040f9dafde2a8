"""How many connections there are in all processes of a gateway: a table in memory that they share.

Each process has a row, which it alone writes, and adds up all rows to read. So there is no lock, and whoever
dies leaves a row that the gateway wipes. Two that take the last place in the same moment are one too many.
"""

from __future__ import annotations

import hashlib
import mmap
import os

from common.addresses import network_of

BUCKETS = 16_384
_KEY = 32  # bytes, at the beginning
_ROW = 1 + BUCKETS  # all connections, and those of the addresses of each bucket
_NUMBER = 4  # bytes


class SharedCrowd:
    """As `Crowd`, of all processes together. Addresses that share a bucket are counted as one, as one in
    16,384 does with another; which these are depends on the table's key, so nobody can choose them."""

    def __init__(self, most: int, table: int, row: int) -> None:
        """`table` is the descriptor of one, and `row` this process's."""
        self.most = most
        whole = memoryview(mmap.mmap(table, os.fstat(table).st_size))
        numbers = whole[_KEY:].cast("I")
        self._rows = [numbers[at : at + _ROW] for at in range(0, len(numbers), _ROW)]
        self._own = self._rows[row]
        self._key = bytes(whole[:_KEY])

    @property
    def count(self) -> int:
        """How many there are, everywhere."""
        return sum([row[0] for row in self._rows])

    def enter(self, address: str) -> int:
        """One more is here; by how many that is too many of its address everywhere, 0 for none. It has to
        `leave` in any case."""
        bucket = self._bucket(address)
        self._own[0] += 1
        self._own[bucket] += 1
        return max(0, sum([row[bucket] for row in self._rows]) - self.most)

    def leave(self, address: str) -> None:
        """One has gone from here."""
        self._own[0] -= 1
        self._own[self._bucket(address)] -= 1

    def wipe(self, row: int) -> None:
        """The process of a row has ended, and its connections with it."""
        self._rows[row][:] = memoryview(bytes(_ROW * _NUMBER)).cast("I")

    def _bucket(self, address: str) -> int:
        digest = hashlib.blake2b(network_of(address).encode(), key=self._key, digest_size=8).digest()
        return 1 + int.from_bytes(digest, "little") % BUCKETS


def make_table(rows: int) -> int:
    """The descriptor of a table for so many processes, with nobody in it."""
    fd = os.memfd_create("pipeline-crowd", os.MFD_CLOEXEC)
    os.ftruncate(fd, _KEY + rows * _ROW * _NUMBER)
    os.pwrite(fd, os.urandom(_KEY), 0)
    return fd
