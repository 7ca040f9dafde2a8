"""Pure: engine/rounding.py beside torch.round, bit for bit."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.tensor import TensorSpec
from engine.rounding import round_columns, round_tensor

DTYPES = {"FP32": np.float32, "FP64": np.float64}


@pytest.mark.parametrize("datatype", DTYPES)
@given(data=st.data(), decimals=st.integers(-40, 40))
def test_rows_and_tensors_are_rounded_as_torch_rounds(datatype, data, decimals) -> None:
    width = 32 if datatype == "FP32" else 64
    given_ = np.array(data.draw(st.lists(st.floats(width=width), min_size=1)), DTYPES[datatype])
    expected = torch.round(torch.from_numpy(given_), decimals=decimals)
    spec = TensorSpec("x", datatype, (len(given_),))
    (column,) = round_columns((spec,), [given_.tobytes()], decimals)
    rounded = np.frombuffer(column, DTYPES[datatype])
    # Equal, where NaN is NaN; and no zero is a negative one, so equal rows have equal bytes.
    np.testing.assert_array_equal(rounded, expected.numpy())
    np.testing.assert_array_equal(round_tensor(torch.from_numpy(given_), decimals).numpy(), rounded)
    assert not np.signbit(rounded[rounded == 0]).any()


def test_halves_go_to_the_even_and_integers_stay() -> None:
    specs = (TensorSpec("a", "FP32", (4,)), TensorSpec("b", "INT64", (1,)))
    columns = [struct.pack("<4f", 0.5, 1.5, 2.5, -0.5), struct.pack("<q", 12345)]
    assert round_columns(specs, columns, 0) == [struct.pack("<4f", 0, 2, 2, 0), columns[1]]
    assert round_columns(specs, columns, None) is columns
    whole = torch.tensor([12345])
    assert round_tensor(whole, -2) is whole
