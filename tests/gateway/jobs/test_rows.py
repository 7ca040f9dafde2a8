"""Pure: gateway/jobs/rows.py: rows in slices, and answers as they are kept."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidRequest
from common.tensor import TensorSpec, pack_elements, vector_spec
from gateway.doors.predict.inputs import Tensor
from gateway.jobs.rows import (
    NOT_FINITE,
    Answered,
    Row,
    halves,
    pack_results,
    plain,
    results_of,
    split_rows,
    take_slice,
    tensor_row,
    unpack_results,
    vector_row,
)

TWO = (TensorSpec("a", "INT64", ()), TensorSpec("b", "FP32", (2,)))


def number(value: float, width: int = 1) -> Row:
    return vector_row([value] * width, ())


rows_of_any_kind = st.lists(
    st.one_of(st.just("bad"), st.builds(number, st.integers(0, 9), st.integers(1, 2)))
)


@given(rows=rows_of_any_kind, most=st.integers(1, 4))
def test_slices_hold_every_row_once_in_order_and_never_two_signatures(rows, most):
    start, taken = 0, []
    while start < len(rows):
        piece, start = take_slice(rows, start, most)
        if piece is None:
            break
        assert 1 <= len(piece.at) <= most
        assert {rows[n].signature for n in piece.at} == {piece.signature}
        assert piece.buffers[0] == b"".join(rows[n].buffers[0] for n in piece.at)
        taken += piece.at
    assert taken == [n for n, row in enumerate(rows) if row != "bad"]


def test_halves_of_a_slice_are_its_rows():
    rows = [number(1), "bad", number(2), number(3)]
    whole, _ = take_slice(rows, 0, 10)
    left, right = halves(rows, whole)
    assert (left.at, right.at) == ([0], [2, 3])
    assert right.buffers[0] == array("f", [2, 3]).tobytes()


def test_rows_of_tensors_are_cut_out_of_all_of_them():
    buffers = array("q", [1, 2, 3]).tobytes(), array("f", range(6)).tobytes()
    rows = split_rows(TWO, buffers, 1, 2)
    assert [bytes(row.buffers[0]) for row in rows] == [array("q", [n]).tobytes() for n in (2, 3)]
    assert bytes(rows[1].buffers[1]) == array("f", [4, 5]).tobytes()


def test_a_vector_is_what_the_model_takes_where_that_is_known():
    assert vector_row([1.0], (TensorSpec("x", "INT64", (1,)),)).buffers == (array("q", [1]).tobytes(),)
    assert vector_row([1.0, 2.0], (TensorSpec("x", "INT64", (1,)),)).signature == vector_spec(2)


def test_a_line_of_tensors_is_one_row():
    assert tensor_row([Tensor("a", "INT64", [1], [7])]).buffers == (array("q", [7]).tobytes(),)
    with pytest.raises(InvalidRequest, match="inputs hold 2 rows: a line is one row"):
        tensor_row([Tensor("a", "INT64", [2], [7, 8])])


def test_answers_are_each_rows_own_and_come_back_from_where_they_are_kept():
    buffers = array("q", [2**60, 2]).tobytes(), array("f", [0.1, 1, float("nan"), 3]).tobytes()
    results = results_of(Answered(TWO, buffers), 2)
    assert results == [[[2**60], [pytest.approx(0.1), 1.0]], NOT_FINITE]
    assert list(unpack_results(pack_results(results))) == results
    assert array("f", results[0][1]).tobytes() == buffers[1][:8]


def test_a_number_is_shown_as_one():
    assert (plain([1.5]), plain([1.5, 2.5]), plain([])) == (1.5, [1.5, 2.5], [])


TEXT = (TensorSpec("text", "BYTES", ()),)


def test_rows_of_bytes_are_cut_where_they_end():
    buffer = pack_elements([b"one", b"", b"three"])
    rows = split_rows(TEXT, [buffer], 1, 2)
    assert [bytes(row.buffers[0]) for row in rows] == [pack_elements([b""]), pack_elements([b"three"])]


def test_answers_of_bytes_are_text_or_base64_of_what_is_none():
    answered = Answered(TEXT, (pack_elements(["né".encode(), b"\x89PNG"]),))
    assert results_of(answered, 2) == [[["né"]], [["iVBORw=="]]]
