"""Pure: engine/rows.py."""

import hashlib
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.tensor import DATATYPES, TensorSpec, pack_elements
from engine.rows import EXACT_KEY_BYTES, Rows, rows_of, split_rows


@given(st.integers(0, 40), st.integers(0, 20), st.data())
def test_rows_are_cut_as_slicing_would(width: int, count: int, data: st.DataObject) -> None:
    buffer = data.draw(st.binary(min_size=width * count, max_size=width * count))
    assert split_rows(buffer, width, count) == [buffer[i * width : (i + 1) * width] for i in range(count)]


def test_bytes_of_zero_at_a_rows_end_stay() -> None:
    assert split_rows(b"\0\1\0\0\0\0", 3, 2) == [b"\0\1\0", b"\0\0\0"]


def test_a_short_rows_key_is_its_bytes_and_a_long_ones_a_digest() -> None:
    short = Rows((TensorSpec("x", "UINT8", (EXACT_KEY_BYTES,)),), [bytes(EXACT_KEY_BYTES)], 1)
    assert short.keys(b"") == [bytes(EXACT_KEY_BYTES)]
    long = Rows((TensorSpec("x", "UINT8", (EXACT_KEY_BYTES,)),), [bytes(EXACT_KEY_BYTES)], 1)
    assert long.keys(b"s") == [hashlib.blake2b(b"s" + bytes(EXACT_KEY_BYTES), digest_size=16).digest()]


def test_a_key_holds_every_input_and_the_shape() -> None:
    specs = (TensorSpec("a", "UINT8", (2,)), TensorSpec("b", "UINT8", (1,)))
    assert Rows(specs, [b"abcd", b"xy"], 2).keys(b"[(2,), (1,)]") == [b"[(2,), (1,)]abx", b"[(2,), (1,)]cdy"]


def test_rows_are_put_together_in_the_order_asked_for() -> None:
    rows = Rows((TensorSpec("a", "FP32", (1, 2)),), [np.arange(6, dtype=np.float32).tobytes()], 3)
    assert rows.arrays([2, 0])[0].tolist() == [[[4.0, 5.0]], [[0.0, 1.0]]]
    assert rows.arrays([0, 1, 2])[0].tolist() == [[[0.0, 1.0]], [[2.0, 3.0]], [[4.0, 5.0]]]


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BF16"])
def test_an_array_of_every_datatype_is_torchs_without_a_warning(datatype: str) -> None:
    rows = Rows((TensorSpec("a", datatype, (2,)),), [bytes(6 * DATATYPES[datatype].itemsize)], 3)
    for indexes in ([0, 1, 2], [1]):
        (array,) = rows.arrays(indexes)
        assert array.itemsize == DATATYPES[datatype].itemsize
        assert array.flags.writeable
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.from_numpy(array).shape == (len(indexes), 2)


TEXT = TensorSpec("t", "BYTES", (2,))


@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=6))
def test_rows_of_bytes_are_cut_and_put_together_as_they_were(given_rows: list[tuple[bytes, bytes]]) -> None:
    buffer = pack_elements([element for row in given_rows for element in row])
    rows = Rows((TEXT,), [buffer], len(given_rows))
    assert rows.columns == [[pack_elements(row) for row in given_rows]]
    (array,) = rows.arrays(range(len(given_rows)))
    assert [tuple(row) for row in array.tolist()] == given_rows
    assert b"".join(rows_of(TEXT, array)) == buffer


def test_a_row_of_bytes_cannot_pass_for_the_digest_of_another() -> None:
    long = Rows((TEXT,), [pack_elements([b"a" * 99, b""])], 1)
    (digest,) = long.keys(b"")
    posing = TensorSpec("t", "BYTES", (1,))
    assert Rows((posing,), [pack_elements([digest[4:]])], 1).keys(b"") != [digest]
    assert len(Rows((posing,), [pack_elements([b"a"])], 1).keys(b"")[0]) == 16
