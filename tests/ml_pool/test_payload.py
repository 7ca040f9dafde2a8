"""collaboration: what one end packs is what the other end reads, from inline bytes and from segments."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest
import torch

from ml_pool import payload
from ml_pool.payload import INLINE, decode, encode
from ml_pool.segments import Segments

MIB = 1 << 20


def there_and_back(value: Any) -> tuple[Any, bool]:
    """The value as the other end has it, and whether it went by shared memory."""
    packed = encode(value).pack()
    return decode(packed.body, packed.fd)[0], packed.fd is not None


@pytest.mark.parametrize(
    "value", [None, 1, "text", b"bytes", [1, {"a": (2.5, None)}], "x" * (2 * MIB), b"y" * MIB]
)
def test_plain_objects_come_back_equal(value: Any) -> None:
    assert there_and_back(value)[0] == value


@pytest.mark.parametrize("size", [0, 1, 1000, 400_000])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "complex128", "<U3", "datetime64[s]"])
def test_arrays_come_back_equal_aligned_and_writable(size: int, dtype: str) -> None:
    sent = np.arange(size).astype(dtype)
    for expected in (sent, sent[::2], sent.reshape(-1, 1)):
        array, is_shared = there_and_back(expected)
        assert is_shared == (expected.nbytes > INLINE - 1000)
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype
        assert array.flags.writeable
        assert array.flags.aligned


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64, torch.complex64, torch.uint8]
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (700, 1000)])
def test_tensors_come_back_equal(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    sent = (torch.rand(shape) * 5).to(dtype)
    tensor, is_shared = there_and_back(sent)
    assert tensor.dtype == dtype
    assert tensor.shape == sent.shape
    assert torch.equal(tensor, sent)
    assert is_shared == (sent.numel() * sent.element_size() > INLINE)


def test_a_tensor_in_another_order_and_one_with_a_graph_come_back_too() -> None:
    sent = torch.rand(30, 40, requires_grad=True)
    assert torch.equal(there_and_back(sent.detach().t())[0], sent.detach().t())
    leaf, _ = there_and_back(sent)
    assert leaf.requires_grad
    computed, _ = there_and_back(sent * 2)
    assert not computed.requires_grad
    assert torch.equal(computed, sent.detach() * 2)
    assert torch.equal(
        there_and_back(torch.rand(3, 3).to_sparse())[0].to_dense().isnan(), torch.zeros(3, 3) > 0
    )


def test_what_is_written_into_an_array_nobody_else_sees() -> None:
    packed = encode(np.zeros(MIB, np.uint8)).pack()
    assert packed.fd is not None
    (one, _), (two, _) = (decode(packed.body, os.dup(packed.fd)) for _ in range(2))
    one[:] = 9
    assert two.sum() == 0
    assert decode(packed.body, packed.fd)[0].sum() == 0


def test_a_body_is_small_enough_to_be_sent_at_once() -> None:
    for size in (INLINE - 5000, INLINE - 4500, INLINE - 4096, INLINE, INLINE + 1, 10 * INLINE):
        packed = encode(b"x" * size).pack()
        assert len(packed.body) <= INLINE
        packed.close()
    many = encode([np.zeros(5000, np.uint8) for _ in range(10_000)]).pack()
    assert len(many.body) <= INLINE
    assert len(decode(many.body, many.fd)[0]) == 10_000


def test_a_segment_that_nobody_needs_serves_again_and_then_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    own = Segments(lambda: now)
    monkeypatch.setattr(payload, "segments", own)
    own.keepers.append(bool)
    before = len(os.listdir("/proc/self/fd"))
    array, _ = there_and_back(np.ones(16 * MIB, np.uint8))
    assert own.expire() is None  # it is in use
    del array
    assert own.expire() == 2.0
    packed = encode(np.zeros(15 * MIB, np.uint8)).pack()
    assert own.expire() is None  # taken
    assert decode(packed.body, packed.fd)[0].sum() == 0
    assert own.expire() == 2.0
    now = 2.5
    assert own.expire() is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_memfd_segments_are_files_that_have_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    packed = encode(np.ones(MIB, np.uint8)).pack()
    assert packed.fd is not None
    assert os.fstat(packed.fd).st_nlink == 0
    assert decode(packed.body, packed.fd)[0].sum() == MIB


def test_what_cannot_be_pickled_is_said_by_pickle() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        encode(threading.Lock())
