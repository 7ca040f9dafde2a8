"""Unit: engine/inputs/text.py and plain_text.py, with a tokenizer trained on a few sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common.errors import InvalidRequest, LoadError, TooLarge
from common.media import TextOptions
from common.tensor import TensorSpec
from engine.inputs.plain_text import PlainTextDecoder
from engine.inputs.text import TextDecoder
from tests.engine.inputs.files import make_tokenizer, tokenizer_file

TOKENIZER = tokenizer_file()
KNOWN = make_tokenizer()
IDS = TensorSpec("input_ids", "INT64", (-1,))
MASK = TensorSpec("attention_mask", "INT64", (-1,))
TYPES = TensorSpec("token_type_ids", "INT32", (-1,))


def decoder(takes: tuple[TensorSpec, ...] | None = (IDS, MASK), **options: Any) -> TextDecoder:
    return TextDecoder(TextOptions(**options), TOKENIZER, takes)


def ids(text: str, **options: Any) -> list[int]:
    found: list[int] = decoder((IDS,), **options).decode(text.encode()).arrays[0].tolist()
    return found


def test_a_text_becomes_the_tokens_of_its_tokenizer_filled_up_to_a_multiple() -> None:
    row = decoder(multiple=8).decode(b"the cat sat")
    tokens = KNOWN.encode("the cat sat").ids
    assert row.arrays[0].tolist() == tokens + [0] * (8 - len(tokens))
    assert row.arrays[1].tolist() == [1] * len(tokens) + [0] * (8 - len(tokens))
    assert row.mask is not None
    assert row.mask.tolist() == row.arrays[1].tolist()


@pytest.mark.parametrize(
    ("options", "length"),
    [({"padding": "none"}, 5), ({"padding": "max_length", "max_length": 32}, 32), ({}, 16),
     ({"multiple": 4}, 8), ({"multiple": 64, "max_length": 20}, 20)],
)  # fmt: skip
def test_the_padding_is_what_is_asked_for(options: Any, length: int) -> None:
    assert len(ids("the cat sat", **options)) == length


def test_a_long_text_is_cut_or_refused() -> None:
    long = "the cat " * 50
    assert len(ids(long, max_length=10, padding="none")) == 10
    with pytest.raises(InvalidRequest, match="the text has 102 tokens: at most 10 are allowed"):
        ids(long, max_length=10, truncate=False)


def test_inputs_are_found_by_name_whatever_their_order_or_datatype() -> None:
    row = decoder((TYPES, IDS)).decode(b"cats and dogs")
    assert [array.dtype for array in row.arrays] == [np.int32, np.int64]
    assert row.arrays[0].tolist() == [0] * 16


def test_a_model_that_names_its_inputs_otherwise_is_given_ids_then_mask() -> None:
    takes = TensorSpec("x", "INT64", (-1,)), TensorSpec("y", "INT64", (-1,))
    row = decoder(takes).decode(b"cats")
    assert row.arrays[1].tolist() == [1, 1, 1] + [0] * 13
    assert len(decoder(None).decode(b"cats").arrays) == 2
    assert len(decoder(None, mask="").decode(b"cats").arrays) == 1


def test_a_pair_is_two_texts() -> None:
    row = decoder((IDS, TYPES), pair=True, padding="none").decode(b'["the cat","a dog"]')
    assert row.arrays[0].tolist() == KNOWN.encode("the cat", "a dog").ids
    assert row.arrays[1].tolist() == KNOWN.encode("the cat", "a dog").type_ids
    for wrong in (b"the cat", b'["one"]', b'["a","b","c"]', b"\xff"):
        with pytest.raises(InvalidRequest, match="a row is two texts"):
            decoder(pair=True).decode(wrong)


def test_what_a_tokenizer_says_of_padding_counts_unless_the_settings_do() -> None:
    own = make_tokenizer()
    own.enable_padding(pad_id=7, length=100)
    own.enable_truncation(2)
    text = own.to_str().encode()
    row = TextDecoder(TextOptions(multiple=8), text, (IDS,)).decode(b"the cat sat")
    assert row.arrays[0].tolist() == [*KNOWN.encode("the cat sat").ids, 7, 7, 7]
    row = TextDecoder(TextOptions(multiple=8, pad_id=9), text, (IDS,)).decode(b"the cat sat")
    assert row.arrays[0].tolist()[-3:] == [9, 9, 9]


@pytest.mark.parametrize(
    ("data", "said", "kind"),
    [
        (b"\xff\xfe", "the text is not UTF-8", InvalidRequest),
        (b"a" * 101, "the text has 101 bytes: at most 100 are allowed", TooLarge),
    ],
)
def test_what_is_no_text_is_a_sentence(data: bytes, said: str, kind: type[Exception]) -> None:
    plain = PlainTextDecoder(TextOptions(max_bytes=100), (TensorSpec("t", "BYTES", ()),))
    for each in (decoder(max_bytes=100), plain):
        with pytest.raises(kind) as caught:
            each.decode(data)
        assert str(caught.value).startswith(said)


def test_a_text_without_a_token_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="the text has no tokens"):
        ids("", special_tokens=False, padding="none")
    assert ids("", special_tokens=False) == [0] * 16


@pytest.mark.parametrize(
    ("takes", "said"),
    [
        ((IDS, TensorSpec("pixels", "INT64", (-1,))), "the model takes an input pixels"),
        ((TensorSpec("input_ids", "FP32", (-1,)),), "takes FP32 [-1]"),
        ((TensorSpec("input_ids", "INT64", (2, 3)),), "takes INT64 [2, 3]"),
        (tuple(TensorSpec(f"x{n}", "INT64", (-1,)) for n in range(4)), "the model takes an input x0"),
    ],
)  # fmt: skip
def test_a_model_of_other_inputs_is_a_load_error(takes: Any, said: str) -> None:
    with pytest.raises(LoadError) as caught:
        decoder(takes)
    assert said in str(caught.value)


def test_a_file_that_is_no_tokenizer_is_a_load_error() -> None:
    with pytest.raises(LoadError, match="is no file of the tokenizers library: "):
        TextDecoder(TextOptions(), b"{}", None)


def test_without_a_tokenizer_a_model_is_given_the_text_itself() -> None:
    plain = PlainTextDecoder(TextOptions(), (TensorSpec("t", "BYTES", (1,)),))
    assert plain.decode("né".encode()).arrays[0].tolist() == ["né".encode()]
    for takes in (None, (IDS,)):
        with pytest.raises(LoadError, match=r"there is no tokenizer\.json beside the model"):
            PlainTextDecoder(TextOptions(), takes)
