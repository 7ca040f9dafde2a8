"""Pure but for the memory: connections counted by several processes, as one `Crowd` would count them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.crowd import Crowd
from gateway.fronts.shared_crowd import SharedCrowd, make_table

ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"])


@pytest.fixture
def table() -> Iterator[int]:
    fd = make_table(3)
    yield fd
    os.close(fd)


@given(st.lists(st.tuples(st.integers(0, 2), ADDRESSES, st.booleans()), max_size=40))
def test_all_processes_count_as_one_would(changes):
    fd = make_table(3)
    crowds, one = [SharedCrowd(2, fd, row) for row in range(3)], Crowd(2)
    os.close(fd)
    here: list[tuple[int, str]] = []
    for process, address, comes in changes:
        if comes:
            here.append((process, address))
            assert crowds[process].enter(address) == one.enter(address)
        elif (process, address) in here:
            here.remove((process, address))
            crowds[process].leave(address)
            one.leave(address)
        assert [crowd.count for crowd in crowds] == [one.count] * 3


def test_whoever_has_died_has_no_connections(table):
    gateway, front, other = (SharedCrowd(2, table, row) for row in range(3))
    for _ in range(5):
        front.enter("192.0.2.1")
    other.enter("192.0.2.1")
    gateway.wipe(1)
    assert gateway.count == other.count == 1
    assert gateway.enter("192.0.2.1") == 0
    assert SharedCrowd(2, table, 1).enter("192.0.2.1") == 1


def test_each_table_has_addresses_in_buckets_of_its_own(table):
    names = [f"192.0.2.{n}" for n in range(8)]
    other = make_table(1)
    one, two = SharedCrowd(1, table, 0), SharedCrowd(1, other, 0)
    os.close(other)
    assert [one._bucket(name) for name in names] != [two._bucket(name) for name in names]
