"""Pure: common/tensor.py; numbers in, bytes and sentences out."""

import math
import struct
from array import array
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import InvalidRequest
from common.tensor import (
    DATATYPES,
    Datatype,
    TensorSpec,
    all_finite,
    element_ends,
    elements,
    floats,
    pack_elements,
    pack_vector,
    pack_vectors,
    row_end,
    row_ends,
    values,
    vector_spec,
)

BEYOND = "beyond float32's range of ±3.4e38"
LARGEST = 3.4028234663852886e38
ROUNDS_DOWN = math.nextafter(2.0**128 - 2.0**103, 0)  # the largest double that is still a float32
ROUNDS_UP = 2.0**128 - 2.0**103

float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
numbers = (
    float32s | st.floats() | st.sampled_from([LARGEST, ROUNDS_DOWN, ROUNDS_UP, -ROUNDS_DOWN, -ROUNDS_UP])
)


def fits(number: float) -> bool:
    try:
        return math.isfinite(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return False


@pytest.mark.parametrize(
    ("datatype", "itemsize", "numbers"),
    [
        ("BOOL", 1, [True, False]),
        ("INT8", 1, [-(2**7), 2**7 - 1]),
        ("INT16", 2, [-(2**15), 2**15 - 1]),
        ("INT32", 4, [-(2**31), 2**31 - 1]),
        ("INT64", 8, [-(2**63), 2**63 - 1]),
        ("UINT8", 1, [0, 2**8 - 1]),
        ("UINT16", 2, [0, 2**16 - 1]),
        ("UINT32", 4, [0, 2**32 - 1]),
        ("UINT64", 8, [0, 2**64 - 1]),
        ("FP32", 4, [1.5, -LARGEST]),
        ("FP64", 8, [0.1, -1e308]),
    ],
)
def test_a_datatype_holds_its_extremes_in_its_number_of_bytes(
    datatype: str, itemsize: int, numbers: list[Any]
) -> None:
    code = DATATYPES[datatype].code
    packed = struct.pack(f"<2{code}", *numbers)
    assert len(packed) == 2 * itemsize == TensorSpec("x", datatype, (2,)).row_bytes
    assert values(packed, datatype) == numbers
    assert values(memoryview(packed), datatype) == numbers


def test_no_datatype_is_left_out_above() -> None:
    assert " ".join(DATATYPES) == "BOOL INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 FP16 BF16 FP32 FP64"


@pytest.mark.parametrize(
    ("shape", "row_bytes"),
    [((), 4), ((1,), 4), ((3, 2), 24), ((0,), 0), ((7, 0, 2), 0), ((2**40, 2**40), 2**82)],
)
def test_a_row_takes_the_product_of_its_dimensions(shape: tuple[int, ...], row_bytes: int) -> None:
    assert TensorSpec("x", "FP32", shape).row_bytes == row_bytes


def test_a_row_of_a_datatype_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidRequest) as caught:
        _ = TensorSpec("x", "BYTES", (1,)).row_bytes
    assert str(caught.value) == (
        "datatype 'BYTES' is not known, or its rows differ in size: use one of"
        " BOOL, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FP16, BF16, FP32, FP64"
    )


@pytest.mark.parametrize("shape", [(-1,), (-2, -3), (5, -1), (0, -1)])
def test_a_row_of_a_negative_dimension_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match=r"^a row of shape \[.*\] has a negative dimension$"):
        _ = TensorSpec("x", "FP32", shape).row_bytes


def test_a_vector_is_one_float32_input_of_its_width() -> None:
    assert vector_spec(28) == (TensorSpec("vector", "FP32", (28,)),)
    assert vector_spec(28) is vector_spec(28)


def test_a_vector_is_packed_as_little_endian_float32() -> None:
    assert pack_vector([1.0, -2.5, 0]) == b"\0\0\x80\x3f\0\0\x20\xc0\0\0\0\0"
    assert pack_vector([]) == b""


def test_vectors_are_packed_one_after_the_other() -> None:
    assert pack_vectors([[1.0, 2.0], [3.0, 4.0], [5, 6]]) == (2, struct.pack("<6f", 1, 2, 3, 4, 5, 6))
    assert pack_vectors([[], []]) == (0, b"")


@given(st.lists(float32s, max_size=50))
def test_a_packed_vector_is_read_back_as_it_was(vector: list[float]) -> None:
    packed = pack_vector(vector)
    assert floats(packed).tolist() == values(packed, "FP32") == vector
    assert pack_vectors([vector, vector]) == (len(vector), packed + packed)


