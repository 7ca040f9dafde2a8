"""Pure: common/wire.py; whatever comes in, out comes the message that was sent or a WireError."""

import struct
import tracemalloc
import typing
from array import array
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common import wire
from common.errors import WireError
from common.models import ModelInput, ModelSettings
from common.tensor import Buffer, TensorSpec

KINDS: tuple[type[wire.Message], ...] = typing.get_args(wire.AnyMessage)
LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=20),
    ModelSettings: st.builds(
        ModelSettings,
        runtime=st.sampled_from(["", "onnx"]),
        arguments=st.dictionaries(st.text(max_size=5), st.integers(-(2**63), 2**64 - 1), max_size=2),
        inputs=st.lists(st.builds(ModelInput, name=st.just("x"), shape=st.just((-1, 3))), max_size=1).map(
            tuple
        ),
        queue_max=st.none() | st.integers(1, 1000),
        warmup_rows=st.integers(0, 9) | st.just(((1.5, 2.0),)),
    ),
}


def anything(of: Any) -> st.SearchStrategy[Any]:
    """Values of a header's field, as its annotation allows them."""
    if of in LEAVES:
        return LEAVES[of]
    origin, arguments = typing.get_origin(of), typing.get_args(of)
    if origin is list:
        return st.lists(anything(arguments[0]), max_size=3)
    if origin is tuple:
        return st.lists(anything(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(anything(arguments[0]), anything(arguments[1]), max_size=3)
    return st.builds(of, **{name: anything(hint) for name, hint in typing.get_type_hints(of).items()})


messages = st.one_of([anything(kind) for kind in KINDS])
buffers = st.lists(st.binary(max_size=40), max_size=5)
frames = st.builds(wire.encode, messages, buffers)


def frame_of(
    header: bytes, *, version: int = wire.VERSION, zero: int = 0, sizes: tuple[int, ...] = ()
) -> bytes:
    return struct.pack(f"<BBHI{len(sizes)}Q", version, zero, len(sizes), len(header), *sizes) + header


def refusal(frame: bytes) -> str:
    with pytest.raises(WireError) as caught:
        wire.decode(frame)
    return str(caught.value)


def test_a_frame_is_laid_out_as_the_protocol_says() -> None:
    assert wire.encode(wire.Done("w"), [b"abc", b"", b"12345678", b"!"]) == (
        b"\x01\x00" b"\x04\x00" b"\x08\x00\x00\x00"  # version, zero, buffers, bytes of header
        b"\x03\0\0\0\0\0\0\0" b"\x00\0\0\0\0\0\0\0" b"\x08\0\0\0\0\0\0\0" b"\x01\0\0\0\0\0\0\0"
        b"\x92\xa4Done\xa1w"
        b"abc" b"\0\0\0\0\0"
        b"12345678"
        b"!"
    )  # fmt: skip


def test_a_frame_without_buffers_is_eight_bytes_and_its_header() -> None:
    assert wire.encode(wire.Status()) == b"\x01\x00\x00\x00\x08\x00\x00\x00\x91\xa6Status"
    assert wire.decode(wire.encode(wire.Status())) == (wire.Status(), [])


def test_a_batch_and_its_tensors_come_back_as_they_were() -> None:
    specs = (TensorSpec("x", "FP32", (2, 3)), TensorSpec("ids", "INT64", ()))
    batch = wire.Batch(7, "default", "3", [wire.Part(specs, [1, 1], [0.5, 30.0])])
    x, ids = array("f", range(12)), array("q", [-1, 2**62])
    message, views = wire.decode(wire.encode(batch, [memoryview(x), memoryview(ids)]))
    assert message == batch
    assert [views[0].cast("f").tolist(), views[1].cast("q").tolist()] == [x.tolist(), ids.tolist()]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=20)
@given(data=st.data(), sent=buffers)
def test_every_kind_of_message_comes_back_as_it_was(
    kind: type[wire.Message], data: st.DataObject, sent: list[bytes]
) -> None:
    message = data.draw(anything(kind))
    decoded, views = wire.decode(wire.encode(message, sent))
    assert type(decoded) is kind
    assert decoded == message
    assert views == sent


@given(messages, buffers)
def test_buffers_are_aligned_views_of_the_frame(message: wire.Message, sent: list[bytes]) -> None:
    frame = bytearray(wire.encode(message, sent))
    before = bytes(frame)
    _, views = wire.decode(frame)
    for view in filter(len, views):
        assert view.obj is frame
        view[0] ^= 0xFF  # seen in the frame only if nothing was copied
        (at,) = (i for i, (old, new) in enumerate(zip(before, frame, strict=True)) if old != new)
        assert at % 8 == 0
        view[0] ^= 0xFF


@given(messages, buffers)
def test_it_does_not_matter_what_holds_the_bytes(message: wire.Message, sent: list[bytes]) -> None:
    frame = wire.encode(message, sent)
    assert wire.encode(message, [bytearray(b) for b in sent]) == frame
    assert wire.encode(message, [memoryview(b) for b in sent]) == frame
    assert wire.decode(memoryview(frame)) == wire.decode(bytearray(frame)) == wire.decode(frame)


@given(frames, st.data())
def test_a_frame_cut_short_anywhere_is_a_wire_error(frame: bytes, data: st.DataObject) -> None:
    refusal(frame[: data.draw(st.integers(0, len(frame) - 1))])


@given(frames, st.binary(min_size=1, max_size=20))
def test_a_frame_with_anything_behind_it_is_a_wire_error(frame: bytes, more: bytes) -> None:
    assert refusal(frame + more) == f"a frame of {len(frame + more)} bytes says it has {len(frame)}"


@settings(max_examples=500)
@given(frames, st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1))
def test_a_damaged_frame_is_decoded_or_a_wire_error(frame: bytes, damages: list[tuple[float, int]]) -> None:
    damaged = bytearray(frame)
    for place, bits in damages:
        damaged[int(place * len(damaged))] ^= bits
    decoded_or_refused(bytes(damaged))


@settings(max_examples=500)
@given(st.binary(max_size=100))
@example(b"")
def test_any_bytes_are_decoded_or_a_wire_error(data: bytes) -> None:
    decoded_or_refused(data)
    decoded_or_refused(frame_of(data))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KINDS), st.recursive(
    st.none() | st.one_of(list(LEAVES.values())) | st.just(msgspec.msgpack.Ext(1, b"x")),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=3), values, max_size=2),
    max_leaves=8,
))  # fmt: skip
def test_a_header_of_any_other_content_is_decoded_or_a_wire_error(kind: type, content: Any) -> None:
    fields = content if isinstance(content, list) else [content]
    decoded_or_refused(frame_of(msgspec.msgpack.encode([kind.__name__, *fields])))
    decoded_or_refused(frame_of(msgspec.msgpack.encode(content)))


def decoded_or_refused(data: bytes) -> None:
    try:
        message, views = wire.decode(data)
    except WireError as error:
        kept = error.frame
        assert kept == data[:256]
    else:
        assert isinstance(message, KINDS)
        assert all(view.obj is data for view in views)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (b"", "not a frame: unpack_from requires a buffer of at least 8 bytes"),
        (frame_of(b"\x91\xa6Status", version=2), "frame version 2.0 is not 1.0"),
        (frame_of(b"\x91\xa6Status", zero=9), "frame version 1.9 is not 1.0"),
        (frame_of(b""), "not a frame: Input data was truncated"),
        (frame_of(b"\x91\xa6Statue"), "not a frame: Invalid value 'Statue' - at `$[0]`"),
        (frame_of(b"\x91\xa6Status\xc0"), "not a frame: MessagePack data is malformed: trailing characters"),
        (frame_of(b"\x92\xa4Done\xa1\xff"), "not a frame: 'utf-8' codec can't decode byte 0xff"),
        (frame_of(b"\x92\xa4Done\x07"), "not a frame: Expected `str`, got `int` - at `$[1]`"),
        (frame_of(b"\x91" * 100_000), "not a frame: Expected `str`, got `array` - at `$[0]`"),
        (frame_of(b"\x92\xa4Done" + b"\x91" * 100_000), "not a frame: Expected `str`, got `array`"),
        (frame_of(b"\x91\xa6Status", sizes=(1,)), "a frame of 24 bytes says it has 25"),
        (
            frame_of(b"\x91\xa6Status", sizes=(2**64 - 8, 2**64 - 8)),
            f"a frame of 32 bytes says it has {2**65 + 16}",
        ),
    ],
)
def test_what_is_wrong_with_a_frame_is_said(frame: bytes, sentence: str) -> None:
    assert refusal(frame).startswith(sentence)


def test_a_wire_error_keeps_the_first_256_bytes() -> None:
    frame = wire.encode(wire.Done("w" * 1000)) + b"!"
    with pytest.raises(WireError) as caught:
        wire.decode(frame)
    assert caught.value.frame == frame[:256]


@pytest.mark.parametrize("claim", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"])
@pytest.mark.parametrize("kind", [b"\x92\xa6LinkUp", b"\x92\xa5Drain", b"\x92\xa4Done", b""])
def test_a_claim_of_four_thousand_million_elements_takes_no_memory(kind: bytes, claim: bytes) -> None:
    tracemalloc.start()
    try:
        refusal(frame_of(kind + claim))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_field_that_a_newer_release_put_behind_the_others_is_passed_over() -> None:
    assert wire.decode(frame_of(b"\x93\xa4Done\xa1w\xa5newer")) == (wire.Done("w"), [])


def test_expect_gives_the_kind_that_was_asked_for() -> None:
    chunk = wire.Chunk("0" * 64, 5, 2)
    message, views = wire.expect(wire.Chunk, wire.encode(chunk, [b"abc"]))
    assert (message, views) == (chunk, [b"abc"])


def test_expect_refuses_every_other_kind_and_keeps_the_bytes() -> None:
    frame = wire.encode(wire.Done("w"))
    with pytest.raises(WireError, match=r"^expected LoadAnswer, got Done$") as caught:
        wire.expect(wire.LoadAnswer, memoryview(frame))
    assert caught.value.frame == frame


def test_expect_refuses_what_is_no_frame_at_all() -> None:
    with pytest.raises(WireError, match=r"^not a frame: "):
        wire.expect(wire.Done, b"\1\0")


def test_a_buffer_in_pieces_is_one_buffer() -> None:
    message = wire.Batch(1, "m", "1", [])
    pieces: list[Buffer] = [b"ab", memoryview(b"cde"), bytearray()]
    assert wire.encode(message, [pieces, b"x"]) == wire.encode(message, [b"abcde", b"x"])