@given(st.integers(0, 5).flatmap(lambda w: st.lists(st.lists(numbers, min_size=w, max_size=w), min_size=1)))
@example([[ROUNDS_DOWN, 1e39]])
@example([[0.0], [LARGEST], [math.inf, 1.0]])
def test_vectors_are_packed_as_float32_or_the_first_number_that_is_none_is_named(
    vectors: list[list[float]],
) -> None:
    widths = {len(row) for row in vectors}
    if len(widths) > 1:
        with pytest.raises(InvalidRequest):
            pack_vectors(vectors)
        return
    unfit = [(i, j) for i, row in enumerate(vectors) for j, number in enumerate(row) if not fits(number)]
    if unfit:
        i, j = unfit[0]
        with pytest.raises(InvalidRequest) as caught:
            pack_vectors(vectors)
        assert str(caught.value) == f"vectors[{i}][{j}] is {vectors[i][j]!r}, {BEYOND}"
    else:
        assert pack_vectors(vectors) == (
            len(vectors[0]),
            b"".join(struct.pack("<f", x) for row in vectors for x in row),
        )


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)))
@example([ROUNDS_DOWN, 1e39])
def test_a_vector_is_packed_as_float32_or_the_first_number_that_is_none_is_named(vector: list[float]) -> None:
    unfit = [i for i, number in enumerate(vector) if not fits(number)]
    if unfit:
        with pytest.raises(InvalidRequest) as caught:
            pack_vector(vector)
        assert str(caught.value) == f"vector[{unfit[0]}] is {vector[unfit[0]]!r}, {BEYOND}"
    else:
        assert pack_vector(vector) == b"".join(struct.pack("<f", number) for number in vector)


def test_the_first_row_of_another_width_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        pack_vectors([[1.0, 2.0], [3.0, 4.0], [5.0], [6.0, 7.0, 8.0]])
    assert str(caught.value) == "vectors[2] has 1 numbers and vectors[0] has 2: all rows must be alike"


@given(st.lists(float32s | st.sampled_from([math.nan, math.inf, -math.inf])))
def test_all_finite_sees_every_nan_and_infinity_among_float32_numbers(vector: list[float]) -> None:
    assert all_finite(floats(array("f", vector).tobytes())) is all(map(math.isfinite, vector))


def test_infinities_of_both_signs_do_not_hide_each_other() -> None:
    assert not all_finite([math.inf, -math.inf])
    assert all_finite([LARGEST] * 1000)
    assert all_finite([])


def test_floats_is_a_view_and_not_a_copy() -> None:
    buffer = bytearray(8)
    view = floats(buffer)
    view[1] = 1.0
    assert buffer == b"\0\0\0\0\0\0\x80\x3f"


def test_floats_refuses_a_buffer_that_is_no_whole_number_of_them() -> None:
    with pytest.raises(TypeError, match="not a multiple of itemsize"):
        floats(bytes(7))


@given(st.sampled_from(list(DATATYPES.values())), st.integers(0, 8), st.binary(min_size=64, max_size=64))
def test_any_bytes_of_a_whole_number_of_elements_are_values(
    datatype: Datatype, count: int, data: bytes
) -> None:
    data = data[: count * datatype.itemsize]
    numbers = values(data, datatype.name)
    assert len(numbers) * datatype.itemsize == len(data)
    if datatype.name == "BOOL":
        assert numbers == [byte != 0 for byte in data]
    elif datatype.name == "BF16":
        wide = [struct.unpack("<f", b"\0\0" + data[at : at + 2])[0] for at in range(0, len(data), 2)]
        assert list(map(repr, numbers)) == list(map(repr, wide))
    elif datatype.name == "FP16":
        assert list(map(repr, numbers)) == list(map(repr, struct.unpack(f"<{count}e", data)))
    elif all(number == number for number in numbers):  # a NaN has payload bits, which need not survive
        assert struct.pack(f"<{len(numbers)}{datatype.code}", *numbers) == data


# --- BYTES


@given(st.lists(st.binary(max_size=9), max_size=9))
def test_elements_of_bytes_come_back_as_they_were(items: list[bytes]) -> None:
    packed = pack_elements(items)
    assert elements(packed) == items == values(memoryview(packed), "BYTES")
    assert element_ends(packed) == [sum(4 + len(item) for item in items[: n + 1]) for n in range(len(items))]


@given(st.binary(max_size=40), st.integers(-2, 5), st.integers(-2, 5))
def test_any_bytes_are_rows_that_fill_them_or_refused(data: bytes, per_row: int, rows: int) -> None:
    try:
        ends = row_ends(data, per_row, rows)
    except InvalidRequest:
        return
    assert len(ends) == rows
    assert ends == sorted(ends)
    assert (ends or [0])[-1] == len(data)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\1\0\0", "3 bytes are left at 0, and an element's length takes 4"),
        (b"\1\0\0\0a\0", "1 bytes are left at 5, and an element's length takes 4"),
        (b"\2\0\0\0a", "an element of 2 bytes ends at 6, beyond the 5 that there are"),
        (
            b"\xff\xff\xff\xff",
            "an element of 4294967295 bytes ends at 4294967299, beyond the 4 that there are",
        ),
    ],
)
def test_a_length_that_points_beyond_the_end_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        elements(data)
    assert str(caught.value) == sentence


def test_a_row_of_bytes_ends_where_its_last_element_does() -> None:
    spec = TensorSpec("t", "BYTES", (2,))
    buffer = pack_elements([b"ab", b"", b"c", b"d"])
    assert row_ends(buffer, 2, 2) == [10, 20]
    assert row_end(spec, buffer, 0) == 10
    assert row_end(spec, buffer, 10) == 20
    assert row_end(TensorSpec("x", "FP32", (2,)), buffer, 3) == 11
    with pytest.raises(InvalidRequest, match=r"^3 rows of 1 elements are 3, and there are more$"):
        row_ends(buffer, 1, 3)
